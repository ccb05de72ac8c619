"""Runs deptune and Optuna by turns and prints one table; see README.md."""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import urllib.parse
import uuid

HERE = pathlib.Path(__file__).resolve().parent
# What deptune runs on beside each of Optuna's storages.
BESIDE = {"sqlite": "sqlite", "journal": "sqlite", "grpc": "sqlite", "postgres": "postgres"}


def run(command, **variables):
    environment = {**os.environ, **variables}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=environment
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def fresh_database(address):
    """A database of its own on the same server: what an earlier run left would share the workers."""
    import psycopg2

    def say(words):
        connection = psycopg2.connect(address)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(words)
        connection.close()

    name = f"bench_{uuid.uuid4().hex}"
    say(f"create database {name}")
    try:
        yield urllib.parse.urlsplit(address)._replace(path=f"/{name}").geturl()
    finally:
        say(f"drop database {name}")


def run_at(storage, command):
    """Runs a command, beside Postgres with a database of its own in DATABASE_URL."""
    if storage != "postgres":
        return run(command)
    with fresh_database(os.environ["DATABASE_URL"]) as fresh:
        return run(command, DATABASE_URL=fresh)


def pair(args, storage, number):
    ours = [
        args.deptune, "--json", "bench", "dispatch", "--store", BESIDE[storage],
        "--workers", args.workers, "--seconds", f"{args.seconds}s", "--trials", "1000000",
        "--dir", args.dir,
    ]
    theirs = [
        sys.executable, HERE / "optuna_bench.py", "--storage", storage, "--workers", args.workers,
        "--seconds", args.seconds, "--trials", args.trials, "--dir", args.dir,
    ]
    found, other = (run_at(storage, [str(word) for word in words]) for words in (ours, theirs))
    found["system"] = "deptune"
    for one in (found, other):
        one["beside"], one["pair"] = storage, number
        yield one


def table(rows):
    """Medians per storage, number of workers and system."""
    groups = {}
    for row in rows:
        system = row["system"].split()[0]
        groups.setdefault((row["beside"], row["workers"], system), []).append(row)
    print("| beside | workers | system | runs | trials/s | p50 ms | p99 ms | distinct | "
          "floor/s | fsync ms | × Optuna |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for (storage, workers, system), runs in sorted(groups.items()):
        def median(key):
            values = [run[key] for run in runs if run.get(key) is not None]
            return statistics.median(values) if values else None

        def shown(value, digits):
            return "" if value is None else f"{value:,.{digits}f}"

        ratio = None
        other = groups.get((storage, workers, "optuna"))
        if system == "deptune" and other:
            by_pair = {run["pair"]: run["trials_per_second"] for run in other}
            ratios = [
                run["trials_per_second"] / by_pair[run["pair"]]
                for run in runs if run["pair"] in by_pair
            ]
            ratio = statistics.median(ratios) if ratios else None
        fsync = [run["machine"]["fsync_ms"] for run in runs if "machine" in run]
        share = min(run["distinct"] / run["trials"] for run in runs)
        print(
            f"| {storage} | {workers} | {runs[0]['system']} | {len(runs)} "
            f"| {shown(median('trials_per_second'), 1)} | {shown(median('p50_ms'), 2)} "
            f"| {shown(median('p99_ms'), 2)} | {share:.0%} | {shown(median('floor'), 0)} "
            f"| {shown(statistics.median(fsync) if fsync else None, 2)} | {shown(ratio, 1)} |"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deptune", help="the program")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=10_000, help="points of Optuna's grid")
    parser.add_argument("--only", choices=BESIDE)
    parser.add_argument("--dir", default=".", help="where the databases go")
    parser.add_argument("--results", default="results.jsonl")
    parser.add_argument("--table", metavar="RESULTS", help="only prints the medians of a file")
    args = parser.parse_args()
    if args.table:
        table([json.loads(line) for line in open(args.table)])
        return
    storages = [args.only] if args.only else ["sqlite", "journal", "grpc"]
    if "DATABASE_URL" in os.environ and not args.only:
        storages.append("postgres")
    try:
        first = sum(1 for _ in open(args.results))
    except FileNotFoundError:
        first = 0
    for number in range(args.pairs):
        for storage in storages:
            for one in pair(args, storage, first + number):
                with open(args.results, "a") as results:
                    results.write(json.dumps(one) + "\n")
    table([json.loads(line) for line in open(args.results)])


if __name__ == "__main__":
    main()
