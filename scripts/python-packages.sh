#!/usr/bin/env bash
# Provisions the Python packages that scripts/NAME/requirements.txt lists, once a machine, in the user's cache. Prints the command that
# runs Python with them, and nothing else, on stdout.
#
#   scripts/python-packages.sh NAME [PACKAGE...]    with PACKAGEs whose own dependencies are not needed
set -euo pipefail

readonly name=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly python=${PYTHON:-python3}
readonly requirements=$here/$name/requirements.txt

key=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest()[:12])' \
    "$requirements")
readonly site=${XDG_CACHE_HOME:-$HOME/.cache}/trainyard/$name-$key
if [[ ! -d $site ]]; then
    echo "$name: installing Python packages" >&2
    mkdir -p "$(dirname "$site")"
    building=$(mktemp -d "$site.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    pip=("$python" -m pip install --quiet --disable-pip-version-check --target "$building")
    "${pip[@]}" --requirement "$requirements" >&2
    if (($#)); then
        "${pip[@]}" --no-deps "$@" >&2
    fi
    mv "$building" "$site"
    trap - EXIT
fi
echo "env PYTHONPATH=$site $python"
