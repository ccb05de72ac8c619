"""The training benchmark: our trainer beside the same method in Python, and the matrix-product
ceiling, interleaved in random order. See README.md here.

Prints a table per arm: trial-steps per second, real tokens per second, FLOP/s over the ceiling,
peak bytes per trial beyond what the arm held before its first update.
"""
import argparse
import json
import os
import re
import statistics
import sys
import time

import arms
from harness import Arm, interleave, machine

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--ours", required=True, help="the built example training_speed")
parser.add_argument("--model", required=True, help="directory written by model.py")
parser.add_argument("--lengths", default=os.path.join(here, "lengths.txt"))
parser.add_argument("--packs", default="1,2,4,8,16,32", help="K of our bf16 arms")
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--prompt-length", type=int, default=40)
parser.add_argument("--rank", type=int, default=40)
parser.add_argument("--groups", type=int, default=4, help="of rows of about one length in a batch, of our arms")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--seconds", type=float, default=3.0, help="of one arm in one round")
parser.add_argument("--only", help="a regular expression: arms whose whole names match")
parser.add_argument("--cpu-time", action="store_true",
                    help="count processor seconds: for machines that others use too; with one thread")
parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
parser.add_argument("--peak-tflops", type=float,
                    help="the device's dense bf16 peak from its data sheet (H100 and H200 SXM: 989), for "
                         "the utilisation of bf16 arms")
args = parser.parse_args()

all_lengths = arms.lengths(args.lengths)
means = statistics.mean(all_lengths), statistics.pstdev(all_lengths)
size = args.batch
longest = statistics.mean(max(all_lengths[i:i + size]) for i in range(0, len(all_lengths) - size, size))
print(f"lengths: mean {means[0]:.1f}, spread {means[1]:.1f}, longest of {size} on average {longest:.1f}")
model = json.load(open(os.path.join(args.model, "config.json")))
tokens = round((means[0] + args.prompt_length) * size)

common = ["--model", args.model, "--lengths", args.lengths, "--batch", str(size),
          "--prompt-length", str(args.prompt_length), "--rank", str(args.rank),
          "--threads", str(args.threads)]
cuda = args.device == "cuda"
ours = [args.ours, *common, "--groups", str(args.groups), *(["--cuda"] if cuda else [])]
python = [sys.executable, os.path.join(here, "python_arm.py")]
device = ["--device", args.device]
ceiling = [sys.executable, os.path.join(here, "ceiling.py"), "--model", args.model,
           "--tokens", str(tokens), "--threads", str(args.threads), *device]
commands = {
    "reference": [*python, "reference", *common, *device],
    "reference, no dropout": [*python, "reference", *common, *device, "--dropout", "0"],
    "strong, eager": [*python, "strong", *common, *device],
    "strong, sdpa": [*python, "strong", *common, *device, "--attention", "sdpa"],
    "strong, no dropout": [*python, "strong", *common, *device, "--dropout", "0"],
    "strong, sdpa, no dropout": [
        *python, "strong", *common, *device, "--attention", "sdpa", "--dropout", "0"],
    "ours fp32 K=1": ours,
    "ours fp32 K=1, recorded": [*ours, "--recorded"],
    "ceiling fp32": [*ceiling, "--kind", "fp32"],
    "ceiling bf16": [*ceiling, "--kind", "bf16"],
}
packs = [int(k) for k in args.packs.split(",")]
for k in packs:
    commands[f"ours bf16 K={k}"] = [*ours, "--bf16", "--pack", str(k)]
commands[f"ours bf16 K={packs[-1]}, no dropout"] = [
    *ours, "--bf16", "--pack", str(packs[-1]), "--dropout", "0"]
# What libtorch records: on processors it is the way of other models and methods, on GPUs of all.
k = packs[-1] if cuda else 1
recorded = [*ours, "--bf16", "--recorded", "--pack", str(k)]
commands[f"ours bf16 K={k}, recorded"] = recorded
commands[f"ours bf16 K={k}, recorded, kernel masks"] = [*recorded, "--kernel-masks"]
commands[f"ours bf16 K={k}, recorded, checkpointing"] = [*recorded, "--checkpointing"]
if args.only:
    commands = {name: command for name, command in commands.items() if re.fullmatch(args.only, name)}


