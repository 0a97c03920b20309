"""A request log as server/REQUEST_LOG.md describes it, written without the server and without the reader of the package:
from requests that a running server has answered, with Google's protobuf and zstandard."""

import base64
import datetime
import importlib.util
import json
import pathlib
import subprocess

from . import builds

ROUTE = "/score"


def history_messages(directory):
    """The module that protoc makes of proto/history.proto."""
    subprocess.run(["protoc", f"--proto_path={builds.TOP / 'proto'}", f"--python_out={directory}", "history.proto"], check=True)
    spec = importlib.util.spec_from_file_location("history_pb2", pathlib.Path(directory) / "history_pb2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runs_of(messages, values):
    """Consecutive values of one kind are a run."""
    runs = []
    for value in values:
        kind = ("absent" if value is None else "strings" if isinstance(value, str) else "integers" if isinstance(value, int)
                else "reals")
        if not runs or runs[-1][0] != kind:
            runs.append((kind, messages.HistoryRun(width=len(value) if isinstance(value, list) else 0)))
        run = runs[-1][1]
        if kind == "absent":
            run.absent += 1
        elif isinstance(value, list):
            run.reals.extend(value)
        else:
            getattr(run, kind).append(value)
    return [run for _, run in runs]


def history_of(messages, columns, name="clicks"):
    """A HistoryRecord in base64."""
    length = max(map(len, columns.values()), default=0)
    listed = messages.HistoryList(name=name, count=length, length=length, columns=[
        messages.HistoryColumn(name=field, runs=runs_of(messages, values)) for field, values in columns.items()])
    record = messages.HistoryRecord(revision=1, encoding=1, count=length, lists=[listed])
    return base64.b64encode(record.SerializeToString()).decode()


def record_of(reply, body, at, number, user=None, history=None, **more):
    """The record of an answered request: `body` as it was sent, `at` seconds since 1970; `user` as a plain id or not."""
    answer = reply.json()
    scores = [score for _, score in sorted(reply.scores().items())]
    time = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    members = {"time": time, "request_id": reply.headers["X-Request-Id"], "trace_id": f"{number + 1:032x}",
               "span_id": f"{number + 1:016x}", "sampled": True, "user_hash": user,
               "model": {"name": answer["model"], "version": answer["version"], "digest": reply.headers["X-Model-Digest"]},
               "method": "POST", "route": ROUTE, "content_type": "application/json",
               "body": {name: value for name, value in body.items() if name != "user_id"}, "history": history,
               "scores": scores, "order": [each["index"] for each in answer["results"]], "user_state": answer["user_state"],
               "history_count": answer["history"]["received"], "phases": {"score": 0.1, "total": 0.3}, "status": 200,
               "outcome": "ok", **more}
    return {name: value for name, value in members.items() if value is not None}


def compressed(records):
    """Records as one zstd frame."""
    import zstandard
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records)
    return zstandard.ZstdCompressor().compress(lines.encode())


def write(directory, records, frame=10, files=1):
    """Files of a log, `frame` records in each of their frames."""
    each = -(-len(records) // files)
    for number in range(files):
        some = records[number * each:(number + 1) * each]
        name = f"requests-20261128T0540{number:02d}Z-{number:06d}.jsonl.zst"
        (directory / name).write_bytes(b"".join(compressed(some[at:at + frame]) for at in range(0, len(some), frame)))
    return directory
