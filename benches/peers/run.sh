#!/usr/bin/env bash
# Runs deptune and Optuna by turns; see README.md beside it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=${DEPTUNE_BIN_DIR:-$here/../../target/release}
venv=${DEPTUNE_PEERS_VENV:-$here/.venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet optuna grpcio protobuf psycopg2-binary
fi
exec "$venv/bin/python" "$here/compare.py" --deptune "$programs/deptune" "$@"
