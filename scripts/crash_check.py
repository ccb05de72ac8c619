#!/usr/bin/env python3
"""Runs a sweep twice, once undisturbed and once while its trainer, its worker and its coordinator
are killed one after the other, and compares the results bit by bit.

    scripts/crash_check.py --bin-dir target/release --spec SPEC --work-dir DIR

It holds that
  - every trial of both runs ends in exactly one outcome,
  - no attempt starts after its trial's outcome,
  - a trial makes at most steps + kills * eval_every updates,
  - evaluations, outcomes and adapters are the same bits in both runs.

Needs Python 3.9 or later and nothing else; Linux. Exit code 0: all of that holds. 1: it does not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

# What a run ended with, without times, places and attempts.
RESULTS = {
    "outcomes": """select trial_index, outcome, failure_class, metric_name, metric, metric_state,
        best_step, constant_metric, test_metric, test_metric_state, test_constant, steps,
        trainable_parameters, adapter from outcomes order by trial_index""",
    "evaluations": """select trial_index, step, split, loss, loss_state, train_loss,
        train_loss_state, rows from evaluations order by trial_index, step, split""",
    "metrics": """select trial_index, step, split, source, position, name, value, value_state
        from evaluation_metrics order by trial_index, step, split, source, position""",
}

# Attempts that have made a checkpoint of their own and have steps before them.
AMID = """select t.trial_index, t.checkpoint_step, a.first_step from trials t
    join attempts a on a.sweep = t.sweep and a.trial_index = t.trial_index and a.epoch = t.epoch
    where t.phase = 'leased' and t.checkpoint_step > a.first_step and t.checkpoint_step < t.steps
    order by t.trial_index"""

LATE = """select a.sweep, a.trial_index, a.epoch from attempts a
    join outcomes o on o.sweep = a.sweep and o.trial_index = a.trial_index
    where a.epoch > o.epoch or a.started > o.at"""

STEPS = """select a.trial_index, count(*) as attempts, sum(a.last_step - a.first_step) as made,
        t.steps, t.eval_every
    from attempts a join trials t on t.sweep = a.sweep and t.trial_index = a.trial_index
    group by a.trial_index order by a.trial_index"""


class Failed(Exception):
    """Something that should have worked."""


class Programs:
    """What was started and is to be ended."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self.running.remove(process)

    def end(self) -> None:
        for process in reversed(self.running):
            process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


class Run:
    """One run of the sweep with a coordinator and a worker of its own."""

    def __init__(self, arguments: argparse.Namespace, name: str) -> None:
        self.arguments = arguments
        self.home = arguments.work_dir / name
        if self.home.exists():
            raise Failed(f"{self.home} exists; remove it, or choose another --work-dir")
        self.home.mkdir(parents=True)
        self.programs = Programs()
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("DEPTUNE_")
        }
        self.environment["DEPTUNE_HOME"] = str(self.home / "data")
        self.deadline = time.monotonic() + arguments.timeout
        self.began = time.monotonic()
        self.serve("127.0.0.1:0")
        self.work()

    def command(self, *words: str) -> list[str]:
        return [str(self.arguments.bin_dir / "deptune"), *words]

    def serve(self, listen: str) -> None:
        address_file = self.home / "data" / "coordinator.json"
        address_file.unlink(missing_ok=True)
        self.coordinator = self.programs.start(
            self.command("serve", "--listen", listen), self.environment, self.home / "serve.log"
        )

        self.wait("the coordinator is ready", address_file.exists)
        self.address = json.loads(address_file.read_text())["address"]

    def work(self) -> None:
        words = ["worker", "--name", "node", "--slots", str(self.arguments.slots)]
        # Which trials share a pack depends on who dies when, and rounding on the pack.
        words += ["--max-pack", "1"]
        words += ["--threads", str(self.arguments.threads), "--device", "cpu"]
        words += ["--state-dir", str(self.home / "worker"), "--cache-dir", str(self.home / "cache")]
        if self.arguments.trainer:
            words += ["--trainer", str(self.arguments.trainer)]
        self.worker = self.programs.start(
            self.command(*words), self.environment, self.home / "worker.log"
        )

    def submit(self) -> None:
        words = self.command("submit", str(self.arguments.spec), "--upload-model")
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"the sweep was not accepted:\n{done.stderr}")
        database = self.home / "data" / "deptune.db"
        self.database = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=30)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.database.execute(sql).fetchall()

    def wait(self, what: str, probe) -> object:
        while True:
            for process in self.programs.running:
                if process.poll() is not None:
                    raise Failed(f"{process.args[1]} ended; see the logs in {self.home}")
            found = probe()
            if found:
                return found
            if time.monotonic() > self.deadline:
                raise Failed(f"gave up waiting until {what}")
            time.sleep(0.05)

    def over(self) -> bool:
        return self.rows("select status from sweeps") == [("finished",)]

    def amid(self) -> tuple[int, int]:
        """Waits for a trial that can be disturbed: its index and the step that it would lose."""

        def probe():
            if self.over():
                raise Failed("the sweep ended before all kills; take a longer one, or fewer --rounds")
            return self.rows(AMID)

        index, step, _ = self.wait("a trial is between two checkpoints", probe)[0]
        return index, step

    def finish(self) -> float:
        """Waits for the sweep's end; the seconds from the start."""
        self.wait("the sweep ends", self.over)
        return time.monotonic() - self.began

    def end(self) -> None:
        self.programs.end()


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def kill_trainer(run: Run) -> None:
    (count,) = run.rows("select count(*) from attempts where failure_class = 'crashed'")[0]
    os.kill(children(run.worker.pid)[0], signal.SIGKILL)
    sql = f"select count(*) > {count} from attempts where failure_class = 'crashed'"
    run.wait("the trainer's end is recorded", lambda: run.rows(sql) == [(1,)])


