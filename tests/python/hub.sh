#!/usr/bin/env bash
# One hub cache for deptune and for Python's huggingface_hub: what either fetches, the other finds.
# Needs python3 with venv, and pip's access to PyPI (or a mirror). The hub is a local one.
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
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub
"$work/venv/bin/python" "$here/hub.py" "$deptune" "$here/../../examples/quickstart" "$work"
