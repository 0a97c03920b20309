"""States in memory beside a history store that two servers share: used while the store has their record, never after."""

import time

import pytest

from support.histories import Judge, bits, part, path_of, split
from support.redis_server import Redis
from support.service import Service

PATIENT = ("--histories-timeout", "60")


@pytest.fixture(scope="module")
def plain(build, demo):
    """A server that keeps nothing: its scores are the right ones."""
    with Service(build, demo.path, "--cache-bytes", "0") as running:
        yield running


@pytest.fixture(name="redis")
def redis_fixture():
    with Redis() as running:
        yield running


def metric(client, name):
    lines = client.get("/metrics").body.decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


def dropped(client, reason):
    return metric(client, f'dien_histories_states_dropped_total{{reason="{reason}"}}')


def append(client, user, history, number, begin, end):
    body = {"history_append": part(history, begin, end), "event_id": f"e{number}"}
    assert client.post(body, path_of(user, "/history")).status == 200


def commands(redis):
    """How often Redis was asked for whole records."""
    stats = redis.ask("INFO", "commandstats").decode().splitlines()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in stats if line.startswith("cmdstat_get:"))


def test_what_one_server_changes_the_other_sees(build, demo, rng, plain, redis):
    request, history = split(demo, rng)
    judge = Judge(plain, request)
    options = ("--histories", redis.where, *PATIENT)
    with Service(build, demo.path, *options) as one, Service(build, demo.path, *options) as two, \
            one.client() as first, two.client() as second:
        ask = {**request, "user_id": "u"}
        append(first, "u", history, 1, 0, 5)
        assert bits(second.post(ask)) == judge.bits(part(history, 0, 5))
        # The record is as it was: the state serves, and the reply is as one from the whole record.
        whole = commands(redis)
        again = second.post(ask)
        assert bits(again) == judge.bits(part(history, 0, 5)) and commands(redis) == whole
        said = again.json()
        assert said["user_state"] == "cached" and said["history"]["origin"] == "store"
        assert (said["history"]["count"], said["history"]["received"]) == (5, 5)
        # An append, a deletion, and another history of as many behaviours, each at the other server.
        append(first, "u", history, 2, 5, 6)
        assert bits(second.post(ask)) == judge.bits(part(history, 0, 6))
        assert first.ask("DELETE", path_of("u")).status == 204
        gone = second.post(ask)
        assert gone.json()["user_state"] == "absent" and bits(gone) == judge.bits(None)
        assert dropped(second, "deleted") == 1
        append(first, "u", history, 1, 6, 12)
        assert bits(second.post(ask)) == judge.bits(part(history, 6, 12))
        assert first.ask("DELETE", path_of("u")).status == 204
        append(first, "u", history, 1, 0, 6)
        assert bits(second.post(ask)) == judge.bits(part(history, 0, 6)), "not by its count alone"


def test_a_record_that_went_back(build, demo, rng, plain, redis):
    """Redis loses its last writes, as a failover may: the states that were made of them go, and are counted."""
    request, history = split(demo, rng)
    judge = Judge(plain, request)
    with Service(build, demo.path, "--histories", redis.where, *PATIENT) as server, server.client() as client:
        append(client, "u", history, 1, 0, 4)
        earlier = redis.ask("GET", "u")
        append(client, "u", history, 2, 4, 8)
        redis.ask("SET", "u", earlier)
        assert bits(client.post({**request, "user_id": "u"})) == judge.bits(part(history, 0, 4))
        assert dropped(client, "rewound") == 1 and dropped(client, "deleted") == 0
        redis.ask("DEL", "u")  # without the server: an eviction, or an operator
        assert client.post({**request, "user_id": "u"}).json()["user_state"] == "absent"
        assert dropped(client, "deleted") == 1


