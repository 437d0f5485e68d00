#!/usr/bin/env bash
# Makes the container images of programs that are built already:
#   scripts/images.sh [trainer] [slim] [operator]        all unless told otherwise
# writes target/images/NAME.tar, a docker archive tagged trainyard.dev/NAME:VERSION
# (or :IMAGE_TAG), if anything in it changed. The image `slim` is the trainer without libtorch, for
# servers. Takes the Docker engine or podman if there is one,
# else buildah, which needs neither a daemon nor a registry.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
out=$target/images
version=${IMAGE_TAG:-$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)}
readonly target out version
# The first program of each image is its entry point.
declare -A programs=([trainer]="trainyard trainyard-torch" [slim]=trainyard [operator]=trainyard-operator)

say() { printf 'images: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# find_libraries FILE...: sets libraries to every shared library that they load.
find_libraries() {
    local found
    found=$(for file in "$@"; do ldd "$file"; done)
    ! grep 'not found' <<<"$found" >&2 || fail "$* lack the libraries above"
    mapfile -t libraries < <(awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' <<<"$found" | sort -u)
}

# What an image is made from: two of the same fingerprint are the same.
fingerprint() { # PROGRAM...
    sha256sum Containerfile scripts/images.sh
    stat --dereference --format '%n %s %Y' "$@" "$certificates" "${libraries[@]}"
    echo "$version"
}

# Lays out the root filesystem, in two folders: the programs, and all else.
stage() { # NAME PROGRAM...
    local base=$context/$1/base program=$context/$1/program file interpreter
    mkdir -p "$base"/{etc/ssl/certs,usr/lib/trainyard,tmp} "$program/usr/bin"
    chmod 1777 "$base/tmp"
    interpreter=$(readelf --program-headers "$2" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
    for file in "${libraries[@]}"; do
        if [[ $file == "$interpreter" ]]; then
            install -D "$file" "$base$file"
        else
            strip -o "$base/usr/lib/trainyard/${file##*/}" "$file"
        fi
    done
    # Names are looked up in files and DNS by libc itself, without plugins.
    echo 'hosts: files dns' >"$base/etc/nsswitch.conf"
    echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >"$base/etc/passwd"
    echo 'nonroot:x:65532:' >"$base/etc/group"
    cp "$certificates" "$base/etc/ssl/certs/ca-certificates.crt"
    # The loader finds the libraries by its cache, not by variables: what a user
    # sets in a job's env cannot break it.
    echo /usr/lib/trainyard >"$base/etc/ld.so.conf"
    PATH=$PATH:/usr/sbin:/sbin ldconfig -r "$base"
    # Function names stay: a panic's backtrace needs them.
    for file in "${@:2}"; do
        strip --strip-debug -o "$program/usr/bin/${file##*/}" "$file"
    done
    # The layers' bytes depend on their contents alone.
    find "$context/$1" -exec touch --no-dereference --date @0 {} +
}

choose_builder() {
    if docker info >/dev/null 2>&1; then
        builder=docker
    elif command -v podman >/dev/null; then
        builder=podman
    else
        builder=buildah
        command -v buildah >/dev/null || install_buildah
    fi
}

install_buildah() {
    [[ $(id -u) == 0 && -n $(command -v apt-get) ]] ||
        fail "neither a Docker engine nor podman nor buildah is there; install one, such as with 'sudo apt-get install -y buildah'"
    say "installing buildah"
    local patience=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    {
        apt-get "${patience[@]}" update -q
        DEBIAN_FRONTEND=noninteractive apt-get "${patience[@]}" install -qy --no-install-recommends buildah
    } >&2
}

build() { # NAME TAG ARCHIVE
    case $builder in
    docker)
        docker build --quiet --target "$1" --tag "$2" --file Containerfile "$context/$1" >/dev/null
        docker save --output "$3" "$2"
        ;;
    podman)
        podman build --quiet --format docker --timestamp 0 --target "$1" --tag "$2" --file Containerfile "$context/$1" >/dev/null
        podman save --quiet --format docker-archive --output "$3" "$2"
        ;;
    buildah)
        local store
        store=$(realpath "$out")/buildah
        local -a call=(buildah --root "$store/root" --runroot "$store/run")
        "${call[@]}" build --isolation chroot --format docker --timestamp 0 --layers --quiet --target "$1" --tag "$2" \
            --file Containerfile "$context/$1" >/dev/null
        "${call[@]}" push --quiet "$2" "docker-archive:$3:$2"
        ;;
    esac
}

image() { # NAME
    local tag=trainyard.dev/$1:$version archive=$out/$1.tar inputs program
    local -a files=()
    for program in ${programs[$1]}; do
        files+=("$target/debug/$program")
        [[ -x ${files[-1]} ]] || fail "${files[-1]} is missing; build it with 'cargo build --workspace --bins'"
    done
    find_libraries "${files[@]}"
    inputs=$(fingerprint "${files[@]}")
    if [[ ! -e $archive || $inputs != "$(cat "$out/$1.inputs" 2>/dev/null)" ]]; then
        [[ -n ${builder:-} ]] || choose_builder
        rm -rf "${context:?}" "$archive" "$archive.partial"
        stage "$1" "${files[@]}"
        build "$1" "$tag" "$archive.partial"
        mv "$archive.partial" "$archive"
        printf '%s\n' "$inputs" >"$out/$1.inputs"
        rm -rf "$context"
        say "$tag built with $builder in $SECONDS s"
    fi
    say "$tag: $(du --apparent-size --block-size=1M "$archive" | cut -f 1) MB, $archive"
}

certificates=/etc/ssl/certs/ca-certificates.crt
[[ -r $certificates ]] || fail "$certificates is missing; install it with 'sudo apt-get install -y ca-certificates' (or your distribution's equivalent)"
context=$out/context
mkdir -p "$out"
[[ $# -gt 0 ]] || set -- trainer slim operator
for name in "$@"; do
    [[ -n ${programs[$name]:-} ]] || fail "there is no image '$name': trainer, slim or operator"
    image "$name"
done
