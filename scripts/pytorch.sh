#!/usr/bin/env bash
# Finds or provisions a Python that can import PyTorch, for the tests that must
# not trust our own reading of a model. Prints its path, and nothing else, on
# stdout. Progress and errors go to stderr.
#
#   PYTHON           the interpreter to use, python3 by default. If it has
#                    PyTorch of our version already, it is printed as it is.
#   XDG_CACHE_HOME   where else a PyTorch for it is kept (540 MB beside a
#                    libtorch of libtorch.sh, with which it shares files, else
#                    980 MB), built once from the wheels of
#                    pytorch-requirements.txt.
#
# PyTorch's wheel for Linux is built for CUDA, and to install it as usual adds
# 3 GB of CUDA libraries which no CPU ever calls. Here a library of empty
# functions stands for them: one that is called all the same says so and aborts.
set -euo pipefail

readonly version=2.13.0
# Raise when the layout of the provisioned tree changes.
readonly layout=1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly requirements=$here/pytorch-requirements.txt
readonly python=${PYTHON:-python3}

say() { printf 'pytorch: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# download DIR: the wheels for this interpreter, checked against their hashes.
download() {
    TMPDIR=$1 "$python" -m pip download --dest "$1" --no-deps --no-cache-dir \
        --disable-pip-version-check --require-hashes --requirement "$requirements" \
        --only-binary=:all: >&2
}

# unpack WHEELS SITE: what `import torch` and the CPU backend need.
unpack() {
    "$python" - "$1" "$2" <<'PYTHON'
import pathlib, re, shutil, sys, zipfile

wheels, site = map(pathlib.Path, sys.argv[1:])
# libtorch_cuda.so is loaded, never used.
libraries = {
    "libc10.so", "libc10_cuda.so", "libgomp.so.1", "libshm.so", "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so",
    "libtorch_global_deps.so", "libtorch_nvshmem.so", "libtorch_python.so", "libcudart.so.13", "libcupti.so.13",
}
missing = set(libraries)


def destination(name):
    """Where a file of a wheel goes below the site; None leaves it out."""
    library = re.fullmatch(r"(?:torch|nvidia/cu13)/lib/([^/]+)", name)
    if library:
        missing.discard(library[1])
        return f"torch/lib/{library[1]}" if library[1] in libraries else None
    if name == "torch/bin/torch_shm_manager":
        return name  # only looked for
    if re.match(r"torch/(include|share|test|bin)/|nvidia/", name) or name.endswith((".pyi", ".h")):
        return None
    return name


for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            to = None if entry.is_dir() else destination(entry.filename)
            if to is None:
                continue
            to = site / to
            to.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(to, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
if missing:
    sys.exit(f"pytorch: the wheels hold no {', '.join(sorted(missing))}")
PYTHON
}

# stand_ins LIB: libraries of empty functions for all of CUDA that is wanted in
# the folder LIB and not there.
stand_ins() {
    "$python" - "$1" "${CC:-cc}" <<'PYTHON'
import collections, os, pathlib, re, subprocess, sys

folder, compiler = pathlib.Path(sys.argv[1]), sys.argv[2]
libraries = sorted(path for path in folder.iterdir() if ".so" in path.name)


def lines(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def symbols(which):
    """(type, name@version) of the dynamic symbols of all libraries."""
    return {tuple(line.split()[-2:]) for path in libraries for line in lines("nm", "-D", which, path)}


needed = {m[1] for path in libraries for line in lines("readelf", "-d", path) if (m := re.search(r"NEEDED.*\[(.*)\]", line))}
names = sorted(name for name in needed - {path.name for path in libraries} if re.match("lib(cu|nccl|nv)", name))
provided = {name.split("@")[0] for _, name in symbols("--defined-only")}
versions = collections.defaultdict(list)
for kind, wanted in sorted(symbols("--undefined-only")):
    name, _, version = wanted.partition("@")
    if kind == "U" and re.match("cu|nccl|nv", name) and name not in provided:
        versions[version or "UNVERSIONED"].append(name)

source = folder / "stand-in.c"
source.write_text(
    "#include <stdio.h>\n#include <stdlib.h>\n"
    'static void absent(const char *name) { fprintf(stderr, "%s: this PyTorch is for the CPU only\\n", name); abort(); }\n'
    + "".join(f'void {name}(void) {{ absent("{name}"); }}\n' for all in versions.values() for name in all)
)
script = folder / "stand-in.map"
script.write_text("".join(f"{version} {{ {' '.join(name + ';' for name in all)} }};\n" for version, all in versions.items()))
target = folder / names[0]
subprocess.run(
    [compiler, "-shared", "-fPIC", "-O1", "-w", "-fno-builtin", "-o", target, source, f"-Wl,--version-script={script}", "-Wl,-soname,libcuda-stand-in.so"],
    check=True,
)
for name in names[1:]:
    os.link(target, folder / name)
source.unlink()
script.unlink()
PYTHON
}

# share LIB: files that a libtorch in the cache has too are kept once.
share() {
    local libtorch file other
    for libtorch in "$cache/libtorch-$version-"*/lib; do
        for file in "$1"/*; do
            other=$libtorch/${file##*/}
            if cmp --silent "$file" "$other"; then ln -f "$other" "$file" 2>/dev/null || true; fi
        done
    done
}

# launcher TREE PATH: a program at PATH that is this Python with that tree.
launcher() {
    local executable
    executable=$("$python" -c 'import sys; print(sys.executable)')
    # Not -E or a virtual environment: Debian's Python has no venv by default.
    {
        printf '#!/bin/sh\n'
        printf 'exec env CUDA_VISIBLE_DEVICES= PYTHONNOUSERSITE=1 PYTHONPATH=%q %q "$@"\n' "$1/site" "$executable"
    } >"$2"
    chmod +x "$2"
}

command -v "$python" >/dev/null || fail "$python is missing; install Python 3.10 to 3.14, or name one in PYTHON"

# An installed PyTorch that works is as good as any.
if "$python" - "$version" 2>/dev/null <<'PYTHON'; then
import importlib.metadata, sys

assert importlib.metadata.version("torch").split("+")[0] == sys.argv[1]
import torch
PYTHON
    command -v "$python"
    exit
fi

[[ $(uname -s)/$(uname -m) == Linux/x86_64 ]] ||
    fail "PyTorch is provisioned on Linux x86_64 only; install it with '$python -m pip install torch==$version'"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' ||
    fail "PyTorch $version is for Python 3.10 to 3.14, but $python is $("$python" -c 'import platform; print(platform.python_version())'); name another one in PYTHON"
[[ -n ${XDG_CACHE_HOME:-${HOME:-}} ]] || fail "neither HOME nor XDG_CACHE_HOME says where to keep PyTorch; set one"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/trainyard
key=$({
    echo "layout $layout"
    "$python" -c 'import sys; print(sys.executable, sys.implementation.cache_tag)'
    grep -o 'sha256:[0-9a-f]*' "$requirements"
} | sha256sum)
tree=$cache/pytorch-$version-${key:0:12}
if [[ ! -e $tree/python ]]; then
    for tool in nm readelf "${CC:-cc}"; do
        command -v "$tool" >/dev/null || fail "$tool is missing; install it with 'sudo apt-get install -y binutils gcc' (or your distribution's equivalent)"
    done
    mkdir -p "$cache"
    # What a killed run left behind.
    find "$cache" -maxdepth 1 -name '.pytorch.*' -mmin +1440 -exec rm -rf {} +
    work=$(mktemp -d "$cache/.pytorch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    say "provisioning PyTorch $version into $tree (once; downloads 530 MB)"
    mkdir "$work/wheels"
    download "$work/wheels" ||
        fail "the download failed (see above); check that '$python -m pip download' reaches a package index, or install torch==$version for $python"
    say "unpacking"
    unpack "$work/wheels" "$work/tree/site" || fail "unpacking into $work failed (see above); is the disk full?"
    stand_ins "$work/tree/site/torch/lib" || fail "the libraries in $work could not be completed (see above)"
    share "$work/tree/site/torch/lib"
    launcher "$work/tree" "$work/trial"
    "$work/trial" -W ignore -c 'import torch; assert torch.ones(2, 2).mm(torch.ones(2, 2)).sum() == 8' >&2 ||
        fail "the PyTorch provisioned in $work does not work (see above); install torch==$version for $python instead"
    launcher "$tree" "$work/tree/python"
    # The rename makes the tree appear whole or not at all. Where another
    # run was faster, its tree is as good as ours.
    mv -T "$work/tree" "$tree" 2>/dev/null || [[ -e $tree/python ]] ||
        fail "$tree exists but is not whole; remove it and try again"
    say "ready"
fi
printf '%s\n' "$tree/python"
