"""archive.py LAYERS ARCHIVE KUBE_VERSION KIND_SOURCE

Writes a docker archive of the images that a node starts with, from folders that
become layers. Prints the digests of the layers. The same input gives the same bytes.
"""

import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tarfile

from manifests import constants

layers, archive, kube_version, kind_source = sys.argv[1:]
storage = constants(kind_source, "storage")
network = constants(kind_source, "cni")

# (layers, names, entrypoint)
IMAGES = [
    (
        ["system", "kube"],
        [f"registry.k8s.io/kube-{name}:{kube_version}" for name in ("apiserver", "controller-manager", "scheduler", "proxy")]
        + ["registry.k8s.io/etcd:3.6.5-0", network["kindnetdImage"]],
        None,
    ),
    (["system"], [storage["storageHelperImage"], "docker.io/library/busybox:local"], None),
    (["coredns"], ["registry.k8s.io/coredns/coredns:v1.12.1"], ["/coredns"]),
    (["provisioner"], [storage["storageProvisionerImage"]], ["/usr/local/bin/local-path-provisioner"]),
    (["pause"], ["registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10.1"], ["/pause"]),
]


def pack(name):
    """Packs a layer; its path and digest."""
    path = pathlib.Path(layers) / f"{name}.tar"
    subprocess.check_call(
        ["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]
        + ["-cf", path, "-C", pathlib.Path(layers) / name, "."]
    )
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def image_config(digests, entrypoint):
    """The image's configuration, as bytes."""
    config = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    config |= {"Entrypoint": entrypoint} if entrypoint else {"Cmd": ["/bin/sh"]}
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": config, "rootfs": rootfs}).encode()


packed = {name: pack(name) for name in ("system", "kube", "coredns", "provisioner", "pause")}
with tarfile.open(archive, "w") as out:

    def add(name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        out.addfile(info, io.BytesIO(data))

    for path, digest in packed.values():
        out.add(path, arcname=f"{digest}.tar")
    manifest = []
    for names, tags, entrypoint in IMAGES:
        digests = [packed[name][1] for name in names]
        config = image_config(digests, entrypoint)
        file = hashlib.sha256(config).hexdigest() + ".json"
        add(file, config)
        manifest.append({"Config": file, "RepoTags": tags, "Layers": [f"{digest}.tar" for digest in digests]})
    add("manifest.json", json.dumps(manifest).encode())
for _, digest in packed.values():
    print(digest)
