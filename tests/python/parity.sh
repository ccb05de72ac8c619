#!/usr/bin/env bash
# Compares the trainer with transformers on small random models that parity.py makes anew. Needs
# python3 with venv, pip's access to PyPI (or a mirror), and some 8 GB of disk for torch.
#
# PARITY_PYTHON: a python that has torch, transformers and safetensors; default: a fresh venv.
# PARITY_SEED: seed of the models; default: the day.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seed=${PARITY_SEED:-$(date +%Y%m%d)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=${PARITY_PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$work/venv"
    python=$work/venv/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check \
        torch==2.11.0 transformers==4.57.1 safetensors numpy
fi
echo "models of seed $seed"
for times in 1 3; do
    "$python" "$here/parity.py" "$work/times$times" --seed "$seed" --times "$times"
    (cd "$here/../.." && DEPTUNE_PARITY=$work/times$times cargo test --locked --workspace --test parity)
done
