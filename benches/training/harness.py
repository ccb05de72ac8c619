"""Arms as processes, and rounds of them in random order."""
import json
import os
import random
import statistics
import subprocess
import sys


def start(command, threads):
    """An arm's process, once it is ready."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=environment)
    answer(process)
    return process


def answer(process):
    line = process.stdout.readline()
    if not line:
        sys.exit(f"error: {' '.join(process.args)} ended")
    return json.loads(line)


def ask(process, count):
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    return answer(process)


def close(process):
    process.stdin.close()
    process.wait()


class Arm:
    def __init__(self, name, command, threads, clock, seconds):
        self.name, self.clock, self.runs, self.peak = name, clock, [], 0
        self.inferred = []
        self.process = start(command, threads)
        # The first update is slower; the second tells how many fit into a round.
        self.ask(1)
        answer = self.ask(1)
        self.count = max(1, round(seconds / max(answer[clock], 1e-3)))
        self.inferences = 0

    def infer_too(self, seconds):
        """Times inference in every round as well."""
        self.ask("inference 1")
        answer = self.ask("inference 1")
        self.inferences = max(1, round(seconds / max(answer[self.clock], 1e-3)))

    def ask(self, count):
        answer = ask(self.process, count)
        self.peak = max(self.peak, answer["peak_bytes"] or 0)
        return answer

    def round(self):
        answer = self.ask(self.count)
        seconds = answer[self.clock]
        self.runs.append((answer["steps"] / seconds, answer["tokens"] / seconds))
        if self.inferences:
            answer = self.ask(f"inference {self.inferences}")
            self.inferred.append(answer["steps"] / answer[self.clock])

    def inference(self):
        """Batches per second without gradient."""
        return statistics.median(self.inferred)

    def median(self, what):
        """Trial-steps (0) or tokens (1) per second."""
        return statistics.median(run[what] for run in self.runs)


def interleave(arms, rounds):
    """Runs every arm once a round, in a random order; gives the load averages met."""
    loads, order = [], list(arms)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        for arm in order:
            arm.round()
        loads.append(os.getloadavg()[0])
    for arm in arms:
        close(arm.process)
    return loads


def machine():
    """The processor with the instructions that matter here."""
    with open("/proc/cpuinfo") as file:
        info = file.read()
    lines = info.splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return name + ", " + ", ".join(flag for flag in flags if f" {flag} " in info)
