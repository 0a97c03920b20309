"""--request-log: what is in the files is what was asked and answered, and the records score again to the same bits."""

import gzip
import json
import random
import re
import subprocess
import sys
import threading
import time

import pytest

from support import builds, histories, messages

sys.path.insert(0, str(builds.TOP / "model" / "export"))

from dien.request_log import read  # noqa: E402


@pytest.fixture
def logged(start, tmp_path):
    """logged(*options): a server whose records go to the folder in its `records`."""
    def begin(*options, **variables):
        folder = tmp_path / f"records-{len(list(tmp_path.iterdir()))}"
        server = start("--request-log", folder, *options, **variables)
        server.records = folder
        return server
    return begin


def records_of(server):
    """All records of a server, which is stopped for that: then each is in a file."""
    server.stop()
    assert not list(server.records.glob("*.open"))
    return list(read(str(server.records)))


def results(reply):
    return [(result["index"], result["score"]) for result in reply.json()["results"]]


def forms(demo, rng, module):
    """(name, body in bytes, headers) of one request in each form."""
    body = demo.request(rng, history=9, candidates=6)
    rows = {**body, **{name: [dict(zip(body[name], row)) for row in zip(*body[name].values())]
                       for name in ("history", "candidates")}}
    text = json.dumps(body).encode()
    spread = json.dumps({"user_id": "Zoë", **body}, indent=1).encode()
    message = messages.message_of(module, {**body, "user_id": "u7"}).SerializeToString()
    protobuf = {"Content-Type": messages.MEDIA_TYPE, "Accept": "application/json"}
    return [("columns", text, {}), ("rows", json.dumps(rows).encode(), {}), ("spread", spread, {}),
            ("gzip", gzip.compress(text), {"Content-Encoding": "gzip"}), ("message", message, protobuf),
            ("gzip-message", gzip.compress(message), {**protobuf, "Content-Encoding": "gzip"}),
            ("top", json.dumps({**body, "top_k": 2}).encode(), {})]


