#!/usr/bin/env bash
# The quickstart sweep with the programs in the folder given; called by `make demo`.
# Run again, it shows the finished sweep; after Ctrl-C it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."

exec "$1/deptune" up examples/quickstart/sweep.toml --data-dir .deptune/quickstart
