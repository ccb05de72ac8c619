"""Makespan of a grid of learning rates: fused packs, packs of one, and one process of the reference's
recipe per trial, each from the start of its first process to the end of its last, one process after
the other on all threads. Of arms with one process per trial a few are run, and the rest projected.
"""
import argparse
import os
import statistics
import sys
import time

from harness import ask, close, machine, start

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--ours", required=True, help="the built example training_speed")
parser.add_argument("--model", required=True, help="directory written by model.py")
parser.add_argument("--lengths", default=os.path.join(here, "lengths.txt"))
parser.add_argument("--trials", type=int, default=36)
parser.add_argument("--updates", type=int, default=100)
parser.add_argument("--pack", type=int, default=12, help="trials of a fused pack")
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--groups", type=int, default=4, help="of rows of about one length in a batch, of our arms")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--run", type=int, default=2, help="processes that are run of those of one trial")
parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
args = parser.parse_args()

common = ["--model", args.model, "--lengths", args.lengths, "--batch", str(args.batch),
          "--threads", str(args.threads)]
cuda = ["--cuda"] if args.device == "cuda" else []
ours = [args.ours, *common, "--groups", str(args.groups), *cuda, "--bf16"]
script = os.path.join(here, "python_arm.py")
reference = [sys.executable, script, "reference", *common, "--device", args.device]
strong = [sys.executable, script, "strong", *common, "--device", args.device, "--attention", "eager"]


def process(command):
    """Seconds of a process that makes all updates of its trials."""
    started = time.perf_counter()
    child = start(command, args.threads)
    ask(child, args.updates)
    close(child)
    return time.perf_counter() - started


def arm(name, command, trials_each, baseline):
    count = -(-args.trials // trials_each)
    run = count if trials_each > 1 else min(count, args.run)
    seconds = [process(command) for _ in range(run)]
    total = statistics.mean(seconds) * count
    print(f"| {name} | {count} | {run} | {total:.0f} | {(baseline or total) / total:.1f} |", flush=True)
    return total


print(f"{machine()}; {args.threads} threads; {args.device}; {args.trials} trials of {args.updates} updates, "
      f"batch {args.batch}; load average {os.getloadavg()[0]:.1f}")
print("| arm | processes | of which run | makespan, s | over the reference |")
print("|---|---|---|---|---|")
base = arm("reference, a process per trial", reference, 1, None)
arm("strong, a process per trial", strong, 1, base)
arm("ours bf16, a process per trial", ours, 1, base)
arm(f"ours bf16, packs of {args.pack}", [*ours, "--pack", str(args.pack)], args.pack, base)
