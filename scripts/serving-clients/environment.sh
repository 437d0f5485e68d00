#!/usr/bin/env bash
# Provisions the stock clients that `trainyard serve` is tested with, once a machine, in the user's cache. Prints the command that runs
# Python with them, and nothing else, on stdout.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly python=${PYTHON:-python3}

key=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest()[:12])' \
    "$here/requirements.txt")
readonly site=${XDG_CACHE_HOME:-$HOME/.cache}/trainyard/serving-clients-$key
if [[ ! -d $site ]]; then
    echo 'serving-clients: installing tritonclient' >&2
    mkdir -p "$(dirname "$site")"
    building=$(mktemp -d "$site.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    pip=("$python" -m pip install --quiet --disable-pip-version-check --target "$building")
    "${pip[@]}" --requirement "$here/requirements.txt" >&2
    mv "$building" "$site"
    trap - EXIT
fi
echo "env PYTHONPATH=$site $python"
