"""The request log from records to results: read, replayed at a real server and at PyTorch, joined with clicks, trained on.

The log is written by tests/support/request_log.py, from the page of its format and not by the package's own code.
"""

import base64
import collections
import hashlib
import hmac
import json
import random
import socket
import threading
import time

import numpy as np
import pytest

from dien.model import model_directory, safetensors
from dien.model.config import field_of
from dien.request_log import NotReplayable, Reader, Record, read
from dien.request_log.labels import Counts, join
from dien.request_log.messages import MessageError, history_of, request_of
from dien.serving.load import Shot, Target, closed_loop, open_loop
from support import messages as score_messages
from support import request_log, service

pytestmark = [pytest.mark.only_on("release"),  # the tools are new here, the server's code is not
              pytest.mark.xdist_group("request log")]

BEGAN = 1_800_000_000.0
USERS = 12


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """history.proto by protoc."""
    return request_log.history_messages(tmp_path_factory.mktemp("messages"))


@pytest.fixture(scope="module")
def logged(server, demo, stored, tmp_path_factory):
    """(directory, records, whole requests): users who send histories, tokens with appends, their id alone; and strangers."""
    rng, records, whole = random.Random(20), [], []
    with server.client() as client:
        for number in range(60):
            body = demo.request(rng, history=3 + number % 9, candidates=3 + number % 20)
            user = f"user-{number % USERS}"
            whole.append(dict(body))
            history, sent = None, dict(body)
            if number % 4 == 1:  # in two parts, the second with a token
                columns = body["history"]
                first = {name: values[:-1] for name, values in columns.items()}
                token = client.post({**body, "history": first, "user_id": user}).json()["history"]["token"]
                sent = {**sent, "history_token": token, "history_append": {name: values[-1:] for name, values in columns.items()}}
            if number % 4 == 2:  # held
                assert client.post({"history": body["history"]}, f"/users/{user}/history").status == 200
            if number % 4 in (1, 2):
                del sent["history"]
                history = request_log.history_of(stored, body["history"])
            if number % 4 == 3:
                user = None
            if number % 5 == 0:
                sent["top_k"] = whole[-1]["top_k"] = 2
            reply = client.post({**sent, "user_id": user} if user else sent)
            full = client.post({name: value for name, value in body.items()})
            record = request_log.record_of(reply, sent, BEGAN + 0.01 * number, number, user, history)
            record["scores"] = [score for _, score in sorted(full.scores().items())]
            records.append(record)
    directory = tmp_path_factory.mktemp("log")
    return request_log.write(directory, records, files=2), records, whole


def report_of(run):
    assert run.returncode in (0, 1), run.stderr
    return json.loads(run.stdout)


def url_of(server):
    return "http://%s:%d" % server.address


# Reading.

def test_records_are_read_in_order(logged):
    directory, records, whole = logged
    reader = Reader(directory)
    assert [dict(record.members) for record in reader] == records
    assert reader.damaged == [] and len(reader.files) == 2
    assert [dict(record.members) for record in reader] == records, "and once more"
    for record, request in zip(read(directory), whole):
        assert record.request(with_user=False) == request
        assert record.request().get("user_id") == record.members.get("user_hash")


def test_damaged_ends(logged, tmp_path):
    """Cut at every place of the last frame: all frames before it are there, and the file is named."""
    records = logged[1][:6]
    frames = [request_log.compressed(records[:3]), request_log.compressed(records[3:])]
    path = tmp_path / "requests-20261128T054000Z-000000.jsonl.zst.open"
    for cut in (*range(0, len(frames[1]), 37), len(frames[1]) - 1, len(frames[1])):
        path.write_bytes(frames[0] + frames[1][:cut])
        reader = Reader(tmp_path)
        found = [dict(record.members) for record in reader]
        assert found == (records if cut == len(frames[1]) else records[:3])
        assert bool(reader.damaged) == (0 < cut < len(frames[1])), cut
    path.write_bytes(frames[0] + b"\0" * 100)
    reader = Reader(path)
    assert len(list(reader)) == 3 and str(path) in reader.damaged[0]
    path.write_bytes(b"")
    assert list(read(path)) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no file of a request log"):
        list(read(tmp_path / "empty"))
    plain = tmp_path / "requests-1.jsonl"
    plain.write_text('{"time": "2026-11-28T05:40:12.5Z"}\n[]\n')
    with pytest.raises(ValueError, match="requests-1.jsonl: line 2: no record"):
        list(read(plain))


