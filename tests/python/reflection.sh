#!/usr/bin/env bash
# Starts a coordinator in a temporary directory and calls every RPC of it with Python's grpcio and
# reflection. Needs python3 with venv, and pip's access to PyPI (or a mirror).
#
# DEPTUNE: the binary; default: target/debug/deptune of this checkout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deptune=${DEPTUNE:-$here/../../target/debug/deptune}
[ -x "$deptune" ] || {
    echo "error: $deptune is not there" >&2
    echo "hint: build it with 'cargo build -p deptune', or name it in DEPTUNE" >&2
    exit 2
}
work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check grpcio grpcio-reflection protobuf

"$deptune" serve --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/serve.log" 2>&1 &
server=$!
for _ in $(seq 100); do
    [ -f "$work/data/coordinator.json" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/serve.log" >&2; exit 1; }
    sleep 0.1
done
"$work/venv/bin/python" "$here/reflection.py" "$work/data" || { cat "$work/serve.log" >&2; exit 1; }
