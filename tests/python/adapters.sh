#!/usr/bin/env bash
# Trains a DePT adapter with the quickstart's model and data, runs the program of docs/adapters.md on
# it and compares its answers with those of deptune predict; then converts the adapter to the DePT
# authors' file and back. Needs python3 with venv, and pip's access to PyPI (or a mirror).
#
# DEPTUNE: the binary; default: target/debug/deptune of this checkout.
# METHODS_PYTHON: a python that has torch, transformers, tokenizers and safetensors; default: a
# fresh venv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
deptune=${DEPTUNE:-$root/target/debug/deptune}
[ -x "$deptune" ] || {
    echo "error: $deptune is not there" >&2
    echo "hint: build it with 'cargo build -p deptune -p deptune-trainer', or name it in DEPTUNE" >&2
    exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=${METHODS_PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$work/venv"
    python=$work/venv/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check \
        torch==2.11.0 transformers==4.49.0 tokenizers safetensors numpy
fi
quickstart=$root/examples/quickstart
"$deptune" train "$quickstart/sweep.toml" --set prompt_lr=0.3 --set lowrank_lr=5e-3 \
    --out "$work/adapter" 2>"$work/train.log" || { cat "$work/train.log" >&2; exit 1; }

# The program of the docs, on the texts as the model reads them.
sed -n '/^```python$/,/^```$/p' "$root/docs/adapters.md" | sed '1d;$d' >"$work/answer.py"
texts=("a warm and funny film" "dull from start to end" "I would see it again" "no one cares")
"$deptune" predict --json --adapter "$work/adapter" --model "$quickstart/model" "${texts[@]}" \
    >"$work/ours.jsonl"
"$python" - "$work/ours.jsonl" "$work/sources" "$work/expected" <<'END'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
rows = rows[0] if len(rows) == 1 and isinstance(rows[0], list) else rows
open(sys.argv[2], "w").write("".join(row["source"] + "\n" for row in rows))
open(sys.argv[3], "w").write("".join(row["answer"] + "\n" for row in rows))
END
mapfile -t sources <"$work/sources"
[ "${#sources[@]}" = "${#texts[@]}" ]
"$python" "$work/answer.py" "$quickstart/model" "$work/adapter" "${sources[@]}" >"$work/found"
diff "$work/expected" "$work/found"
echo "the program of docs/adapters.md answers as deptune does: $(sort -u "$work/found" | tr '\n' ' ')"

ours=$work/adapter/adapter_model.safetensors
"$python" "$root/scripts/dept_convert.py" "$ours" "$work/adapter_model.bin"
"$python" "$root/scripts/dept_convert.py" "$work/adapter_model.bin" "$work/back.safetensors"
cmp "$ours" "$work/back.safetensors"
echo "the adapter has the same bytes after the way through the authors' file"