def test_a_history_of_every_kind_of_value(stored):
    columns = {"item": ["a", "Ж", None, None, "b"], "count": [1, -5, 2 ** 62, None, 0], "price": [0.5, None, 1e300, -0.0, 2.0],
               "vector": [[1.0, 2.0], [3.0, 4.0], None, None, [5.0, 6.0]], "mixed": ["x", 5, None, 2.5, 7]}
    data = base64.b64decode(request_log.history_of(stored, columns))
    assert history_of(data) == columns
    assert history_of(base64.b64decode(request_log.history_of(stored, {}))) == {}
    for cut in range(1, len(data)):
        try:
            history_of(data[:cut])
        except (MessageError, UnicodeDecodeError):
            pass
    with pytest.raises(MessageError, match="encoding 0"):
        history_of(b"")
    with pytest.raises(MessageError, match="encoding 7"):
        history_of(stored.HistoryRecord(encoding=7).SerializeToString())


def test_a_message_is_the_request_that_it_stands_for(demo, tmp_path, rng):
    compiled = score_messages.compiled(tmp_path)
    body = {**demo.request(rng, history=4, candidates=3), "user_id": "u", "top_k": 2, "explain": True}
    assert request_of(score_messages.message_of(compiled, body).SerializeToString()) == body
    with pytest.raises(MessageError):
        request_of(b"\x0a\x05ab")


def record(**members):
    return Record({"time": "2026-11-28T05:40:12Z", "route": "/score", "content_type": "application/json", **members})


def test_what_cannot_be_replayed_says_so():
    body = {"candidates": {"item": ["a"]}}
    assert record(body=body, user_state="absent", user_hash="h").request() == {**body, "history": {}, "user_id": "h"}
    assert record(body=body).request() == body
    for members, words in (({}, "no body"), ({"body": {**body, "history_token": "0"}}, "history that was used"),
                           ({"body": body, "history_count": 3, "user_hash": "h"}, "history that was used"),
                           ({"body": body, "history": "AAAA"}, "its history"), ({"body": [1]}, "no object"),
                           ({"body_base64": "e30="[:2]}, ""), ({"body_base64": "bm8="}, "")):
        with pytest.raises(NotReplayable, match=words):
            record(**members).request()
    assert record(body_base64="eyJjYW5kaWRhdGVzIjogW119").request() == {"candidates": []}, "refused before it was decoded"


def test_parquet_without_pyarrow_is_a_clear_error(logged, tmp_path):
    from dien.request_log import write_parquet
    try:
        import pyarrow.parquet
    except ImportError:
        with pytest.raises(ValueError, match="pyarrow"):
            write_parquet(read(logged[0]), str(tmp_path / "log.parquet"))
        return
    assert write_parquet(read(logged[0]), str(tmp_path / "log.parquet")) == 60
    rows = pyarrow.parquet.read_table(tmp_path / "log.parquet").to_pylist()
    assert [json.loads(row["body"]) for row in rows] == [each["body"] for each in logged[1]]
    assert [row["order"] for row in rows] == [each["order"] for each in logged[1]]


# Replay.

