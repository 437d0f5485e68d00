# shellcheck shell=bash
# The node image of our own: Debian packages, Go modules, kind's files. Sourced,
# never run.

# shellcheck source=tests/cluster/tools.sh
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

# module_source MODULE@VERSION: the folder of its source.
module_source() { static_go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'; }

build_rootfs() { "$cluster_dir/node-image/rootfs.sh" "$1"; }
build_images() {
    "$cluster_dir/node-image/images.sh" "$1" "$rootfs/rootfs.tar" "$kube" "$coredns" "$provisioner" \
        "$kind_source" "$(module_source "k8s.io/kubernetes@$kube_version")" "$kube_version"
}
build_node() {
    "$cluster_dir/node-image/node.sh" "$1" "$rootfs/rootfs.tar" "$kube" "$images" "$kind_source" "$kube_version"
}

# Sets node_image to the name of the image in the engine, which must run.
node_image() {
    local rootfs kube coredns provisioner images node kind_source
    kube=$(kube)
    coredns=$(coredns)
    provisioner=$(provisioner)
    kind_source=$(module_source "sigs.k8s.io/kind@$kind_version")
    rootfs=$(stage rootfs build_rootfs node-image/rootfs.sh)
    images=$(stage images build_images "${kube##*/}" "${coredns##*/}" "${provisioner##*/}" "${rootfs##*/}" "$kind_version" \
        node-image/{images.sh,archive.py,manifests.py,pod-network})
    node=$(stage node build_node "${images##*/}" "${kube##*/}" "${rootfs##*/}" "$kind_version" node-image/{node.sh,manifests.py})
    node_image=trainyard-node:${node##*/}
    docker image inspect "$node_image" >/dev/null 2>&1 || timed "imported the node image" import_node "$node/node.tar"
}

import_node() {
    docker import --change 'ENV container=docker' --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$1" trainyard-node:import >/dev/null
    # An import cannot set the signal that stops systemd: a build can.
    printf 'FROM trainyard-node:import\nSTOPSIGNAL SIGRTMIN+3\n' |
        DOCKER_BUILDKIT=0 docker build --quiet --tag "$node_image" - >/dev/null 2>&1
    # The one imported, and those made from other inputs.
    docker image ls --format '{{.Repository}}:{{.Tag}}' trainyard-node | { grep -vxF "$node_image" || true; } |
        xargs --no-run-if-empty docker image rm >/dev/null 2>&1 || true
}
