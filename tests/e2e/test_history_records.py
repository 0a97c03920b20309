"""Records as they are in a store: of another encoding, of an earlier server, under a prefix, at a replica; and models
that read more of a history than the store keeps."""

import json
import pathlib
import subprocess
import time

import pytest

from support.histories import bits, part, path_of, split
from support.proxies import free_ports
from support.redis_server import Redis
from support.service import Service

PATIENT = ("--histories-timeout", "60")
RECORDED = pathlib.Path(__file__).parent / "recorded_histories.json"


@pytest.fixture(name="redis")
def redis_fixture():
    with Redis() as running:
        yield running


def append(client, user, history, number, begin, end):
    body = {"history_append": part(history, begin, end), "event_id": f"e{number}"}
    return client.post(body, path_of(user, "/history"))


def test_a_record_of_another_encoding_is_unavailable(build, demo, rng, redis):
    """Never an empty history, and never overwritten; nor is a value that is no record at all."""
    request, history = split(demo, rng)
    options = ("--histories", redis.where, "--cache-bytes", "0", *PATIENT)  # no state answers in the record's place
    with Service(build, demo.path, *options) as server, server.client() as client:
        assert append(client, "u", history, 1, 0, 3).status == 200
        record = redis.ask("GET", "u")
        at = record.index(b"\x18\x01", 18)  # encoding = 1, behind revision and count
        later = record[:at] + b"\x18\x7f" + record[at + 2:]
        for stored in (later, record[:-4], b"x", b"x" * 40):
            redis.ask("SET", "u", stored)
            for reply in (client.post({**request, "user_id": "u"}), append(client, "u", history, 2, 3, 4),
                          client.get(path_of("u"))):
                assert reply.status == 503 and reply.json()["type"].endswith("histories-unavailable"), (stored, reply)
            assert redis.ask("GET", "u") == stored
        redis.ask("DEL", "u")
        redis.ask("LPUSH", "u", "no string")
        assert client.post({**request, "user_id": "u"}).status == 503
        redis.ask("SET", "u", record)
        assert client.post({**request, "user_id": "u"}).json()["history"]["count"] == 3


def test_records_of_an_earlier_server(build, demo, redis):
    """Each recorded record is read as what its server was sent, and takes further behaviours."""
    recorded = json.loads(RECORDED.read_text())
    with Service(build, demo.path, "--histories", redis.where, *PATIENT) as server, server.client() as client:
        for number, (record, history) in enumerate((each["record"], each["history"]) for each in recorded["users"]):
            user = f"u{number}"
            redis.ask("SET", user, bytes.fromhex(record))
            whole = bits(client.post({**recorded["request"], "history": history}))
            assert bits(client.post({**recorded["request"], "user_id": user})) == whole
            more = {name: values + values[:1] for name, values in history.items()}
            assert append(client, user, history, "new", 0, 1).status == 200
            assert bits(client.post({**recorded["request"], "user_id": user})) == \
                bits(client.post({**recorded["request"], "history": more}))
            again = client.post({"history_append": part(history, 0, 1), "event_id": "recorded"}, path_of(user, "/history"))
            assert again.json()["history"]["count"] == len(next(iter(history.values()))), "its event is remembered"


def test_prefixes_part_services(build, demo, rng, redis):
    request, history = split(demo, rng)
    options = ("--histories", redis.where, *PATIENT)
    with Service(build, demo.path, *options, "--histories-prefix", "a:") as one, \
            Service(build, demo.path, *options, "--histories-prefix", "b:") as two, one.client() as first, two.client() as second:
        assert append(first, "u", history, 1, 0, 3).status == 200
        assert second.post({**request, "user_id": "u"}).json()["user_state"] == "absent"
        assert append(second, "u", history, 1, 3, 5).status == 200
        assert sorted(redis.ask("KEYS", "*")) == [b"a:u", b"b:u"]
        assert second.ask("DELETE", path_of("u")).status == 204
        assert first.post({**request, "user_id": "u"}).json()["history"]["count"] == 3


def test_changes_wait_for_replicas(build, demo, rng):
    """An append is answered when a replica has it. Without one it is 503, safe to repeat, and no fault of the store."""
    request, history = split(demo, rng)
    port, = free_ports(1)
    with Redis(port=port) as master:
        options = ("--histories", master.where, "--histories-redis-wait", "1", "--histories-timeout", "1")
        with Service(build, demo.path, *options) as server, server.client() as client:
            for number in range(4):
                alone = append(client, "u", history, number, number, number + 1)
                assert alone.status == 503 and "replicas" in alone.json()["detail"], alone
            assert "dien_histories_breaker_open 0" in client.get("/metrics").body.decode()
            assert client.post({**request, "user_id": "u"}).json()["history"]["count"] == 4
            with Redis("--replicaof", "127.0.0.1", str(port)) as replica:
                limit = time.monotonic() + 60
                while b"master_link_status:up" not in replica.ask("INFO", "replication"):
                    assert time.monotonic() < limit
                    time.sleep(0.02)
                for number, end, count in ((3, 4, 4), (4, 6, 6)):
                    reply = append(client, "u", history, number, number, end)
                    while reply.status == 503:  # a busy machine's replica may be late
                        assert time.monotonic() < limit, reply
                        reply = append(client, "u", history, number, number, end)
                    assert reply.status == 200 and reply.json()["history"]["count"] == count
                assert replica.ask("GET", "u") == master.ask("GET", "u")


def test_a_model_that_reads_more_than_the_store_keeps(build, demo, rng, tmp_path):
    """At start and at a reload: the message names interest and flag."""
    options = ("--histories", f"lmdb:{tmp_path}/h")
    longest = max(interest["max_length"] for interest in demo.config["interests"])
    ran = subprocess.run([str(build.server), "--model", str(demo.path), "--listen", "127.0.0.1:0", *options, "--histories-keep",
                          str(longest - 1)], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1 and "--histories-keep" in ran.stderr and demo.config["interests"][0]["name"] in ran.stderr
    model = demo.copy(tmp_path / "model")
    options += ("--samples-tolerance", "1")  # the longer history has no scores of a training code
    with Service(build, model.path, *options, "--histories-keep", str(longest)) as server, server.client() as client:
        name = model.config["interests"][0]["name"]
        model.config["interests"][0]["max_length"] = longest + 1
        model.write_config()
        server.process.send_signal(1)
        limit = time.monotonic() + 60
        while "model-refused" not in server.output_file.read_text():
            assert time.monotonic() < limit
            time.sleep(0.02)
        said = server.output_file.read_text()
        assert "--histories-keep" in said and f'\\"{name}\\"' in said
        assert client.post(split(demo, rng)[0]).status == 200
