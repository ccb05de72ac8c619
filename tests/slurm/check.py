#!/usr/bin/env python3
"""What run.sh asks the database, through the views that people read.

    check.py DATABASE QUESTION SWEEP …

Exit code 0: yes. 1: no, or a promise was broken, in words.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path


class Sweep:
    """One sweep, as the views show it (or one worker, by its name)."""

    def __init__(self, database: str, name: str) -> None:
        self.connection = sqlite3.connect(f"{Path(database).as_uri()}?mode=ro", uri=True)
        self.connection.row_factory = sqlite3.Row
        self.name = name

    def rows(self, query: str) -> list[sqlite3.Row]:
        """`query` has one place, for the sweep's name."""
        return self.connection.execute(query, (self.name,)).fetchall()

    def trials(self) -> list[sqlite3.Row]:
        return self.rows("select * from trial_results where sweep_name = ? order by trial_index")

    def attempts(self) -> list[sqlite3.Row]:
        return self.rows("select * from attempts_history where sweep_name = ? order by trial_index, epoch")


def steps_in(sweep: Sweep, seconds: str) -> bool:
    """Prints how many steps a trial makes in so many seconds, judged by one that has finished."""
    (trial,) = sweep.trials()
    if trial["outcome"] != "succeeded":
        return broken(f"the trial ended as {trial['outcome']}: {trial['message']}")
    print(max(100, int(trial["steps"] / trial["train_seconds"] * float(seconds))))
    return True


def midway(sweep: Sweep) -> bool:
    """Whether trials are running, each with an evaluation made by its running attempt."""
    running = [attempt for attempt in sweep.attempts() if attempt["ending"] is None]
    newest = dict(sweep.rows("select trial_index, max(step) from learning_curves where sweep_name = ? group by 1"))
    return bool(running) and all(
        newest.get(attempt["trial_index"], 0) > attempt["first_step"] for attempt in running
    )


def handed_back(sweep: Sweep, times: str) -> bool:
    """No trial has ended, and each was handed back so often, by attempts that got somewhere."""
    show(sweep)
    for trial in sweep.trials():
        mine = [a for a in sweep.attempts() if a["trial_index"] == trial["trial_index"]]
        endings = [a["ending"] for a in mine]
        if trial["outcome"] is not None:
            return broken(f"trial {trial['trial_id']} has ended; it had to last longer than the job")
        if endings != ["released"] * int(times) or trial["phase"] != "pending":
            return broken(f"trial {trial['trial_id']} is {trial['phase']} after {endings}")
        if mine[-1]["last_step"] <= mine[-1]["first_step"]:
            return broken(f"trial {trial['trial_id']} made no step in its last attempt")
    return True


def expired(sweep: Sweep) -> bool:
    """Whether nothing runs any more and some lease has expired."""
    endings = [attempt["ending"] for attempt in sweep.attempts()]
    return None not in endings and "expired" in endings


def finished(sweep: Sweep) -> bool:
    (progress,) = sweep.rows("select * from sweep_progress where sweep_name = ?")
    return progress["status"] == "finished"


def verify(sweep: Sweep, trials: str, eval_every: str, kills: str) -> bool:
    """One outcome each, no failures, and nothing done twice but what a kill undid."""
    found = sweep.trials()
    if [t["outcome"] for t in found] != ["succeeded"] * int(trials):
        return broken(f"outcomes: {[t['outcome'] for t in found]}")
    for trial in found:
        where = f"trial {trial['trial_id']}"
        mine = [a for a in sweep.attempts() if a["trial_index"] == trial["trial_index"]]
        endings = [a["ending"] for a in mine]
        if trial["failures"]:
            return broken(f"{where}: {trial['failures']} attempts count as failures")
        if endings.count("succeeded") != 1 or endings[-1] != "succeeded":
            return broken(f"{where}: {endings}")
        if set(endings) - {"released", "expired", "succeeded"} or endings.count("expired") > int(kills):
            return broken(f"{where}: {endings}")
        for before, after in zip(mine, mine[1:]):
            lost = before["last_step"] - after["first_step"]
            most = int(eval_every) if before["ending"] == "expired" else 0
            if not 0 <= lost <= most:
                return broken(f"{where}: went on at step {after['first_step']} after {before['last_step']}")
        done = sum(a["last_step"] - a["first_step"] for a in mine)
        if done > trial["steps"] + int(kills) * int(eval_every):
            return broken(f"{where}: {done} steps for {trial['steps']}")
        if max(a["started"] for a in mine) > trial["finished"]:
            return broken(f"{where}: an attempt began after the outcome")
        print(f"{where}: {len(mine)} attempts, {done} steps executed for {trial['steps']}")
    return True


def slots(worker: Sweep, wanted: str) -> bool:
    """Whether the worker of that name has one slot, of that kind or with that in its device's name."""
    found = worker.rows(
        "select kind, device from worker_slots s join workers w on w.id = s.worker where w.name = ?"
    )
    if len(found) != 1 or wanted not in (found[0]["kind"], *found[0]["device"].split()):
        return False
    print(f"worker {worker.name}: one slot, {found[0]['kind']}, {found[0]['device']}")
    return True


def show(sweep: Sweep) -> bool:
    columns = ("trial_id", "epoch", "worker", "first_step", "last_step", "ending", "seconds")
    lines = [columns] + [tuple(str(a[c] if a[c] is not None else "-") for c in columns) for a in sweep.attempts()]
    for line in lines:
        print("  " + "".join(f"{cell:<12}" for cell in line).rstrip())
    return True


def broken(words: str) -> bool:
    print(f"check.py: {words}", file=sys.stderr)
    return False


QUESTIONS = {
    "steps-in": steps_in,
    "midway": midway,
    "handed-back": handed_back,
    "expired": expired,
    "finished": finished,
    "verify": verify,
    "slots": slots,
    "show": show,
}


def main() -> int:
    database, question, name, *rest = sys.argv[1:]
    return 0 if QUESTIONS[question](Sweep(database, name), *rest) else 1


if __name__ == "__main__":
    sys.exit(main())
