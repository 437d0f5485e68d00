# shellcheck shell=bash
# The pinned Go programs, each a stage of its own. Sourced, never run.

# shellcheck source=tests/cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# go_install FOLDER PACKAGE@VERSION
go_install() { GOBIN=$1 static_go install -ldflags '-s -w' "$2"; }
static_go() {
    command -v go >/dev/null || {
        say "Go 1.26 or newer is missing; install it as https://go.dev/doc/install says"
        exit 3
    }
    CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false' go "$@"
}

# All of Kubernetes and etcd as one program that goes by its name.
build_kube() {
    local version=k8s.io/component-base/version name
    (
        cd "$cluster_dir/src/kube"
        static_go build -o "$1/kube" -ldflags "-s -w -X $version.gitVersion=$kube_version -X $version.gitMajor=1 \
            -X $version.gitMinor=34 -X k8s.io/client-go/pkg/version.gitVersion=$kube_version" .
    )
    for name in etcd kube{adm,ctl,let,-apiserver,-controller-manager,-proxy,-scheduler}; do
        ln -s kube "$1/$name"
    done
}
build_kind() { go_install "$1" sigs.k8s.io/kind@$kind_version; }
build_helm() { go_install "$1" helm.sh/helm/v3/cmd/helm@$helm_version; }
build_coredns() { (cd "$cluster_dir/src/coredns" && static_go build -o "$1/coredns" -ldflags '-s -w' .); }
build_provisioner() { go_install "$1" github.com/rancher/local-path-provisioner@v0.0.30; }

kube() { stage kube build_kube "$kube_version" src/kube; }
kind_tool() { stage kind build_kind "$kind_version"; }
helm_tool() { stage helm build_helm "$helm_version"; }
coredns() { stage coredns build_coredns src/coredns; }
provisioner() { stage local-path-provisioner build_provisioner v0.0.30; }

# offer FOLDER NAME...: puts programs of a stage on env.sh's PATH.
offer() {
    local folder=$1 name
    shift
    for name in "$@"; do
        ln -sfn "$folder/$name" "$cache/bin/$name"
    done
}
