"""The work of `deptune bench dispatch` with Optuna: prints one JSON line.

A grid of distinct points, worker processes that ask, suggest and tell, nothing in between. The
sampler is Optuna's own for grids, with the same seed in every process, so that no point is taken
twice.
"""

import argparse
import json
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
import time

import optuna

STUDY = "bench"
SEEDS = 100


def grid(trials):
    """As many points as deptune's grid: rates x seeds."""
    seeds = min(trials, SEEDS)
    rates = -(-trials // seeds)
    return {"rate": [(n + 1) / 1e7 for n in range(rates)], "seed": list(range(1, seeds + 1))}


def storage(kind, place):
    if kind == "sqlite":
        return optuna.storages.RDBStorage(
            f"sqlite:///{place}/optuna.db", engine_kwargs={"connect_args": {"timeout": 120}}
        )
    if kind == "postgres":
        # SQLAlchemy names the driver in the address.
        return optuna.storages.RDBStorage(place.replace("postgres://", "postgresql+psycopg2://", 1))
    if kind == "journal":
        backend = optuna.storages.journal.JournalFileBackend(f"{place}/journal.log")
        return optuna.storages.JournalStorage(backend)
    if kind == "grpc":
        return optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=int(place))
    raise ValueError(kind)


def proxy(place, port):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.storages.run_grpc_proxy_server(storage("sqlite", place), host="127.0.0.1", port=port)


def work(kind, place, space, seconds, ready, go, results):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(
        study_name=STUDY,
        storage=storage(kind, place),
        sampler=optuna.samplers.GridSampler(space, seed=0),
    )
    most = len(space["rate"])
    ready.release()
    go.wait()
    start = time.perf_counter()
    latencies, points, held = [], [], None
    while True:
        before = time.perf_counter()
        over = before - start >= seconds
        if held is not None:
            try:
                study.tell(held, 0.5)
            except RuntimeError:
                # The sampler ends the study once the grid is through; the result was recorded.
                over = True
            points.append((held.params["rate"], held.params["seed"]))
        if over or len(points) >= most * len(space["seed"]):
            break
        held = study.ask()
        held.suggest_float("rate", 0, 1)
        held.suggest_int("seed", 1, SEEDS)
        latencies.append((time.perf_counter() - before) * 1e3)
    times = os.times()
    results.put((points, latencies, time.perf_counter() - start, times.user + times.system))


def run(args, directory):
    space = grid(args.trials)
    context = multiprocessing.get_context("spawn")
    place, server = directory, None
    if args.storage == "postgres":
        place = os.environ["DATABASE_URL"]
    if args.storage == "grpc":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = context.Process(target=proxy, args=(directory, port), daemon=True)
        server.start()
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        place = str(port)
    try:
        optuna.create_study(study_name=STUDY, storage=storage(args.storage, place))
        ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
        workers = [
            context.Process(
                target=work,
                args=(args.storage, place, space, args.seconds, ready, go, results),
            )
            for _ in range(args.workers)
        ]
        for worker in workers:
            worker.start()
        for _ in workers:
            ready.acquire()
        load = os.getloadavg()[0]
        go.set()
        done = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
    finally:
        if server is not None:
            server.kill()
    points = [point for one in done for point in one[0]]
    latencies = sorted(latency for one in done for latency in one[1])
    seconds = max(one[2] for one in done)
    count = len(points)

    def quantile(percent):
        return latencies[min(len(latencies) * percent // 100, len(latencies) - 1)]

    return {
        "system": f"optuna {optuna.__version__}",
        "store": args.storage,
        "workers": args.workers,
        "trials": count,
        "distinct": len(set(points)),
        "seconds": seconds,
        "trials_per_second": count / seconds,
        "p50_ms": quantile(50),
        "p99_ms": quantile(99),
        "worker_cpu_ms": sum(one[3] for one in done) * 1e3 / max(count, 1),
        "load": load,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage", choices=["sqlite", "postgres", "journal", "grpc"])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--dir", default=".")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="optuna-bench-", dir=args.dir) as directory:
        json.dump(run(args, directory), sys.stdout)
        print()


if __name__ == "__main__":
    main()
