#!/usr/bin/env bash
# Provisions the Python packages of `make bench-data`, and prints the command that runs Python with them.
set -euo pipefail

# Its wheel is a folder of tables; what it depends on is not needed.
exec "$(dirname "${BASH_SOURCE[0]}")/../python-packages.sh" bench-data islp==0.6.0
