#!/usr/bin/env bash
# Finds or provisions libtorch and prints its directory, and nothing else, on
# stdout. Progress and errors go to stderr.
#
#   LIBTORCH               a libtorch of your own: checked, printed, left alone.
#   LIBTORCH_USE_PYTORCH   the libtorch of the installed PyTorch is used.
#   XDG_CACHE_HOME         where else a lean CPU tree (440 MB) is kept, built
#                          once from the wheels of libtorch-requirements.txt.
set -euo pipefail

readonly version=2.13.0
# Raise when the layout of the provisioned tree changes.
readonly layout=1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly requirements=$here/libtorch-requirements.txt

say() { printf 'libtorch: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# check_version FOUND WHERE REMEDY: refuses any version but ours, as tch does.
check_version() {
    # 2.13.0+cpu and 2.13.0+cu130 are builds of 2.13.0.
    if [[ ${1%%+*} != "$version" && -z ${LIBTORCH_BYPASS_VERSION_CHECK:-} ]]; then
        fail "$2 is version ${1:-unknown}, but $version is needed; $3"
    fi
}

# The libtorch that the user points at.
own_libtorch() {
    local remedy="unset LIBTORCH to have $version provisioned, or point it at a libtorch $version"
    [[ -d $LIBTORCH ]] || fail "LIBTORCH=$LIBTORCH is not a directory; $remedy"
    [[ -r $LIBTORCH/build-version ]] ||
        fail "LIBTORCH=$LIBTORCH has no build-version file, so its version is unknown; $remedy, or write the version into that file"
    check_version "$(tr -d '[:space:]' <"$LIBTORCH/build-version")" "LIBTORCH=$LIBTORCH" "$remedy"
    printf '%s\n' "$LIBTORCH"
}

# The libtorch inside the PyTorch that the build of tch will ask, found by the
# same interpreter it runs.
pytorch_libtorch() {
    local python=python3 found
    [[ -z ${VIRTUAL_ENV:-} ]] || python=python
    found=$("$python" -c 'import os, torch; print(torch.__version__, os.path.dirname(torch.__file__))') ||
        fail "LIBTORCH_USE_PYTORCH is set, but $python cannot import torch; install it with '$python -m pip install torch==$version', or unset LIBTORCH_USE_PYTORCH"
    check_version "${found%% *}" "the PyTorch of $python" \
        "install it with '$python -m pip install torch==$version', or unset LIBTORCH_USE_PYTORCH"
    printf '%s\n' "${found#* }"
}

# download DIR: the three wheels, checked against their pinned hashes.
download() {
    # pip keeps no copy of its own (530 MB), and unpacks where there is room.
    TMPDIR=$1 python3 -m pip download --dest "$1" --no-deps --no-cache-dir \
        --disable-pip-version-check --require-hashes --requirement "$requirements" \
        --only-binary=:all: --implementation cp --python-version 311 --abi cp311 \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 >&2
}

# assemble WHEELS TREE: unpacks what the build and the CPU backend need.
assemble() {
    python3 - "$1" "$2" "$version" <<'PYTHON'
import pathlib, re, shutil, sys, zipfile

wheels, tree, version = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
libraries = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
missing = set(libraries)


def destination(name):
    """Where a file of a wheel goes in the tree; None leaves it out."""
    if name.startswith("torch/include/"):
        return tree / name.removeprefix("torch/")
    library = re.fullmatch(r"(?:torch|nvidia/cu13)/lib/([^/]+)", name)
    if library and library[1] in libraries:
        missing.discard(library[1])
        return tree / "lib" / library[1]
    licence = re.fullmatch(r"([^/]+)\.dist-info/(?:licenses/)?((?:.*/)?(?:LICENSE|NOTICE)[^/]*)", name, re.I)
    return tree / "licenses" / licence[1] / licence[2] if licence else None


for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            to = None if entry.is_dir() else destination(entry.filename)
            if to is None:
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(to, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
if missing:
    sys.exit(f"libtorch: the wheels hold no {', '.join(sorted(missing))}")

# The libtorch.so of the wheel would draw in the CUDA backend.
(tree / "lib/libtorch.so").write_text("INPUT ( libtorch_cpu.so libc10.so )\n")
# The build links -lgomp: the one that libtorch_cpu.so loads.
(tree / "lib/libgomp.so").symlink_to("libgomp.so.1")
(tree / "build-version").write_text(version + "\n")
PYTHON
}

# The provisioned tree in the user's cache folder, built on first use.
provisioned_libtorch() {
    [[ $(uname -s)/$(uname -m) == Linux/x86_64 ]] ||
        fail "libtorch is provisioned on Linux x86_64 only; install libtorch $version and set LIBTORCH, or PyTorch $version and set LIBTORCH_USE_PYTORCH=1"
    local cache key tree
    [[ -n ${XDG_CACHE_HOME:-${HOME:-}} ]] || fail "neither HOME nor XDG_CACHE_HOME says where to keep libtorch; set one"
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/trainyard
    key=$({ echo "layout $layout" && grep -o 'sha256:[0-9a-f]*' "$requirements"; } | sha256sum)
    tree=$cache/libtorch-$version-${key:0:12}
    if [[ ! -e $tree/build-version ]]; then
        mkdir -p "$cache"
        # What a killed run left behind.
        find "$cache" -maxdepth 1 -name '.libtorch.*' -mmin +1440 -exec rm -rf {} +
        # Not local: the trap runs after this function has returned.
        work=$(mktemp -d "$cache/.libtorch.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        trap 'exit 130' INT TERM HUP
        say "provisioning libtorch $version into $tree (once; downloads 530 MB, keeps 440 MB)"
        mkdir "$work/wheels"
        download "$work/wheels" ||
            fail "the download failed (see above); check that 'python3 -m pip download' reaches a package index, or set LIBTORCH to a libtorch $version"
        say "unpacking"
        assemble "$work/wheels" "$work/tree" || fail "unpacking into $work failed (see above); is the disk full?"
        # The rename makes the tree appear whole or not at all. Where another
        # run was faster, its tree is as good as ours.
        mv -T "$work/tree" "$tree" 2>/dev/null || [[ -e $tree/build-version ]] ||
            fail "$tree exists but is not whole; remove it and try again"
        say "ready"
    fi
    printf '%s\n' "$tree"
}

if [[ -n ${LIBTORCH_USE_PYTORCH+set} ]]; then
    pytorch_libtorch
elif [[ -n ${LIBTORCH:-} ]]; then
    own_libtorch
else
    provisioned_libtorch
fi
