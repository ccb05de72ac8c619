#!/usr/bin/env bash
# LoRA, full fine-tuning and Adafactor against transformers and peft on tiny random models that
# methods.py makes anew; then peft loads what the trainer wrote. Needs python3 with venv, pip's
# access to PyPI (or a mirror), and some 8 GB of disk for torch.
#
# METHODS_PYTHON: a python that has torch, transformers 4.49, peft and safetensors; default: a
# fresh venv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=${METHODS_PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$work/venv"
    python=$work/venv/bin/python
    # The last transformers that has the AdamW of the DePT authors.
    "$python" -m pip install --quiet --disable-pip-version-check \
        torch==2.11.0 transformers==4.49.0 peft==0.17.1 safetensors numpy
fi
"$python" "$here/methods.py" make "$work/traces"
(cd "$here/../.." &&
    DEPTUNE_METHODS=$work/traces DEPTUNE_METHODS_OUT=$work/traces \
        cargo test --locked --workspace --test methods)
"$python" "$here/methods.py" load "$work/traces"
