#!/usr/bin/env bash
# Where the test cluster lives. Source it to get the variables (bash), or run it
# to see them. Addresses of the cluster are reachable only through in-cluster.
#
#   TRAINYARD_CLUSTER_STATE    state directory: kubeconfig, docker socket, pid file, logs
#   TRAINYARD_CLUSTER_SHARED   host folder that every node mounts at /trainyard-shared
#   TRAINYARD_CLUSTER_CACHE    what was built, outside the clone
#   KUBECONFIG, PATH           the cluster's; kubectl, helm, kind (and after `make
#                              tools` kube-apiserver and etcd)
#   DOCKER_HOST                only where the engine is one that kind-up started

export TRAINYARD_CLUSTER_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/trainyard/cluster
export TRAINYARD_CLUSTER_STATE=$TRAINYARD_CLUSTER_CACHE/state
export TRAINYARD_CLUSTER_SHARED=$TRAINYARD_CLUSTER_STATE/shared
export KUBECONFIG=$TRAINYARD_CLUSTER_STATE/kubeconfig
case :$PATH: in
*:"$TRAINYARD_CLUSTER_CACHE/bin":*) ;;
*) PATH=$TRAINYARD_CLUSTER_CACHE/bin:$PATH ;;
esac
export PATH
if [[ -e $TRAINYARD_CLUSTER_STATE/engine.pid ]]; then
    export DOCKER_HOST=unix://$TRAINYARD_CLUSTER_STATE/docker.sock
elif [[ ${DOCKER_HOST:-} == "unix://$TRAINYARD_CLUSTER_STATE/docker.sock" ]]; then
    # Left over from a cluster that is gone.
    unset DOCKER_HOST
fi

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    for name in TRAINYARD_CLUSTER_{CACHE,STATE,SHARED} KUBECONFIG DOCKER_HOST PATH; do
        [[ -z ${!name:-} ]] || printf 'export %s=%q\n' "$name" "${!name}"
    done
fi