def test_the_same_server_has_the_same_bits(dien, server, logged):
    report = report_of(dien("replay", logged[0], "--url", url_of(server), "--compare", "--speed", "max", "--json",
                            "--tolerance", "0"))
    compared = report["comparison"]
    assert compared["requests"] == 60 and compared["equal_bits"] == compared["scores"] == sum(
        len(record["scores"]) for record in logged[1])
    assert compared["largest_difference"] == 0 and compared["same_first"] == compared["overlap_at_10"] == 1
    assert report["load"]["statuses"] == {"200": 60} and report["skipped"] == {} and compared["users"] == []


def test_pytorch_agrees(dien, demo, logged):
    """Skew between training and serving: none, beyond float32."""
    run = dien("replay", logged[0], "--model", demo.path, "--json")
    compared = report_of(run)["comparison"]
    assert run.returncode == 0 and 0 < compared["largest_difference"] < 1e-5 and compared["requests"] == 60


@pytest.fixture(scope="module")
def perturbed(demo, tmp_path_factory):
    """(directory, item): the demo model with one item's embedding moved."""
    scorer = model_directory.load(demo.path)
    item = "B10"
    tensors = dict(safetensors.read_stored(str(demo.path / "model.safetensors")))
    tensors = {name: tensor.widened() if isinstance(tensor, safetensors.BF16) else np.array(tensor)
               for name, tensor in tensors.items()}
    tensors["tables.item"][scorer.wire.row(field_of(scorer.config, "item"), item)] += 0.5
    directory = tmp_path_factory.mktemp("perturbed") / "model"
    samples = [{key: value for key, value in sample.items() if key != "scores"}
               for sample in model_directory.read_samples(demo.path)]
    model_directory.save(directory, {**scorer.config, "version": "2"}, tensors, samples)
    return directory, item


def test_the_perturbed_item_is_found(dien, build, demo, perturbed, stored, tmp_path, rng):
    """By another server, and by PyTorch: the item whose embedding was moved is the one that differs most."""
    directory, item = perturbed
    records = []
    with service.Service(build, demo.path) as running, running.client() as client:
        for number in range(40):
            body = demo.request(rng, history=5, candidates=12)
            for column in ("history", "candidates"):  # only candidates have it
                body[column] = {"item": [each if each != item else "A13" for each in body[column]["item"]]}
            if number % 3 == 0:
                body["candidates"]["item"][number % 12] = item
            reply = client.post(body)
            records.append(request_log.record_of(reply, body, BEGAN + number, number, f"u{number}"))
    request_log.write(tmp_path, records)
    with service.Service(build, directory) as other:
        run = dien("replay", tmp_path, "--url", url_of(other), "--compare", "--speed", "max", "--json", "--tolerance", "1e-5")
    reports = [report_of(run), report_of(dien("replay", tmp_path, "--model", directory, "--json"))]
    assert run.returncode == 1
    for report in reports:
        compared = report["comparison"]
        assert compared["items"][0]["name"] == item and compared["largest_difference"] > 1e-3
        assert {each["name"] for each in compared["users"] if each["largest"] > 1e-5} \
            <= {f"u{number}" for number in range(0, 40, 3)}
    text = dien("replay", tmp_path, "--model", directory).stdout
    assert f"item {item} " in text and "largest difference" in text


def test_protobuf_records(dien, server, demo, tmp_path, rng):
    """Sent as they came, with the user behind; compared as JSON."""
    compiled = score_messages.compiled(tmp_path)
    body = demo.request(rng, history=4, candidates=6)
    with server.client() as client:
        reply = client.post(body)
    message = base64.b64encode(score_messages.message_of(compiled, body).SerializeToString()).decode()
    one = request_log.record_of(reply, body, BEGAN, 0, "protobuf-user", content_type="application/x-protobuf",
                                body_base64=message)
    del one["body"]
    request_log.write(tmp_path, [one])
    with server.client() as client:
        assert client.ask("DELETE", "/users/protobuf-user").status == 204
        assert report_of(dien("replay", tmp_path, "--url", url_of(server), "--json"))["load"]["statuses"] == {"200": 1}
        assert client.get("/users/protobuf-user").status == 200
    report = report_of(dien("replay", tmp_path, "--url", url_of(server), "--compare", "--json"))
    assert report["comparison"]["equal_bits"] == 6