def kill_worker(run: Run) -> None:
    trainers = children(run.worker.pid)
    run.programs.kill(run.worker)
    gone = lambda: not any(Path(f"/proc/{pid}").exists() for pid in trainers)
    run.wait("the trainers died with their worker", gone)
    sql = "select count(*) from attempts"
    (before,) = run.rows(sql)[0]
    run.work()
    # Until then the dead worker's leases look as if its trials were under way.
    run.wait("the new worker has trials", lambda: run.rows(f"{sql} having count(*) > {before}"))


def kill_coordinator(run: Run) -> None:
    run.programs.kill(run.coordinator)
    run.serve(run.address)


KILLS = {"trainer": kill_trainer, "worker": kill_worker, "coordinator": kill_coordinator}


def disturb(run: Run, rounds: int) -> None:
    print(f"{'kill -9':<12} {'at second':>9} {'trial':>6} {'checkpoint':>10}")
    for _ in range(rounds):
        for name, kill in KILLS.items():
            index, step = run.amid()
            print(f"{name:<12} {time.monotonic() - run.began:>9.1f} {index:>6} {step:>10}", flush=True)
            kill(run)


def results(database: sqlite3.Connection) -> dict[str, list[str]]:
    # repr writes a number with all digits that tell it from its neighbours, and -0.0 as such.
    return {
        name: [repr(row) for row in database.execute(sql)] for name, sql in RESULTS.items()
    }


def broken(database: sqlite3.Connection, name: str, kills: int) -> list[str]:
    """What a run's database says against the promises."""
    problems = []
    (total,) = database.execute("select total from sweeps").fetchone()
    (ended,) = database.execute("select count(*) from outcomes").fetchone()
    (open_trials,) = database.execute("select count(*) from trials where phase <> 'ended'").fetchone()
    if ended != total or open_trials:
        problems.append(f"{name}: {ended} outcomes for {total} trials, {open_trials} without an end")
    for row in database.execute(LATE):
        problems.append(f"{name}: attempt {row[2]} of trial {row[0]}.{row[1]} began after the outcome")
    for index, _, made, steps, every in database.execute(STEPS):
        if made > steps + kills * every:
            problems.append(f"{name}: trial {index} made {made} of {steps} steps")
    if database.execute("pragma integrity_check").fetchall() != [("ok",)]:
        problems.append(f"{name}: the database is damaged")
    return problems


def compare(expected: dict[str, list[str]], found: dict[str, list[str]]) -> list[str]:
    problems = []
    print(f"\n{'compared':<12} {'rows':>6} {'different':>9}")
    for name, rows in expected.items():
        different = [pair for pair in zip(rows, found[name]) if pair[0] != pair[1]]
        count = len(different) + abs(len(rows) - len(found[name]))
        print(f"{name:<12} {len(rows):>6} {count:>9}")
        if count:
            problems.append(f"{count} of {len(rows)} {name} differ")
            problems += [f"  undisturbed {one}\n  disturbed   {two}" for one, two in different[:3]]
    return problems


def read(text: str) -> Path:
    return Path(text).resolve()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin-dir", type=read, required=True, help="folder with deptune and deptune-trainer")
    parser.add_argument("--spec", type=read, required=True, help="the sweep")
    parser.add_argument("--work-dir", type=read, required=True, help="where both runs are kept")
    parser.add_argument("--slots", type=int, default=1, help="trials at the same time (1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each trial (1)")
    parser.add_argument("--rounds", type=int, default=1, help="times that each program is killed (1)")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds that a run may take (7200)")
    parser.add_argument("--trainer", type=read, help="the trainer, when it is not in --bin-dir")
    parser.add_argument(
        "--reference", type=read, metavar="DATABASE",
        help="results of an undisturbed run of the same sweep, threads and machine",
    )
    arguments = parser.parse_args()
    kills = arguments.rounds * len(KILLS)

    run = None
    try:
        if arguments.reference:
            reference = sqlite3.connect(f"{arguments.reference.as_uri()}?mode=ro", uri=True)
        else:
            run = Run(arguments, "undisturbed")
            run.submit()
            print(f"undisturbed: {run.finish():.1f} s", flush=True)
            run.end()
            reference = run.database
        run = Run(arguments, "disturbed")
        run.submit()
        disturb(run, arguments.rounds)
        print(f"disturbed: {run.finish():.1f} s", flush=True)
    except Failed as problem:
        print(f"FAILED: {problem}")
        return 1
    finally:
        if run:
            run.end()

    print(f"\n{'trial':>6} {'attempts':>8} {'steps made':>10} {'at most':>8}")
    for index, attempts, made, steps, every in run.rows(STEPS):
        print(f"{index:>6} {attempts:>8} {made:>10} {steps + kills * every:>8}")
    problems = broken(reference, "undisturbed", 0) + broken(run.database, "disturbed", kills)
    problems += compare(results(reference), results(run.database))
    print()
    for problem in problems:
        print(f"FAILED: {problem}")
    if not problems:
        print(f"{kills} kills changed nothing")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
