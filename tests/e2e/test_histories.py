"""Histories in a store: the server holds what was appended, over restarts; a score has the bits of one
request with the whole history; an event counts once; a store that is down is never taken for an empty history.
"""

import pytest

from support.histories import Users, bits, part, path_of, split
from support.service import Service


@pytest.fixture(scope="session")
def plain(build, demo):
    """A server that keeps nothing: its scores are the right ones."""
    with Service(build, demo.path, "--cache-bytes", "0") as running:
        yield running


@pytest.fixture(name="file")
def file_fixture(tmp_path):
    return f"lmdb:{tmp_path}/histories"


def test_a_history_that_was_appended_is_scored(build, demo, rng, plain, file):
    request, history = split(demo, rng)
    whole = plain.score({**request, "history": history})
    with Service(build, demo.path, "--histories", file) as server:
        client = server.client()
        reply = client.post({"history_append": part(history, 0, 3), "event_id": "e1"}, path_of("u", "/history"))
        assert reply.status == 200 and reply.json()["history"]["origin"] == "store"
        assert reply.json()["history"]["count"] == 3
        again = client.post({"history_append": part(history, 0, 3), "event_id": "e1"}, path_of("u", "/history"))
        assert again.status == 200 and again.json()["history"]["count"] == 3
        append = {**request, "user_id": "u", "history_append": part(history, 3), "event_id": "e2"}
        assert bits(client.post(append)) == bits(whole)
        held = client.post({**request, "user_id": "u"})
        assert bits(held) == bits(whole)
        assert held.json()["history"]["origin"] == "store"
        assert "stale" not in held.json()
    with Service(build, demo.path, "--histories", file, "--cache-bytes", "0") as server:
        client = server.client()
        assert bits(client.post({**request, "user_id": "u"})) == bits(whole)
        # Nobody knows this one; and a whole history in a request changes nothing.
        nobody = client.post({**request, "user_id": "v"}).json()
        assert nobody["user_state"] == "absent" and nobody["history"]["origin"] == "none"
        client.post({**request, "user_id": "u", "history": part(history, 0, 1)})
        assert bits(client.post({**request, "user_id": "u"})) == bits(whole)
        assert client.ask("DELETE", path_of("u")).status == 204
        assert client.post({**request, "user_id": "u"}).json()["user_state"] == "absent"


def test_an_append_can_be_repeated(build, demo, rng, file):
    request, history = split(demo, rng)
    with Service(build, demo.path, "--histories", file) as server:
        client = server.client()
        nameless = client.post({**request, "user_id": "u", "history_append": part(history, 0, 1)})
        assert nameless.status == 400 and nameless.json()["pointer"] == "/history_append"
        for _ in range(3):
            reply = client.post({**request, "user_id": "u", "history_append": part(history, 0, 2)},
                                **{"Idempotency-Key": '"k-1"'})
            assert reply.status == 200 and reply.json()["history"]["count"] == 2
        two = client.post({**request, "user_id": "u", "history_append": part(history, 0, 2), "event_id": "k-2"},
                          **{"Idempotency-Key": "k-1"})
        assert two.status == 400 and two.json()["pointer"] == "/event_id"
        # A request that is refused changes nothing.
        bad = {**request, "user_id": "u", "history_append": part(history, 0, 2), "event_id": "k-3",
               "candidates": {"x": [1]}}
        assert client.post(bad).status == 400
        assert client.post({**request, "user_id": "u"}).json()["history"]["count"] == 2


def test_random_users_have_the_bits_of_whole_histories(build, demo, rng, plain, file):
    """Appends, repeated ones, whole histories, deletions and restarts, beside a model in Python."""
    users = Users(demo, rng, plain)
    for _ in range(4):
        with Service(build, demo.path, "--histories", file, "--cache-bytes", rng.choice(["0", "16M"])) as server, \
                server.client() as client:
            for _ in range(60):
                users.turn((client,))


def test_who_may_write(build, demo, rng, file, tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    request, history = split(demo, rng)
    append = {**request, "user_id": "u", "history_append": part(history, 0, 2), "event_id": "e"}
    with Service(build, demo.path, "--histories", file, "--user-write-token-file", str(token)) as server:
        client = server.client()
        for headers in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Bearer s3cret2"}, {"Authorization": "s3cret"}):
            assert client.post(append, **headers).status == 403
            assert client.post({"history": part(history, 0, 2)}, path_of("u", "/history"), **headers).status == 403
            assert client.ask("DELETE", path_of("u"), headers=headers).status == 403
        assert client.post({**request, "user_id": "u"}).json()["user_state"] == "absent"
        right = {"Authorization": "Bearer s3cret"}
        assert client.post(append, **right).status == 200
        assert client.ask("DELETE", path_of("u"), headers=right).status == 204


def test_a_store_that_is_down_is_no_empty_history(build, demo, rng, tmp_path):
    """Redis that is not there: a user's history is unavailable; whole histories are scored; a state in memory serves."""
    request, history = split(demo, rng)
    with Service(build, demo.path, "--histories", f"unix:{tmp_path}/no.sock") as server:
        client = server.client()
        for _ in range(8):
            reply = client.post({**request, "user_id": "u"})
            assert reply.status == 503 and reply.json()["type"].endswith("histories-unavailable")
            assert int(reply.headers["Retry-After"]) >= 1
            append = {**request, "user_id": "u", "history_append": part(history, 0, 2), "event_id": "e"}
            assert client.post(append).status == 503
        whole = client.post({**request, "user_id": "w", "history": history})
        assert whole.json()["history"]["origin"] == "request"
        stale = client.post({**request, "user_id": "w"})
        assert bits(stale) == bits(whole) and stale.json()["stale"] is True
        assert stale.json()["history"]["origin"] == "state"


def test_a_store_that_cannot_be_opened_ends_the_server(build, demo, rng, tmp_path):
    with Service(build, demo.path, "--histories", f"lmdb:{tmp_path}/h"), pytest.raises(Exception, match="another process"):
        with Service(build, demo.path, "--histories", f"lmdb:{tmp_path}/h"):
            pass