def test_what_is_left_out_is_counted(dien, server, logged, tmp_path):
    good = logged[1][0]
    records = [good, {**good, "route": "/users/{id}/history"}, {name: value for name, value in good.items() if name != "scores"},
               {**good, "body": {**good["body"], "history_token": "0" * 32}}]
    request_log.write(tmp_path, records)
    report = report_of(dien("replay", tmp_path, "--url", url_of(server), "--compare", "--json"))
    assert report["skipped"] == {"no requests for scores": 1, "without scores": 1,
                                 "without a history or a body that was understood": 1}
    run = dien("replay", tmp_path, "--url", url_of(server), "--speed", "-1")
    assert run.returncode == 1 and "--speed -1: neither" in run.stderr
    assert dien("replay", tmp_path).returncode == 2
    report = report_of(dien("replay", tmp_path, "--url", "http://127.0.0.1:1", "--limit", "1", "--json"))
    assert report["load"]["statuses"] == {"ConnectionRefusedError": 1}


# Load.

class Slow:
    """A server that takes `seconds` for each request, one at a time, and notes when they came."""

    def __init__(self, seconds):
        self.seconds, self.came = seconds, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                self.came.append(time.perf_counter())
                assert line.startswith(b"POST /score")
                lengths = [each for each in iter(reader.readline, b"\r\n") if each.lower().startswith(b"content-length")]
                reader.read(int(lengths[0].split(b":")[1]))
                time.sleep(self.seconds)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        self.listener.close()


def test_an_open_loop_counts_the_wait():
    """Ten requests are due at once, and the server takes 20 ms for each: the last has waited for the others. In a closed
    loop none has."""
    slow = Slow(0.02)
    target = Target.of(slow.url)
    shots = [Shot(0.0, target.request("/score", b"{}", {}), key) for key in range(10)]
    seen = []
    measured = open_loop(target, shots, 1, lambda key, status, body: seen.append((key, status, body)))
    assert seen == [(key, 200, b"{}") for key in range(10)]
    assert sorted(measured.latencies) == list(measured.latencies) and measured.latencies[-1] >= 0.2
    assert measured.report()["sent_late_ms"]["max"] >= 180
    slow = Slow(0.02)
    measured = closed_loop(Target.of(slow.url), shots, 1)
    assert measured.latencies[-1] < measured.seconds / 2 and measured.report()["statuses"] == {"200": 10}


def test_an_open_loop_keeps_to_its_times():
    slow = Slow(0)
    target = Target.of(slow.url)
    measured = open_loop(target, [Shot(0.15 * key, target.request("/score", b"{}", {}), key) for key in range(4)], 1)
    assert all(later - earlier >= 0.1 for earlier, later in zip(slow.came, slow.came[1:])) and measured.seconds >= 0.45


def test_times_and_factors(dien, server, logged):
    """60 requests in 0.59 s of the record; half as fast takes 1.2 s at least."""
    fast = report_of(dien("replay", logged[0], "--url", url_of(server), "--json"))["load"]
    slow = report_of(dien("replay", logged[0], "--url", url_of(server), "--json", "--speed", "0.5"))["load"]
    assert fast["statuses"] == slow["statuses"] == {"200": 60}
    assert fast["seconds"] >= 0.59 and slow["seconds"] >= 1.18
    assert fast["latency_ms"]["p50"] <= fast["latency_ms"]["p99"] <= fast["latency_ms"]["max"]


def test_over_a_unix_socket(dien, start, logged, tmp_path):
    start("--listen", f"unix:{tmp_path / 's'}")
    report = report_of(dien("replay", logged[0], "--url", f"unix:{tmp_path / 's'}", "--speed", "max", "--connections", "2",
                            "--json"))
    assert report["load"]["statuses"] == {"200": 60}


