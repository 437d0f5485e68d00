#!/usr/bin/env bash
# images.sh FOLDER ROOTFS KUBE COREDNS PROVISIONER KIND_SOURCE KUBE_SOURCE KUBE_VERSION:
# the container images that kubeadm and kind's manifests name, made by hand, as
# the docker archive FOLDER/images.tar.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
folder=$1 rootfs=$2 kube=$3 coredns=$4 provisioner=$5 kind_source=$6 kube_source=$7 kube_version=$8
debian=$folder/debian layers=$folder/layers
mkdir -p "$debian" "$layers"
tar -xf "$rootfs" -C "$debian" --exclude='./dev/*'

# Layer "system": busybox, iptables and nft with all plugins and libraries. A
# plugin whose library is missing stops kube-proxy as soon as a rule needs it.
system=$layers/system
mkdir -p "$system"/{bin,usr/sbin,usr/local/bin,usr/lib,lib64,etc,tmp,run,root,proc,sys,dev,var}
ln -s usr/lib "$system/lib"
for name in sh ash awk cat cp cut date env false grep head hostname id ip ls mkdir mount mv nc nslookup ping ps rm sed \
    sleep sync tail test true umount vi wget; do
    ln -s busybox "$system/bin/$name"
done
programs=(/bin/busybox /usr/sbin/nft /usr/sbin/xtables-nft-multi)
for name in "${programs[@]}"; do
    cp "$debian$name" "$system$name"
done
for name in ip{,6}tables{,-nft}{,-save,-restore}; do
    ln -s xtables-nft-multi "$system/usr/sbin/$name"
done
plugins=$(cd "$debian" && echo usr/lib/*/xtables)
(cd "$debian" && cp -a --parents "$plugins" "$system")
# shellcheck disable=SC2016 # the inner shell expands
chroot "$debian" sh -c 'ldd "$@" /'"$plugins"'/*.so 2>/dev/null' ldd "${programs[@]}" |
    awk '$3 ~ /^\// { print $3 } $1 ~ /^\/.*ld-linux/ { print $1 }' | sort -u |
    while read -r library; do
        mkdir -p "$system$(dirname "$library")"
        cp -L "$debian$library" "$system$library"
    done
cp "$debian/etc/protocols" "$system/etc/" 2>/dev/null || true
echo 'root:x:0:0:root:/root:/bin/sh' >"$system/etc/passwd"
echo 'root:x:0:' >"$system/etc/group"
install -m 755 "$here/pod-network" "$system/usr/local/bin/"

mkdir -p "$layers"/{kube,provisioner}/usr/local/bin "$layers"/{coredns,pause}
cp "$kube/kube" "$layers/kube/usr/local/bin/"
for name in etcd kubectl kube-{apiserver,controller-manager,proxy,scheduler}; do
    ln -s kube "$layers/kube/usr/local/bin/$name"
done
cp "$coredns/coredns" "$layers/coredns/"
cp "$provisioner/local-path-provisioner" "$layers/provisioner/usr/local/bin/"
"${CC:-cc}" -static -Os -s -DVERSION="$kube_version" -o "$layers/pause/pause" "$kube_source/build/pause/linux/pause.c"

python3 "$here/archive.py" "$layers" "$folder/images.tar" "$kube_version" "$kind_source" >"$folder/layers.sha256"
rm -rf "$debian" "$layers"
