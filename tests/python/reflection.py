"""Calls every RPC of a coordinator with a client that knows nothing but reflection.

Usage: reflection.py DATA_DIR, where a coordinator serves. No file of this project is imported and
no proto is read: names, types and streams all come from the server.
"""

import json
import pathlib
import sys
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

DATA = b'{"text": "good", "label": "yes"}\n'
# blake3 of DATA; Python's standard library does not have it.
HASH = "8e141e47108a95bb8caa3cebcd9e620f44f70e05fcacafecef66745eca2d750d"

SPEC = """
name = "reflected"
[model]
path = "models/tiny"
[task]
name = "own"
train = "train.jsonl"
template = "review: {text}"
label = "label"
labels = ["yes", "no"]
metrics = ["accuracy"]
[method]
kind = "dept"
[space]
prompt_lr = [0.3]
lowrank_lr = [5e-4]
prompt_length = [4]
rank = [4]
seeds = [42, 43]
[train]
steps = 10
max_length = 32
"""
MODEL_CONFIG = {
    "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128,
    "num_layers": 2, "num_heads": 4, "vocab_size": 256,
}
SERVICES = {
    "deptune.v1.SweepService",
    "deptune.v1.WorkerService",
    "deptune.v1.ArtifactService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
TIMEOUT = 30


class Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Shows the token with every call."""

    def __init__(self, token):
        self.metadata = [("authorization", f"Bearer {token}")]

    def _call(self, proceed, details, request):
        details = details._replace(metadata=(details.metadata or []) + self.metadata)
        return proceed(details, request)

    intercept_unary_unary = _call
    intercept_unary_stream = _call
    intercept_stream_unary = _call
    intercept_stream_stream = _call


class Server:
    """The server as reflection shows it."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)
        self.services = set(self.database.get_services())
        self.called = set()

    def methods(self, service):
        return self.pool.FindServiceByName(service).methods

    def call(self, service, name, *requests, limit=None):
        """Calls a method; returns its answer, or the list of its answers for a stream."""
        method = next(m for m in self.methods(service) if m.name == name)
        kind = ("stream" if method.client_streaming else "unary") + (
            "_stream" if method.server_streaming else "_unary"
        )
        request_type = message_factory.GetMessageClass(method.input_type)
        answer_type = message_factory.GetMessageClass(method.output_type)
        function = getattr(self.channel, kind)(
            f"/{service}/{name}",
            request_serializer=request_type.SerializeToString,
            response_deserializer=answer_type.FromString,
        )
        messages = [request_type(**request) for request in requests]
        argument = iter(messages) if method.client_streaming else messages[0]
        answer = function(argument, timeout=TIMEOUT)
        self.called.add((service, name))
        if not method.server_streaming:
            return answer
        answers = []
        for one in answer:
            answers.append(one)
            if limit is not None and len(answers) >= limit:
                answer.cancel()
                break
        return answers


def lease_of(lease):
    trial = lease.lease.trial
    return {"trial": {"sweep": trial.sweep, "index": trial.index}, "epoch": lease.lease.epoch}


def evaluation(step):
    metric = [{"name": "accuracy", "value": 75.0}]
    return {
        "step": step, "split": "validation", "loss": float("nan"), "metrics": metric,
        "constant": metric, "rows": 4, "seconds": 0.5,
    }


def artifacts(server):
    call = lambda name, *requests: server.call("deptune.v1.ArtifactService", name, *requests)
    assert list(call("FindMissing", {"hashes": [HASH]}).missing) == [HASH]
    for kind, existed in [("data", False), ("adapter", True)]:
        header = {"header": {"hash": HASH, "size": len(DATA), "kind": kind}}
        half = len(DATA) // 2
        answer = call("PutArtifact", header, {"chunk": DATA[:half]}, {"chunk": DATA[half:]})
        assert answer.existed == existed
    pieces = call("GetArtifact", {"hash": HASH})
    assert b"".join(piece.chunk for piece in pieces) == DATA
    assert pieces[0].size == len(DATA)


def submission(spec):
    return {
        "request_id": str(uuid.uuid4()), "spec": spec, "format": "toml",
        "model_config": json.dumps(MODEL_CONFIG),
        "data": [{"split": "train", "name": "train.jsonl", "hash": HASH, "size": len(DATA)}],
    }


def submit(server):
    call = lambda name, *requests: server.call("deptune.v1.SweepService", name, *requests)
    request = submission(SPEC)
    sweep = call("SubmitSweep", request).sweep
    assert call("SubmitSweep", request).sweep.id == sweep.id
    assert sweep.trials == 2
    assert call("GetSweep", {"sweep": "reflected"}).sweep.spec == SPEC
    assert [s.id for s in call("ListSweeps", {"page_size": 1}).sweeps] == [sweep.id]
    assert call("GetServerInfo", {}).protocols == ["deptune.v1"]
    return sweep


def work(server, sweep):
    call = lambda name, *requests: server.call("deptune.v1.WorkerService", name, *requests)
    worker = {"worker_id": str(uuid.uuid4())}
    slot = {"slot": 0, "kind": "cpu", "threads": 1, "device": "none"}
    registered = call(
        "RegisterWorker", {**worker, "name": "reflected", "version": "0.1.0", "slots": [slot]}
    )
    assert registered.lease_ttl_ms > registered.heartbeat_ms > 0

    def exchange(**request):
        return call("CompleteAndLease", {**worker, "request_id": str(uuid.uuid4()), **request})

    lease = exchange(free_slots=[0]).leases[0]
    held = lease_of(lease)
    assert json.loads(lease.settings_json)["prompt_length"] == 4
    progress = {"lease": held, "step": 5, "loss": 0.5, "steps_per_second": 2.0}
    assert not call("Heartbeat", {**worker, "leases": [progress]}).stops
    news = {"lease": held, "evaluations": [evaluation(5)], "checkpoint": {"step": 5, "hash": HASH}}
    assert not call("ReportProgress", {**worker, "trials": [news]}).stops
    text = {"trial": held["trial"], "epoch": held["epoch"], "offset": 0, "text": b"step 5\n"}
    answer = server.call("deptune.v1.ArtifactService", "AppendTrialLog", text)
    assert answer.length == 7

    result = {
        "metric_name": "accuracy", "metric": 75.0, "best_step": 10, "constant_metric": 50.0,
        "steps": 10, "trainable_parameters": 640, "train_seconds": 1.0,
    }
    report = {
        "lease": held, "last_step": 10, "evaluations": [evaluation(10)],
        "succeeded": {"result": result, "adapter_hash": HASH},
    }
    answer = exchange(reports=[report], free_slots=[0])
    assert answer.acks[0].verdict == 1 and len(answer.leases) == 1
    admin = lambda name, request: server.call("deptune.v1.AdminService", name, request)
    here = admin("ListWorkers", {}).workers
    assert [(one.worker_id, one.draining) for one in here] == [(worker["worker_id"], False)]
    admin("DrainWorker", worker)
    assert admin("ListWorkers", {"page_size": 1}).workers[0].draining
    assert call("Heartbeat", {**worker, "leases": []}).drain
    stale = {**report, "lease": {**held, "epoch": 7}}
    assert exchange(reports=[stale]).acks[0].verdict == 2
    call("LeaveWorker", worker)
    log = server.call("deptune.v1.ArtifactService", "ReadTrialLog", {"trial": held["trial"]})
    assert b"".join(piece.text for piece in log) == b"step 5\n"
    return held["trial"]


def results(server, sweep, trial):
    call = lambda name, *requests, **options: server.call(
        "deptune.v1.SweepService", name, *requests, **options
    )
    name = str(sweep.id)
    seen = call("WatchSweep", {"sweep": name}, limit=3)
    assert [message.entry.cursor for message in seen] == [1, 2, 3]
    assert call("CancelSweep", {"request_id": str(uuid.uuid4()), "sweep": name}).sweep.cancelled == 1
    rest = call("WatchSweep", {"sweep": name, "cursor": 3})
    assert rest[0].entry.cursor == 4
    assert rest[-1].entry.WhichOneof("what") == "finished"
    trials = call("ListTrials", {"sweep": name}).trials
    assert sorted(t.outcome for t in trials) == [1, 3]
    attempts = call("ListAttempts", {"trial": trial}).attempts
    assert [a.end for a in attempts] == ["succeeded"]
    board = call("GetLeaderboard", {"sweep": name})
    assert [(row.place, row.mean) for row in board.rows] == [(1, 75.0)]
    assert [e.evaluation.step for e in call("ListEvaluations", {"sweep": name}).evaluations] == [5, 10]
    rows = call("Query", {"sql": "select count(*) as n from trial_results"})
    assert list(rows[0].columns) == ["n"] and rows[0].rows[0].values[0].integer == 2


def control(server):
    def call(name, **request):
        request = {"request_id": str(uuid.uuid4()), **request}
        return server.call("deptune.v1.SweepService", name, request)

    spec = SPEC.replace('"reflected"', '"controlled"')
    sweep = call("SubmitSweep", **submission(spec)).sweep
    name, trial = str(sweep.id), {"sweep": sweep.id, "index": 0}
    explain = lambda: server.call("deptune.v1.SweepService", "ExplainTrial", {"trial": trial})
    assert call("PauseSweep", sweep=name).sweep.status == 4
    assert explain().reason == "paused"
    assert call("ResumeSweep", sweep=name).sweep.status == sweep.status
    assert explain().reason == "no_worker" and explain().explanation
    changed = call("ChangeSweep", sweep=name, priority=-3, weight=5, add_seeds=[44]).sweep
    assert (changed.priority, changed.weight, changed.trials) == (-3, 5, 3)
    assert call("CancelTrial", trial=trial).sweep.cancelled == 1
    again = {"request_id": str(uuid.uuid4()), "sweep": name, "trials": [0]}
    assert [call("RetryTrials", **again).sweep.trials for _ in range(2)] == [4, 4]
    assert call("DeleteSweep", sweep=name, preview=True).sweep.trials == 4
    assert call("CancelSweep", sweep=name).sweep.pending == 0
    assert call("DeleteSweep", sweep=name).sweep.trials == 4
    left = server.call("deptune.v1.SweepService", "ListSweeps", {}).sweeps
    assert sweep.id not in [one.id for one in left]


def health_and_reflection(server):
    for service in ["", "deptune.v1.SweepService"]:
        assert server.call("grpc.health.v1.Health", "Check", {"service": service}).status == 1
    assert server.call("grpc.health.v1.Health", "Watch", {"service": ""}, limit=1)[0].status == 1
    for version in ["v1", "v1alpha"]:
        service = f"grpc.reflection.{version}.ServerReflection"
        answers = server.call(service, "ServerReflectionInfo", {"list_services": "*"})
        names = {s.name for s in answers[0].list_services_response.service}
        assert SERVICES <= names, names


def refusals(server, address):
    try:
        server.call("deptune.v1.SweepService", "GetSweep", {"sweep": "nobody"})
        raise AssertionError("a sweep that is not there was found")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        assert b"UNKNOWN_SWEEP" in details and b"deptune" in details
    with grpc.insecure_channel(address) as channel:
        try:
            ProtoReflectionDescriptorDatabase(channel).get_services()
            raise AssertionError("reflection answered without the token")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            assert "token" in error.details()


def main():
    directory = pathlib.Path(sys.argv[1])
    found = json.loads((directory / "coordinator.json").read_text())
    token = pathlib.Path(found["token_file"]).read_text().strip()
    with grpc.insecure_channel(found["address"]) as plain:
        server = Server(grpc.intercept_channel(plain, Bearer(token)))
        assert SERVICES <= server.services, server.services
        artifacts(server)
        sweep = submit(server)
        trial = work(server, sweep)
        results(server, sweep, trial)
        control(server)
        health_and_reflection(server)
        refusals(server, found["address"])
        every = set()
        for service in sorted(server.services):
            for method in server.methods(service):
                every.add((service, method.name))
                shapes = ["stream " * s for s in (method.client_streaming, method.server_streaming)]
                print(
                    f"{service}/{method.name}({shapes[0]}{method.input_type.name})"
                    f" -> {shapes[1]}{method.output_type.name}"
                )
        left = every - server.called
        assert not left, f"never called: {sorted(left)}"
        print(f"{len(server.called)} methods of {len(server.services)} services were called")


if __name__ == "__main__":
    main()
