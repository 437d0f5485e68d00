#!/usr/bin/env bash
# node.sh FOLDER ROOTFS KUBE IMAGES KIND_SOURCE KUBE_VERSION: the root filesystem
# of a kind node, as FOLDER/node.tar. Follows kind's images/base/Dockerfile and
# `kind build node-image`.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
folder=$1 rootfs=$2 kube=$3 images=$4 kind_source=$5 kube_version=$6
root=$folder/root
mkdir "$root"
tar -xf "$rootfs" -C "$root" --exclude='./dev/*'

# --- kind's files
install_files() { # MODE FOLDER: from the base image's files
    install -d "$root/$2"
    find "$kind_source/images/base/files/$2" -maxdepth 1 -type f -exec install -m "$1" -t "$root/$2" {} +
}
install_files 755 usr/local/bin
install_files 755 kind/bin
for name in etc etc/containerd etc/default etc/sysctl.d etc/systemd/system etc/systemd/system/kubelet.service.d; do
    install_files 644 "$name"
done
install -d "$root"/{kind/manifests,etc/kubernetes/manifests,opt/cni/bin,etc/cni/net.d}

# --- systemd: only what a node needs
units=$root/lib/systemd/system
rm -f "$units"/{multi-user,local-fs,basic}.target.wants/* "$units"/sockets.target.wants/*{udev,initctl}* \
    "$units"/sysinit.target.wants/systemd-tmpfiles-setup.service "$root"/etc/systemd/system/*.wants/*
echo 'ReadKMsg=no' >>"$root/etc/systemd/journald.conf"
ln -sf /usr/lib/systemd/systemd "$root/sbin/init"
chroot "$root" systemctl --quiet enable kubelet containerd undo-mount-hacks
chroot "$root" systemctl --quiet mask systemd-binfmt

# --- Debian's containerd, runc and CNI plugins, where kind expects its own
ln -sf /usr/bin/containerd "$root/usr/local/bin/containerd"
rm -f "$root"/etc/cni/net.d/*
for name in host-local loopback portmap ptp; do
    ln -sf "/usr/lib/cni/$name" "$root/opt/cni/bin/$name"
done
chroot "$root" sh -c 'ctr oci spec | jq "del(.process.rlimits) | .hooks.createContainer += [{path: \"/kind/bin/mount-product-files.sh\"}]"' \
    >"$root/etc/containerd/cri-base.json"
# Without CAP_SYS_RESOURCE no process may lower its oom_score_adj, and a pod's
# sandbox fails with "can't get final child's PID from pipe: EOF".
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$root/etc/containerd/config.toml"

# --- Kubernetes
install -m 755 "$kube/kube" "$root/usr/bin/kube"
for name in kubeadm kubectl kubelet; do
    ln -sf kube "$root/usr/bin/$name"
done
printf %s "$kube_version" >"$root/kind/version"
python3 "$here/manifests.py" "$kind_source" "$root/kind/manifests"

# --- its images, imported by a private containerd into the node's own store
socket=$folder/containerd/socket
mkdir "$folder/containerd"
containerd --config /dev/null --root "$root/var/lib/containerd" --state "$folder/containerd" \
    --address "$socket" 2>"$folder/containerd.log" &
containerd=$!
trap 'kill "$containerd" 2>/dev/null || true' EXIT
store() { timeout 120 ctr --address "$socket" --namespace k8s.io "$@"; }
for _ in {1..100}; do
    ! store version >/dev/null 2>&1 || break
    sleep 0.1
done
store images import "$images/images.tar" >/dev/null || {
    tail -n 20 "$folder/containerd.log" >&2
    exit 1
}
# Every node copies /var: the layers are unpacked, their packed form can go.
while read -r digest; do
    store content rm "sha256:$digest" >/dev/null
done <"$images/layers.sha256"
kill "$containerd"
wait "$containerd" || true
trap - EXIT
# containerd had been told; whether it came to delete the files is chance.
sed "s|^|$root/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/|" "$images/layers.sha256" | xargs rm -f

rm -rf "$root"/var/lib/containerd/tmpmounts "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*
tar -cf "$folder/node.tar" -C "$root" .
rm -rf "$root" "$folder"/containerd{,.log}
