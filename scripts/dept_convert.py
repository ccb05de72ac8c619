#!/usr/bin/env python3
"""Converts DePT adapters between deptune's safetensors file and the pickle file of the DePT authors.

    dept_convert.py adapter_model.safetensors adapter_model.bin     for the authors' code
    dept_convert.py adapter_model.bin adapter_model.safetensors     for deptune

Both hold the same tensors under the same names: prompt_embeddings [m, d], and, unless r = 0,
prompt_encoder.lora_embedding_A [s, r] and prompt_encoder.lora_embedding_B [r, d]. A file that is
converted there and back has the same bytes. The pickle file is read with torch's restricted
unpickler, which runs no code from it; deptune itself never reads pickle. Needs torch and
safetensors.
"""

import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

PROMPT = "prompt_embeddings"
A, B = "prompt_encoder.lora_embedding_A", "prompt_encoder.lora_embedding_B"


def checked(tensors, path):
    """The tensors of an adapter, or an exit that says what is wrong."""
    unknown = sorted(set(tensors) - {PROMPT, A, B})
    if unknown or not tensors:
        sys.exit(f"error: {path} is no DePT adapter: it has {unknown or 'no tensors'}")
    if (A in tensors) != (B in tensors):
        sys.exit(f"error: {path} has only one of {A} and {B}")
    for name, tensor in tensors.items():
        if not torch.is_tensor(tensor) or tensor.dim() != 2:
            sys.exit(f"error: {path}: {name} is no matrix")
    if A in tensors and tensors[A].shape[1] != tensors[B].shape[0]:
        sys.exit(f"error: {path}: A {list(tensors[A].shape)} and B {list(tensors[B].shape)} differ in r")
    return {name: tensors[name].detach().contiguous() for name in (PROMPT, A, B) if name in tensors}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    paths = parser.parse_args()
    kinds = (paths.source.suffix, paths.target.suffix)
    if kinds == (".safetensors", ".bin"):
        torch.save(checked(load_file(paths.source), paths.source), paths.target)
    elif kinds == (".bin", ".safetensors"):
        tensors = torch.load(paths.source, map_location="cpu", weights_only=True)
        save_file(checked(tensors, paths.source), paths.target)
    else:
        parser.error("one file must end in .safetensors, the other in .bin")


if __name__ == "__main__":
    main()