def flops_per_token_and_row():
    """Of the encoder per real token, and of the decoder and head per label token."""
    d, inner, ff = model["d_model"], model["num_heads"] * model["d_kv"], model["d_ff"]
    gated = 2 if model.get("feed_forward_proj", "relu").startswith("gated") else 1
    layer = 4 * d * inner + (1 + gated) * d * ff
    encoder = model["num_layers"] * layer
    layers = model.get("num_decoder_layers") or model["num_layers"]
    return 4 * (encoder + layers * 2 * d * inner), 4 * (layers * (layer + 2 * d * inner) + d * model["vocab_size"])


def flops_of_step():
    """Model FLOPs of an average trial-step: matrix products of the forward pass and the backward
    pass of activations, of real tokens only."""
    per_token, per_label = flops_per_token_and_row()
    inner = model["num_heads"] * model["d_kv"]
    rows = [length + args.prompt_length for length in all_lengths]
    pairs = statistics.mean(row * row for row in rows)
    return size * (per_token * statistics.mean(rows) + per_label * 2.5
                   + 12 * pairs * inner * model["num_layers"])


order = list(commands.items())
clock = "cpu_seconds" if args.cpu_time else "seconds"
found = [Arm(name, command, args.threads, clock, args.seconds) for name, command in order]
started = time.time()
loads = interleave(found, args.rounds)
found = {arm.name: arm for arm in found}
print(f"processor: {machine()}; {args.threads} threads; {args.device}; {args.groups} groups")
clock = "processor" if args.cpu_time else "wall-clock"
print(f"{args.rounds} rounds of {len(found)} arms in {time.time() - started:.0f} s, {clock} seconds; "
      f"load average {min(loads):.1f} to {max(loads):.1f}")
median = Arm.median
ceilings = {}
for kind in ("fp32", "bf16"):
    if f"ceiling {kind}" in found:
        ceilings[kind] = median(found[f"ceiling {kind}"], 1)
        print(f"ceiling {kind}: {ceilings[kind] / 1e9:.0f} GFLOP/s")
if len(ceilings) == 2:
    print(f"rho = {ceilings['bf16'] / ceilings['fp32']:.1f}")
reference = median(found["reference"], 0) if "reference" in found else None
print()
print("| arm | trial-steps/s | lowest .. highest | over the reference | real tokens/s | of the ceiling "
      "| of the peak | peak MB per trial |")
print("|---|---|---|---|---|---|---|---|")
for name, _ in order:
    if name.startswith("ceiling"):
        continue
    arm = found[name]
    rate = median(arm, 0)
    kind = "bf16" if "bf16" in name or "strong" in name else "fp32"
    share = f"{rate * flops_of_step() / ceilings[kind]:.0%}" if kind in ceilings else ""
    used = f"{rate * flops_of_step() / args.peak_tflops / 1e12:.1%}" if args.peak_tflops and kind == "bf16" else ""
    trials = int(name.split("K=")[1].split(",")[0]) if "K=" in name else 1
    times = f"{rate / reference:.2f}" if reference else ""
    low, high = min(run[0] for run in arm.runs), max(run[0] for run in arm.runs)
    print(f"| {name} | {rate:.3f} | {low:.3f} .. {high:.3f} | {times} | {median(arm, 1):.0f} | {share} "
          f"| {used} | {round(arm.peak / trials / 1e6) or ''} |")
for arm, still in (("reference", "reference, no dropout"), ("strong, eager", "strong, no dropout"),
                   (f"ours bf16 K={packs[-1]}", f"ours bf16 K={packs[-1]}, no dropout")):
    if arm in found and still in found:
        share = 1 - median(found[arm], 0) / median(found[still], 0)
        print(f"share of dropout, {arm}: {share:.0%}")