def test_each_form_of_a_request(logged, demo, server, tmp_path):
    module = messages.compiled(tmp_path)
    asked = forms(demo, random.Random(1), module)
    running = logged()
    replies = {}
    with running.client() as client:
        for name, body, headers in asked:
            replies[name] = client.post(body, **{"X-Request-Id": name, **headers})
            assert replies[name].status == 200, replies[name]
    records = {record.request_id: record for record in records_of(running)}
    assert set(records) == {name for name, _, _ in asked}
    with server.client() as again:
        for name, body, headers in asked:
            members = records[name].members
            assert (members["status"], members["outcome"], members["route"]) == (200, "ok", "/score")
            assert members["sampled"] is True and "history" not in members
            assert members["model"]["digest"] == replies[name].headers["X-Model-Digest"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", members["time"])
            assert abs(records[name].time - time.time()) < 600
            assert {"decode", "score", "total"} <= set(members["phases"])
            assert b"user_id" not in json.dumps(members).encode().replace(b'"user_hash"', b"")
            repeated = again.post(records[name].request())
            assert results(repeated) == [(place, records[name].scores[place]) for place in records[name].order]
            assert len(records[name].scores) == 6
            if not headers.get("Accept"):
                assert results(replies[name]) == [(i, records[name].scores[i]) for i in records[name].order]
    assert {name for name, record in records.items() if "user_hash" in record.members} == {"spread", "message", "gzip-message"}
    assert records["message"].user == records["gzip-message"].user != records["spread"].user


def test_histories_that_the_server_held(logged, demo, server):
    """By token, by append, by user's id: the record has the behaviours, and scores to the same bits without any."""
    rng = random.Random(2)
    running = logged()
    with running.client() as client:
        for user in ("ann", "bob"):
            body, history = histories.split(demo, rng)
            for name, values in history.items():
                values[5] = demo.unknown_value(rng, name)
            first = client.post({**body, "user_id": user, "history": history})
            token = first.json()["history"]["token"]
            client.post({**body, "user_id": user, "history_token": token})
            more = {name: rng.sample(demo.known_ids(name), 3) for name in history}
            client.post({**body, "user_id": user, "history_token": token, "history_append": more})
            client.post({**body, "user_id": user})
            client.post({"history_append": more}, f"/users/{user}/history")
        client.post({**demo.request(rng, history=0), "user_id": "nobody", "history": None})
    records = records_of(running)
    assert len(records) == 11
    assert sum("history" in record.members for record in records) == 8
    with server.client() as plain:
        for record in records:
            if record.is_scored:
                scores = plain.post(record.request(with_user=False)).scores()
                assert [scores[place] for place in range(len(scores))] == record.scores, record
    updates = [record for record in records if record.route == "/users/{id}/history"]
    assert [record.members["history_count"] for record in updates] == [18, 18]
    assert "bob" not in json.dumps([record.members for record in records])


def test_a_trace_is_in_the_reply_the_log_and_the_record(logged, demo):
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    running = logged()
    body = demo.request(random.Random(12))
    with running.client() as client:
        traced = client.post(body, **{"X-Request-Id": "traced", "traceparent": f"00-{trace}-{parent}-01"})
        other = client.post(body, **{"X-Request-Id": "other", "traceparent": f"00-{trace}-{parent}-1"})
    told = traced.headers["traceparent"].split("-")
    assert told[0] == "00" and told[1] == trace and told[2] != parent and told[3] == "01"
    assert "traceparent" not in other.headers
    line = running.logged("traced")
    assert (line["trace_id"], line["span_id"]) == (trace, told[2])
    assert "trace_id" not in running.logged("other")
    records = {record.request_id: record.members for record in records_of(running)}
    assert (records["traced"]["trace_id"], records["traced"]["span_id"]) == (trace, told[2])
    assert "trace_id" not in records["other"]


def test_histories_of_the_store(logged, demo, server, tmp_path):
    """What the store held is in the record, whether it was read, appended to or confirmed."""
    rng = random.Random(13)
    running = logged("--histories", f"lmdb:{tmp_path / 'histories'}")
    body, history = histories.split(demo, rng)
    with running.client() as client:
        for number in range(2):
            part = {name: values[6 * number:6 * number + 6] for name, values in history.items()}
            assert client.post({"history_append": part, "event_id": str(number)}, "/users/u/history").status == 200
            for _ in range(2):
                assert client.post({**body, "user_id": "u"}).status == 200
    records = records_of(running)
    assert [record.members["history_count"] for record in records] == [6, 6, 6, 12, 12, 12]
    assert {record.members["history_origin"] for record in records} == {"store"}
    assert all("history" in record.members for record in records)
    with server.client() as plain:
        for record in records:
            if record.is_scored:
                scores = plain.post(record.request(with_user=False)).scores()
                assert [scores[place] for place in range(len(scores))] == record.scores


def test_a_store_that_is_down(logged, demo):
    running = logged("--histories", "redis://127.0.0.1:1", "--user-write", "public")
    body, history = histories.split(demo, random.Random(14))
    with running.client() as client:
        assert client.post({**body, "user_id": "u"}).status == 503
        assert client.post({"history_append": history, "event_id": "1"}, "/users/u/history").status == 503
    records = records_of(running)
    assert [(record.outcome, record.route) for record in records] == [
        ("histories-unavailable", "/score"), ("histories-unavailable", "/users/{id}/history")]
    assert all(record.members["body"] for record in records)


def test_without_histories(logged, demo):
    running = logged("--request-log-history", "off")
    body, history = histories.split(demo, random.Random(3))
    with running.client() as client:
        token = client.post({**body, "user_id": "u", "history": history}).json()["history"]["token"]
        client.post({**body, "user_id": "u", "history_token": token})
    assert [set(record.members) & {"history"} for record in records_of(running)] == [set(), set()]


# Bodies that are no requests, and name a user where only a reader finds it.
NO_REQUESTS = ('{"user_id": "ann", broken', '{"request": {"user_id": "ann"}}', '{"user_id": "\\ud800", "candidates": nonsense}')


@pytest.mark.parametrize("users", ["plain", "hash", "none"])
def test_users(logged, demo, users, tmp_path):
    key = tmp_path / "key"
    key.write_text("a secret\n")
    hashes = []
    for _ in range(2):
        running = logged("--request-log-users", users, "--hash-key-file", key)
        with running.client() as client:
            for user in ("ann", "bob", "ann"):
                client.post(demo.request(random.Random(4), user_id=user))
            for body in NO_REQUESTS:
                assert client.post(body).status == 400
        *records, first, second, third = records_of(running)
        found = [(record.members.get("user_id"), record.members.get("user_hash")) for record in records]
        if users == "plain":
            assert [record.members["body"]["user_id"] for record in records] == ["ann", "bob", "ann"]
            assert all(record.members["body_base64"] for record in (first, second, third))
        else:
            assert not any("user_id" in record.members["body"] for record in records)
            assert not any({"body", "body_base64"} & set(record.members) for record in (first, second, third))
        assert [user for user, _ in found] == (["ann", "bob", "ann"] if users == "plain" else [None] * 3)
        hashes.append([digest for _, digest in found])
    assert hashes[0] == hashes[1]
    if users == "hash":
        assert hashes[0][0] == hashes[0][2] != hashes[0][1] and re.fullmatch("[0-9a-f]{32}", hashes[0][0])


def test_a_share_of_users_and_all_that_fail(logged, demo):
    """A user is in with all requests or with none; what failed is there in any case, and marked."""
    running = logged("--request-log-share", "0.3", "--slow-request", "3600")
    body = demo.request(random.Random(5), candidates=2)
    with running.client() as client:
        for _ in range(2):
            for user in range(200):
                assert client.post({**body, "user_id": f"user{user}"}).status == 200
        assert client.post({**body, "candidates": {}}).status == 400
        assert client.post("[").status == 400
        unknown = {**body, "user_id": "user1", "history_token": "0" * 32}
        del unknown["history"]
        assert client.post(unknown).status == 409
    records = records_of(running)
    good = [record for record in records if record.outcome == "ok"]
    bad = [record for record in records if record.outcome != "ok"]
    counts = {}
    for record in good:
        assert record.members["sampled"]
        counts[record.user] = counts.get(record.user, 0) + 1
    assert 30 <= len(counts) <= 90 and set(counts.values()) == {2}
    assert [record.members["status"] for record in bad] == [400, 400, 409]
    assert {"invalid-request", "invalid-json"} < {record.outcome for record in bad}


def test_slow_requests_are_there(logged, demo):
    running = logged("--request-log-share", "0", "--slow-request", "0.0001")
    assert running.score(demo.request(random.Random(6), history=200, candidates=400)).status == 200
    [record] = records_of(running)
    assert record.members["sampled"] is False and len(record.scores) == 400


@pytest.mark.only_on("release")  # slow on a sanitizer's build, whose other tests run this code
def test_refused_ones_are_there(logged, demo):
    """Requests that no thread scored: with their body, which is whole."""
    running = logged("--threads", "1", "--queue", "1", "--request-log-buffer", "256M")
    heavy = json.dumps(demo.request(random.Random(7), history=100, candidates=2000)).encode()
    statuses = []

    def ask():
        with running.client() as client:
            for _ in range(5):
                statuses.append(client.post(heavy).status)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = records_of(running)
    assert sorted(record.members["status"] for record in records) == sorted(statuses)
    refused = [record for record in records if record.members["status"] == 503]
    assert refused and all(record.outcome == "saturated" for record in refused)
    assert all(record.members["body"] == json.loads(heavy) for record in records)


@pytest.mark.only_on("release")  # slow on a sanitizer's build, whose other tests run this code
def test_a_full_buffer_drops_and_counts(logged, demo):
    running = logged("--request-log-buffer", "65536")
    large = demo.request(random.Random(8), history=20000, candidates=4000)
    with running.client() as client:
        for _ in range(3):
            assert client.post(large).status == 200
        assert client.post(demo.request(random.Random(8))).status == 200
    metrics = running.metrics()
    assert metrics["dien_request_log_dropped_total"] == 3
    assert len(records_of(running)) == 1


@pytest.mark.only_on("release")  # slow on a sanitizer's build, whose other tests run this code
def test_files_are_turned_over_within_a_bound(logged, demo):
    running = logged("--request-log-file", "64K", "--request-log-disk", "1M", "--request-log-age", "3600")
    rng = random.Random(9)
    with running.client() as client:
        limit = time.monotonic() + 120
        while not running.metrics()["dien_request_log_files_removed_total"] and time.monotonic() < limit:
            assert client.post(demo.request(rng, history=5000, candidates=200)).status == 200
    assert running.metrics()["dien_request_log_files_removed_total"] > 0
    records_of(running)
    files = list(running.records.iterdir())
    assert len(files) > 1 and sum(file.stat().st_size for file in files) <= 1 << 20
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_a_kill_leaves_whole_frames(logged, demo):
    """kill -9 under load: all whole frames are readable, and the next server gives the file its name."""
    running = logged()
    rng = random.Random(10)
    answered = []
    with running.client() as client:
        limit = time.monotonic() + 60
        while not running.metrics()["dien_request_log_records_total"] and time.monotonic() < limit:
            answered.append(client.post(demo.request(rng)).headers["X-Request-Id"])
    written = running.metrics()["dien_request_log_records_total"]
    running.kill()
    [left] = running.records.iterdir()
    assert left.name.endswith(".open")
    found = [record.request_id for record in read(str(running.records))]
    assert len(found) >= written > 0 and found == answered[:len(found)]


@pytest.mark.only_on("release")  # slow on a sanitizer's build, whose other tests run this code
def test_a_full_disk(start, demo, tmp_path):
    """Nobody's request fails; records are lost and counted; writing goes on when there is room again."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], stderr=subprocess.DEVNULL, check=False)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        running = start("--request-log", folder, "--request-log-age", "0.1")
        with running.client() as client:
            def ask_until(name, above):
                limit = time.monotonic() + 120
                while running.metrics()[name] <= above and time.monotonic() < limit:
                    assert client.post(demo.request(random.Random(11), history=100, candidates=500)).status == 200
                    time.sleep(0.02)
                assert running.metrics()[name] > above
            ask_until("dien_request_log_dropped_total", 0)
            assert running.logged_line(event="request-log")["level"] == "warning"
            written = running.metrics()["dien_request_log_records_total"]
            assert len(list(read(str(folder)))) >= written
            for file in folder.glob("*.zst"):
                file.unlink()
            ask_until("dien_request_log_records_total", written)
        running.stop()
        assert list(read(str(folder)))
    finally:
        subprocess.run(["umount", folder], check=False)


@pytest.mark.parametrize("options, words", [
    (("--request-log", "/proc/nowhere/at/all"), "--request-log: /proc/nowhere/at/all"),
    (("--request-log", "/tmp", "--request-log-users", "all"), "--request-log-users: \"all\" is neither")])
def test_options_that_cannot_be(build, demo, options, words):
    ran = subprocess.run([str(build.server), "--model", str(demo.path), "--listen", "127.0.0.1:0", *options],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    assert ran.returncode == 1 and json.dumps(words)[1:-1] in ran.stdout
