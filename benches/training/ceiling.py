"""The matrix-product ceiling: the model's own product shapes, forward and backward of activations,
by the libtorch that trains, in fp32 and bf16. An arm like the others; its answer's `flops` are
those of `steps` rounds over all shapes."""
import argparse

import torch

import arms

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--tokens", type=int, required=True, help="rows of each product")
parser.add_argument("--kind", choices=["fp32", "bf16"], required=True)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--device", default="cpu")
args = parser.parse_args()
torch.set_num_threads(args.threads)
from transformers import AutoConfig

config = AutoConfig.from_pretrained(args.model)
kind = torch.float32 if args.kind == "fp32" else torch.bfloat16
d, inner, ff = config.d_model, config.num_heads * config.d_kv, config.d_ff
products = []
for inputs, outputs in ((d, 3 * inner), (inner, d), (d, ff), (ff, d)):
    weight = torch.randn(outputs, inputs, dtype=torch.float32).to(kind).to(args.device)
    x = torch.randn(args.tokens, inputs).to(kind).to(args.device)
    y = torch.empty(args.tokens, outputs, dtype=kind, device=args.device)
    products += [(x, weight.t(), y), (y.clone(), weight, torch.empty_like(x))]
flops = sum(2 * x.shape[0] * w.shape[0] * w.shape[1] for x, w, _ in products)


def update(_):
    for x, weight, out in products:
        torch.mm(x, weight, out=out)
    if args.device != "cpu":
        torch.cuda.synchronize()
    return flops


arms.serve(update, f"ceiling {args.kind}", device=args.device)
