"""Arms as processes, and rounds of them in random order."""
import json
import os
import random
import statistics
import subprocess
import sys


class Arm:
    def __init__(self, name, command, threads, clock, seconds):
        self.name, self.clock, self.runs, self.peak = name, clock, [], 0
        self.inferred = []
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.line()
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

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: the arm '{self.name}' ended")
        return json.loads(line)

    def ask(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = self.line()
        self.peak = max(self.peak, answer["peak_bytes"])
        return answer

    def round(self):
        answer = self.ask(self.count)
        seconds = answer[self.clock]
        self.runs.append((answer["steps"] / seconds, answer["tokens"] / seconds))
        if self.inferences:
            peak = self.peak
            answer = self.ask(f"inference {self.inferences}")
            self.peak = peak
            self.inferred.append(answer["steps"] / answer[self.clock])

    def close(self):
        self.process.stdin.close()
        self.process.wait()

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
        arm.close()
    return loads


def machine():
    """The processor with the instructions that matter here."""
    with open("/proc/cpuinfo") as file:
        info = file.read()
    lines = info.splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return name + ", " + ", ".join(flag for flag in flags if f" {flag} " in info)
