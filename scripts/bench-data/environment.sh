#!/usr/bin/env bash
# Provisions the Python packages of `make bench-data`, once a machine, in the user's cache. Prints the command that runs
# Python with them, and nothing else, on stdout.
set -euo pipefail

# Its wheel is a folder of tables; what it depends on is not needed.
readonly tables=islp==0.6.0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly python=${PYTHON:-python3}

key=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest()[:12])' \
    "$here/requirements.txt")
readonly site=${XDG_CACHE_HOME:-$HOME/.cache}/trainyard/bench-data-$key
if [[ ! -d $site ]]; then
    echo 'bench-data: installing scikit-learn, polars and datasets' >&2
    mkdir -p "$(dirname "$site")"
    building=$(mktemp -d "$site.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    pip=("$python" -m pip install --quiet --disable-pip-version-check --target "$building")
    "${pip[@]}" --requirement "$here/requirements.txt" >&2
    "${pip[@]}" --no-deps "$tables" >&2
    mv "$building" "$site"
    trap - EXIT
fi
echo "env PYTHONPATH=$site $python"
