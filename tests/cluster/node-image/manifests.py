"""manifests.py KIND_SOURCE FOLDER: writes the manifests for the pod network and
for storage that kind puts into its node images, read from kind's source."""

import pathlib
import re
import sys


def source(kind_source, name):
    """The Go file that holds the manifest NAME."""
    return pathlib.Path(kind_source, f"pkg/build/nodeimage/const_{name}.go").read_text()


def constants(kind_source, name):
    """Its string constants."""
    return dict(re.findall(r'^const (\w+) = "([^"]*)"', source(kind_source, name), re.M))


def manifest(kind_source, name):
    """The manifest, with the constants filled in."""
    values = constants(kind_source, name)
    text = re.search(r"const default\w+Manifest = `(.*)`\s*$", source(kind_source, name), re.S)[1]
    return re.sub(r"` \+ (\w+) \+ `", lambda found: values[found[1]], text)


def main(kind_source, folder):
    """Writes both."""
    network = manifest(kind_source, "cni")
    # kindnetd cannot be had as a Go module: ours runs in its place.
    command = '        command: ["/usr/local/bin/pod-network"]\n        env:\n'
    own = network.replace("        env:\n", command, 1)
    if own == network:
        sys.exit("manifests.py: kind's network manifest has no env: to put a command before")
    pathlib.Path(folder, "default-cni.yaml").write_text(own)
    pathlib.Path(folder, "default-storage.yaml").write_text(manifest(kind_source, "storage"))


if __name__ == "__main__":
    main(*sys.argv[1:])
