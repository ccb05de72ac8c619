"""DePT's efficiency claim: time per update, time of inference and memory of DePT against prompt
tuning with a prompt of 100 at equal parameters, padded to s and cut (ours: every row at its own
length; the eager baseline: every batch at its longest row). The prediction counts model FLOPs.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile

import arms
from harness import Arm, interleave, machine

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--ours", required=True, help="the built example training_speed")
parser.add_argument("--model", required=True, help="directory written by model.py")
parser.add_argument("--lengths", default=os.path.join(here, "lengths.txt"))
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--seconds", type=float, default=2.0)
parser.add_argument("--cpu-time", action="store_true")
parser.add_argument("--eager", action="store_true", help="the eager baseline too")
parser.add_argument("--bf16", action="store_true", help="ours in bf16")
parser.add_argument("--prompts", default="20,40,60,80", help="which m, near these numbers")
parser.add_argument("--pairs", action="store_true",
                    help="each m beside 100 alone, two processes at a time: for large models")
args = parser.parse_args()

model = json.load(open(os.path.join(args.model, "config.json")))
PAIRS = {512: [(22, 52), (40, 40), (61, 26), (79, 14)], 768: [(20, 60), (40, 45), (60, 30), (80, 15)],
         1024: [(20, 64), (40, 48), (60, 32), (80, 16)]}
d, inner, ff, layers = (model[k] for k in ("d_model", "num_heads", "d_ff", "num_layers"))
inner *= model["d_kv"]
layer = 4 * d * inner + 2 * d * ff
own = arms.lengths(args.lengths)


def flops(lengths, prompt):
    rows = [length + prompt for length in lengths]
    tokens, pairs = statistics.mean(rows), statistics.mean(row * row for row in rows)
    return 4 * layers * (layer + 2 * d * inner) * tokens + 12 * layers * inner * pairs


def expected(case, name, m):
    """FLOPs of a row, as this arm cuts it."""
    if case == "padded":
        return flops([256], m)
    if name == "ours":
        return flops(own, m)
    size = args.batch
    longest = [max(own[i:i + size]) for i in range(0, len(own) - size + 1, size)]
    return flops([-(-length // 8) * 8 for length in longest], m)


def measure(name, case, path, chosen):
    """One arm per m, interleaved; rows of the table."""
    clock = "cpu_seconds" if args.cpu_time else "seconds"
    found = {}
    for m, r in chosen:
        command = ["--model", args.model, "--lengths", path, "--batch", str(args.batch),
                   "--prompt-length", str(m), "--rank", str(r), "--threads", str(args.threads)]
        if name == "ours":
            command = [args.ours, *command, *(["--bf16"] if args.bf16 else [])]
        else:
            script = os.path.join(here, "python_arm.py")
            command = [sys.executable, script, "reference", *command, *(["--cut"] if case == "cut" else [])]
        found[m] = Arm(f"{name} {case} {m}", command, args.threads, clock, args.seconds)
        found[m].infer_too(args.seconds / 2)
    # As many for each: all see the same batches.
    for arm in found.values():
        arm.count = min(other.count for other in found.values())
        arm.inferences = min(other.inferences for other in found.values())
    loads.extend(interleave(list(found.values()), args.rounds))
    base = found[100]
    for m, arm in found.items():
        predicted = expected(case, name, m) / expected(case, name, 100) - 1
        time = base.median(0) / arm.median(0) - 1
        inference = base.inference() / arm.inference() - 1
        print(f"| {name}, {case} | {m} | {arm.median(0):.3f} | {time:+.1%} | {predicted:+.1%} "
              f"| {arm.inference():.3f} | {inference:+.1%} "
              f"| {arm.peak / 1e6:.0f} | {arm.peak / base.peak - 1:+.0%} |", flush=True)


loads = []
near = [int(m) for m in args.prompts.split(",")]
pairs = [min(PAIRS[d], key=lambda pair: abs(pair[0] - m)) for m in near]
groups = [[(100, 0), pair] for pair in pairs] if args.pairs else [[(100, 0), *pairs]]
print(f"{machine()}; {args.threads} threads; "
      f"{'processor' if args.cpu_time else 'wall-clock'} seconds; d = {d}")
print("| arm | m | updates/s | time against a prompt of 100 | predicted | inferences/s | against 100 "
      "| peak MB | against 100 |")
print("|---|---|---|---|---|---|---|---|---|")
with tempfile.NamedTemporaryFile("w", suffix=".txt") as padded:
    padded.write("256\n" * 64)
    padded.flush()
    for name in ["ours", *(["eager"] if args.eager else [])]:
        for case, path in (("padded", padded.name), ("cut", args.lengths)):
            for group in groups:
                measure(name, case, path, group)
print(f"load average {min(loads):.1f} to {max(loads):.1f}")