def test_the_log_that_a_server_has_written(dien, start, demo, server, tmp_path, rng):
    """Histories that were sent, named by a token, and held: replayed at a server that has none of the users, with the same
    bits, in their traces; by PyTorch; and joined with clicks by the key of the hashes."""
    (tmp_path / "key").write_text("the operator's\n")
    running = start("--request-log", tmp_path / "log", "--hash-key-file", tmp_path / "key")
    clicked = []
    with running.client() as client:
        for number in range(20):
            body = demo.request(rng, history=4, candidates=8)
            user, history = f"u{number}", body.pop("history")
            token = client.post({**body, "user_id": user, "history": history}).json()["history"]["token"]
            one = {name: values[:1] for name, values in history.items()}
            for sent in ({"history_token": token, "history_append": one}, {"top_k": 3}):
                reply = client.post({**body, **sent, "user_id": user})
                assert reply.status == 200 and reply.json()["history"]["received"] == 5
            clicked.append({"user": user, "item": reply.json()["results"][0]["item"], "time": time.time()})
    running.stop()
    log = tmp_path / "log"
    compared = report_of(dien("replay", log, "--url", url_of(server), "--compare", "--speed", "max", "--json", "--trace"))
    assert compared["comparison"]["requests"] == 60 and compared["comparison"]["largest_difference"] == 0
    assert compared["comparison"]["equal_bits"] == compared["comparison"]["scores"] == 480
    assert server.logged(next(read(log)).request_id)["http.route"] == "/score"
    assert 0 < report_of(dien("replay", log, "--model", demo.path, "--json"))["comparison"]["largest_difference"] < 1e-5
    (tmp_path / "clicks.jsonl").write_text("".join(json.dumps(each) + "\n" for each in clicked))
    run = dien("label", log, "--clicks", tmp_path / "clicks.jsonl", "--user-key-file", tmp_path / "key", "--output",
               tmp_path / "shown.jsonl")
    assert run.returncode == 0 and "60 requests" in run.stdout and "20 of them clicked; 0 clicks belong to none" in run.stdout
    rows = [json.loads(line) for line in (tmp_path / "shown.jsonl").read_text().splitlines()]
    assert sum(row["log_event"] == "behaviour" for row in rows) == 20 * (4 + 5 + 5), "histories as they were at scoring time"


# Labels.

def test_clicks_become_labels(logged):
    directory, records, whole = logged
    first = next(record for record in records if record.get("user_hash") == "user-0")
    shown = first["body"]["candidates"]["item"]
    last_of_item = max(record["time"] for record in records if record.get("user_hash") == "user-0"
                       and shown[0] in [record["body"]["candidates"]["item"][place] for place in record["order"]])
    clicks = [("user-0", shown[first["order"][0]], BEGAN + 5), ("user-0", "never shown", BEGAN + 5), ("nobody", shown[0], BEGAN),
              ("user-0", shown[first["order"][0]], BEGAN + 90_000)]
    counts = Counts()
    rows = list(join(Reader(directory), clicks, counts))
    assert counts.requests == sum("user_hash" in record for record in records)
    assert counts.skipped == {"without a user": sum("user_hash" not in record for record in records)}
    assert counts.clicked == 1 and counts.strays == 3 and last_of_item
    by_request = collections.defaultdict(list)
    for row in rows:
        by_request[row["log_request"]].append(row)
    with_user = [(record, request) for record, request in zip(records, whole) if "user_hash" in record]
    for (record, request), made in zip(with_user, by_request.values()):
        history = [row for row in made if row["log_event"] == "behaviour"]
        assert [row["item"] for row in history] == request["history"]["item"] and {row["log_label"] for row in history} == {1}
        impressions = [row for row in made if row["log_event"] == "impression"]
        assert [row["item"] for row in impressions] == list(dict.fromkeys(
            request["candidates"]["item"][place] for place in record["order"]))
        assert [row["log_score"] for row in impressions][0] == max(row["log_score"] for row in impressions)
        assert all(row["country"] == request["user"]["country"] for row in made)
        assert max(row["log_time"] for row in history) < min(row["log_time"] for row in impressions)


