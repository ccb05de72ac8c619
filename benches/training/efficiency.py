"""DePT's efficiency claim: time and memory per update of DePT against prompt tuning with a prompt
of 100 at equal parameters, padded to s and at the rows' own lengths; ours, and the eager baseline.
The prediction counts model FLOPs.
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


with tempfile.NamedTemporaryFile("w", suffix=".txt") as padded:
    padded.write("256\n" * 64)
    padded.flush()
    cases = {"cut": (args.lengths, own), "padded": (padded.name, [256])}
    clock = "cpu_seconds" if args.cpu_time else "seconds"
    found = {}
    for case, (path, _) in cases.items():
        for m, r in [(100, 0), *PAIRS[d]]:
            common = ["--model", args.model, "--lengths", path, "--batch", str(args.batch),
                      "--prompt-length", str(m), "--rank", str(r), "--threads", str(args.threads)]
            commands = {"ours": [args.ours, *common, *(["--bf16"] if args.bf16 else [])]}
            if args.eager and case == "padded":
                script = os.path.join(here, "python_arm.py")
                commands["eager"] = [sys.executable, script, "reference", *common]
            for name, command in commands.items():
                arm = Arm(f"{name} {case} {m}", command, args.threads, clock, args.seconds)
                found[name, case, m] = arm
    loads = interleave(list(found.values()), args.rounds)

print(f"{machine()}; {args.threads} threads; {clock}; load average {min(loads):.1f} to {max(loads):.1f}")
print("| arm | m | updates/s | time against a prompt of 100 | predicted | peak MB | against 100 |")
print("|---|---|---|---|---|---|---|")
for (name, case, m), arm in found.items():
    base = found[name, case, 100]
    lengths = cases[case][1]
    predicted = flops(lengths, m) / flops(lengths, 100) - 1
    time = base.median(0) / arm.median(0) - 1
    print(f"| {name}, {case} | {m} | {arm.median(0):.3f} | {time:+.0%} | {predicted:+.0%} "
          f"| {arm.peak / 1e6:.0f} | {arm.peak / base.peak - 1:+.0%} |")
