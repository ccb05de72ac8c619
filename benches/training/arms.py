"""What the arms of the training benchmark share: batches, DePT, and how an arm talks to run.py.

An arm is a process. It prints one line when it is ready, then reads lines "STEPS" or "inference
BATCHES" from standard input, makes that many updates, or losses without gradient, and answers with
one JSON line: seconds, real tokens (prompts included) and peak bytes beyond what it held before its
first update: of the machine's memory, or of the device's that it has taken for itself, used at that
moment or not (null where the driver does not say).
"""
import json
import resource
import sys
import time

INIT = [4501, 4921, 48, 1499, 19, 442, 757, 42, 59, 10, 1]
LABELS = [[3, 632, 1], [209, 1]]


def lengths(path):
    with open(path) as file:
        return [int(line) for line in file if line.strip() and not line.startswith("#")]


def batch(all_lengths, step, size, longest):
    """Rows of update `step`, from 0: token ids and labels, the same in every arm."""
    rows = []
    for row in range(step * size, (step + 1) * size):
        length = min(all_lengths[row % len(all_lengths)], longest)
        ids = [2 + (i * i * 31 + row * 17 + i * 7) % 30000 for i in range(length - 1)] + [1]
        rows.append((ids, LABELS[row % 2]))
    return rows


def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def serve(update, name, inference=None, device="cpu"):
    """Answers run.py: `update(step)` makes one update, `inference(step)` computes the loss of a batch
    without gradient; both give the batch's real tokens."""
    if device == "cpu":
        held, most = resident, peak
        reset_peak()
    else:
        import torch

        held, most = torch.cuda.memory_reserved, torch.cuda.max_memory_reserved
    step, before = 0, held()
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        words = line.split()
        count, tokens = int(words[-1]), 0
        work = inference if words[0] == "inference" else update
        started = time.perf_counter()
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(count):
            tokens += work(step)
            step += 1
        seconds = time.perf_counter() - started
        now = resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - cpu.ru_utime - cpu.ru_stime
        answer = {"seconds": seconds, "cpu_seconds": cpu, "tokens": tokens, "steps": count,
                  "peak_bytes": most() - before}
        print(json.dumps(answer), flush=True)