def test_the_log_trains_a_model(dien, build, tmp_path, demo, server, rng):
    """Clicks follow a rule that the log shows; a model of the joined file, by the recipe that was written for it, ranks by
    the rule, over histories as they were at scoring time."""
    items = [f"A{number}" for number in range(1, 11)]
    records, clicks = [], ["who,what,when"]
    with server.client() as client:
        for number in range(400):
            liked = number % 2
            body = {"user": {"country": 29}, "context": {"month": 8}, "history": {"item": rng.choices(items[liked::2], k=6)},
                    "candidates": {"item": rng.sample(items, 6)}}
            reply = client.post(body)
            assert reply.status == 200
            records.append(request_log.record_of(reply, body, BEGAN + 60 * number, number, f"h{number % 50}"))
            for item in body["candidates"]["item"]:
                if item in items[liked::2]:
                    clicks.append(f"h{number % 50},{item},{BEGAN + 60 * number + 5}")
    (tmp_path / "log").mkdir()
    request_log.write(tmp_path / "log", records, frame=50)
    (tmp_path / "clicks.csv").write_text("\n".join(clicks) + "\n")
    run = dien("label", tmp_path / "log", "--clicks", tmp_path / "clicks.csv", "--columns", "who", "what", "when",
               "--output", tmp_path / "shown.jsonl", "--recipe", tmp_path / "shown.toml", "--name", "shown")
    assert run.returncode == 0, run.stderr
    assert "400 requests, 2400 impressions" in run.stdout and "0 clicks belong to none" in run.stdout
    page = (tmp_path / "shown.toml").read_text()
    (tmp_path / "shown.toml").write_text(page + "[network]\nhidden = [16]\n[training]\nepochs = 6\nbatch = 64\nrate = 0.01\n")
    run = dien("train", tmp_path / "shown.toml", "--checkpoint", tmp_path / "model.pt", "--output", tmp_path / "model")
    assert run.returncode == 0, run.stderr
    assert "leak" not in run.stdout + run.stderr
    with service.Service(build, tmp_path / "model") as running:
        for liked in (0, 1):
            reply = running.score({"user": {"country": 29}, "context": {"month": 8}, "history": {"item": items[liked::2]},
                                   "candidates": {"item": items}})
            assert reply.status == 200, reply
            best = [result["item"] for result in reply.json()["results"][:5]]
            assert set(best) == set(items[liked::2]), best


def test_hashed_users(tmp_path, dien, server, demo, rng):
    """The key by which the server hashes joins clicks of plain users with it."""
    key = b"a key of the operator's"
    body = demo.request(rng, history=3, candidates=4)
    with server.client() as client:
        reply = client.post(body)
    hashed = hmac.new(key, b"u42", hashlib.sha256).hexdigest()[:32]
    (tmp_path / "log").mkdir()
    request_log.write(tmp_path / "log", [request_log.record_of(reply, body, BEGAN, 0, hashed)])
    (tmp_path / "key").write_bytes(key + b"\n")
    item = body["candidates"]["item"][2]
    (tmp_path / "clicks.jsonl").write_text(json.dumps({"user": "u42", "item": item, "time": BEGAN + 1}) + "\n")
    run = dien("label", tmp_path / "log", "--clicks", tmp_path / "clicks.jsonl", "--user-key-file", tmp_path / "key", "--output",
               tmp_path / "out.jsonl")
    assert run.returncode == 0 and "1 of them clicked; 0 clicks belong to none" in run.stdout, run.stderr + run.stdout
