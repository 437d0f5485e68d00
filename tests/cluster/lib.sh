# shellcheck shell=bash
# What the scripts here share: where things live, and the stages of the build.
# Sourced by bash, never run.
[[ -z ${cluster_dir:-} ]] || return 0
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

cluster_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/cluster/env.sh
. "$cluster_dir/env.sh"

readonly cluster=trainyard
readonly kind_version=v0.33.0
readonly helm_version=v3.22.0
readonly kube_version=v1.34.4
# The node image that kind $kind_version uses by itself, unless told otherwise.
readonly stock_image=${KIND_NODE_IMAGE:-kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5}
# In kind's node images, ours included; has a shell.
readonly helper_image=docker.io/kindest/local-path-helper:v20260131-7181c60a

readonly cache=$TRAINYARD_CLUSTER_CACHE
readonly state=$TRAINYARD_CLUSTER_STATE
mkdir -p "$cache/bin" "$state"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# One script at a time works on the cache and the cluster of a machine.
lock() {
    [[ -z ${TRAINYARD_CLUSTER_LOCKED:-} ]] || return 0
    exec 9>"$cache/lock"
    flock --nonblock 9 || {
        say "waiting for another run to finish ($cache/lock)"
        flock --timeout 1200 9 || fail "another run still holds $cache/lock after 20 minutes"
    }
    export TRAINYARD_CLUSTER_LOCKED=1
}

# timed NAME COMMAND...: runs it and says how long it took. Its failure ends the
# script, so it must not stand in a condition.
timed() {
    local name=$1 begin=$EPOCHREALTIME
    shift
    "$@"
    say "$name: $(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $begin }") s"
}

# inputs_hash WORD...: names a stage's result by what goes into it. A word that
# names a file or folder below this folder stands for its contents.
inputs_hash() {
    local word
    for word in "$@"; do
        printf '%s\n' "$word"
        if [[ -e $cluster_dir/$word ]]; then
            find "$cluster_dir/$word" -type f -print0 | sort -z | xargs -0 cat
        fi
    done | sha256sum | cut -c1-12
}

# stage NAME BUILD INPUT...: the folder with the result of a stage. BUILD is a
# command that fills the folder given as its argument; it runs unless a folder
# built from the same inputs is there. An interrupted build leaves none behind
# under the final name.
stage() {
    local name=$1 build=$2 folder
    shift 2
    folder=$cache/$name-$(inputs_hash "$@")
    if [[ ! -d $folder ]]; then
        say "building $name"
        rm -rf "$cache/$name".partial
        mkdir "$cache/$name".partial
        timed "built $name" "$build" "$cache/$name".partial >&2
        mv "$cache/$name".partial "$folder"
        # What another state of these scripts built is likely to be wanted
        # again soon, but not for ever.
        find "$cache" -maxdepth 1 -name "$name-*" -mtime +7 -exec rm -rf {} +
    fi
    touch "$folder"
    printf '%s\n' "$folder"
}

# need COMMAND PACKAGE...: installs Debian packages unless the command is there.
# No daemon of theirs may start by itself.
need() {
    local command=$1
    shift
    ! command -v "$command" >/dev/null || return 0
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        fail "$command is missing; install it with 'sudo apt-get install -y $*' (or your distribution's equivalent)"
    fi
    say "installing $*"
    apt_install "$@" >&2
}

# In a shell of its own, which cleans up however it ends.
apt_install() (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM HUP
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    # Another installation may be going on.
    patience=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    apt-get "${patience[@]}" update -q
    DEBIAN_FRONTEND=noninteractive apt-get "${patience[@]}" install -qy --no-install-recommends "$@"
)
