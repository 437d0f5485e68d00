#!/usr/bin/env bash
# rootfs.sh FOLDER: a node's Debian root filesystem, as FOLDER/rootfs.tar.
set -euo pipefail
packages=systemd,systemd-sysv,dbus,containerd,runc,containernetworking-plugins,conntrack,iptables,nftables,iproute2
packages+=,ethtool,util-linux,mount,kmod,libseccomp2,e2fsprogs,bash,ca-certificates,jq,procps,socat,busybox
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$1/rootfs.tar" - <<SOURCES
deb [signed-by=$keys] http://deb.debian.org/debian bookworm main
deb [signed-by=$keys] http://deb.debian.org/debian bookworm-updates main
deb [signed-by=$keys] http://deb.debian.org/debian-security bookworm-security main
SOURCES