def test_counts_of_histories_that_are_cut(build, demo, rng, redis):
    """`received` and `count` are of all behaviours ever, also where the record and the state keep fewer."""
    request, history = split(demo, rng)
    length = len(next(iter(history.values())))
    with Service(build, demo.path, "--histories", redis.where, "--histories-keep", "100", *PATIENT) as server, \
            server.client() as client:
        for number in range(10):
            append(client, "u", history, number, 0, length)
        for _ in range(2):
            said = client.post({**request, "user_id": "u"}).json()["history"]
            assert (said["received"], said["count"]) == (10 * length, 10 * length), said
        assert client.get(path_of("u")).json()["history"]["received"] == 10 * length


def test_states_that_are_fresh_are_used_unasked(build, demo, rng, plain, redis):
    request, history = split(demo, rng)
    judge = Judge(plain, request)
    options = ("--histories", redis.where, *PATIENT)
    with Service(build, demo.path, *options) as one, \
            Service(build, demo.path, *options, "--histories-freshness", "3600") as two, \
            one.client() as first, two.client() as second:
        ask = {**request, "user_id": "u"}
        append(first, "u", history, 1, 0, 5)
        assert bits(second.post(ask)) == judge.bits(part(history, 0, 5))
        calls = metric(second, 'dien_histories_calls_total{call="get",result="done"}')
        append(first, "u", history, 2, 5, 6)
        said = second.post(ask)
        assert bits(said) == judge.bits(part(history, 0, 5)) and said.json()["history"]["count"] == 5
        assert metric(second, 'dien_histories_calls_total{call="get",result="done"}') == calls
        # What this server changes itself it sees at once: an append, an event, a deletion.
        append(second, "u", history, 3, 6, 7)
        assert bits(second.post(ask)) == judge.bits(part(history, 0, 7))
        event = '{"user_id": "u", "event_id": "e4", "history_append": %s}' % str(part(history, 7, 8)).replace("'", '"')
        sent = second.post(event, "/events", **{"Content-Type": "application/x-ndjson"})
        assert sent.json()["outcome"] == "applied"
        assert bits(second.post(ask)) == judge.bits(part(history, 0, 8))
        assert second.ask("DELETE", path_of("u")).status == 204
        assert second.post(ask).json()["user_state"] == "absent"
    with Service(build, demo.path, *options, "--histories-freshness", "0.05") as server, server.client() as client:
        append(client, "u", history, 5, 0, 2)
        redis.ask("DEL", "u")
        time.sleep(0.1)
        assert client.post(ask).json()["user_state"] == "absent", "it is no longer fresh"


def test_the_page_of_a_user(build, demo, rng, tmp_path):
    request, history = split(demo, rng)
    with Service(build, demo.path, "--histories", f"lmdb:{tmp_path}/h") as server, server.client() as client:
        assert client.get(path_of("u")).status == 404
        append(client, "u", history, 1, 0, 5)
        append(client, "u", history, 2, 5, 7)
        page = client.get(path_of("u")).json()
        assert page["stored"]["count"] == 7 and page["stored"]["event_ids"] == 2 and page["history"]["length"] == 7
        assert [(each["count"], each["length"]) for each in page["stored"]["lists"]] == [(7, 7)]
        assert page["stored"]["created_at"] <= page["stored"]["changed_at"] and page["stored"]["bytes"] > 0
        assert not any(str(value) in str(page) for value in history["item"][:7] if isinstance(value, str) and len(value) > 2)
    with Service(build, demo.path, "--histories", f"lmdb:{tmp_path}/h", "--cache-bytes", "0") as server, \
            server.client() as client:
        assert set(client.get(path_of("u")).json()) == {"model", "version", "stored"}
        assert client.ask("HEAD", path_of("u")).status == 200


def test_calls_about_a_user_of_a_store_that_is_down(build, demo, tmp_path):
    """Also once the breaker answers at once, in the store's place."""
    with Service(build, demo.path, "--histories", f"unix:{tmp_path}/no.sock") as server, server.client() as client:
        for _ in range(8):
            assert client.get(path_of("u")).status == 503
            assert client.ask("DELETE", path_of("u")).status == 503
        assert metric(client, "dien_histories_breaker_open") == 1
