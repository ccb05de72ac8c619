"""Writes a T5 of a usual shape with random weights, as the hub lays it out."""
import sys

import torch
from transformers import T5Config, T5ForConditionalGeneration

SHAPES = {
    "small": dict(d_model=512, d_ff=2048, num_layers=6, num_heads=8, d_kv=64),
    "base": dict(d_model=768, d_ff=3072, num_layers=12, num_heads=12, d_kv=64),
    "large": dict(d_model=1024, d_ff=4096, num_layers=24, num_heads=16, d_kv=64),
}
shape, out = sys.argv[1:]
torch.manual_seed(0)
config = T5Config(vocab_size=32128, decoder_start_token_id=0, **SHAPES[shape])
T5ForConditionalGeneration(config).save_pretrained(out)
