#!/usr/bin/env bash
# Names every missing prerequisite in one sentence with the command that
# installs it, and fails if there is one.
#   scripts/check-prerequisites.sh          what building and testing needs
#   scripts/check-prerequisites.sh lint     also what `make lint` needs
#   scripts/check-prerequisites.sh all      also what the tests of the chart and on a cluster need
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

complaints=0
complain() {
    printf 'prerequisites: %s\n' "$*" >&2
    complaints=1
}
have() { command -v "$1" >/dev/null 2>&1; }
# at_least WANTED FOUND: compares dotted versions.
at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }
# The line for Debian and its kin; elsewhere the names are close.
apt() { printf "install it with 'sudo apt-get install -y %s' (or your distribution's equivalent)" "$*"; }

check_rust() {
    local wanted found
    local -r rustup="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
    if ! have cargo; then
        complain "Rust is missing; install it with: $rustup"
        return
    fi
    # "cargo 1.95.0 (...)"; a nightly's suffix does not matter here.
    found=$(cargo --version | awk '{print $2}')
    found=${found%%-*}
    if ! at_least "$wanted" "$found"; then
        if have rustup; then
            complain "Rust $found is older than $wanted; update it with 'rustup update stable && rustup default stable'"
        else
            complain "Rust $found is older than $wanted; install a newer one beside it with: $rustup"
        fi
    fi
}

check_rust_component() { # COMMAND COMPONENT
    ! have cargo || cargo "$1" --version >/dev/null 2>&1 ||
        complain "cargo $1 is missing; install it with 'rustup component add $2'"
}

check_compilers() {
    have "${CXX:-c++}" || complain "a C++ compiler (${CXX:-c++}) is missing; $(apt g++)"
    have "${CC:-cc}" || complain "a C compiler (${CC:-cc}) is missing; $(apt gcc)"
    have make || complain "make is missing; $(apt make)"
}

# Python fetches libtorch; who brings a libtorch needs none.
check_python() {
    [[ -z ${LIBTORCH:-} ]] || return 0
    if ! have python3; then
        complain "Python 3 is missing; $(apt python3 python3-pip)"
    elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        complain "$(python3 --version) is older than 3.10; $(apt python3)"
    elif ! python3 -m pip --version >/dev/null 2>&1; then
        complain "pip for Python 3 is missing; $(apt python3-pip)"
    fi
}

check_go() {
    local -r install='install it as https://go.dev/doc/install says'
    local found
    if ! have go; then
        complain "Go is missing; $install"
        return
    fi
    found=$(go env GOVERSION)
    at_least 1.26 "${found#go}" || complain "Go ${found#go} is older than 1.26; $install"
}

check_rust
check_compilers
check_python
if [[ ${1:-} == lint || ${1:-} == all ]]; then
    check_rust_component fmt rustfmt
    check_rust_component clippy clippy
fi
[[ ${1:-} != all ]] || check_go
exit "$complaints"
