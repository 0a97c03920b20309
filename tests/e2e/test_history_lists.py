"""Two interests over different fields are two lists of a stored history: an append may bring one. Tokens beside a store."""

import json

import pytest

from support import builds
from support.histories import bits, part, path_of, split
from support.modelfile import ModelDirectory
from support.redis_server import Redis
from support.service import Service

PATIENT = ("--histories-timeout", "60")


@pytest.fixture(name="two_lists")
def two_lists_fixture(tmp_path):
    """A model with two interests that share no field; both keep the end of a history, as a store does."""
    for path in sorted((builds.TOP / "build" / "models").glob("random-*")):
        fields = [each["history"] for each in json.loads((path / "config.json").read_text())["interests"]]
        if len(fields) == 2 and not set(fields[0]) & set(fields[1]):
            break
    else:
        raise AssertionError("no model has two lists")
    model = ModelDirectory(path).copy(tmp_path / "model")
    for interest in model.config["interests"]:
        interest["keep"] = "last"
    model.write_config()
    most = min(interest["max_length"] for interest in model.config["interests"])
    samples = [each for each in model.samples if all(len(values) <= most for values in each["history"].values())]
    assert samples, "those that no end is cut of"
    (model.path / "samples.json").write_text(json.dumps({"samples": samples}))
    return model


@pytest.mark.parametrize("where", ["store", "memory"])
def test_an_append_may_bring_one_list(build, two_lists, rng, tmp_path, where):
    """In every order, its scores are those of one request with both histories."""
    model, interests = two_lists, two_lists.config["interests"]
    body = model.request(rng, history=9, candidates=5)
    history = body.pop("history")
    lists = [{name: history[name] for name in each["history"] if name in history} for each in interests]
    options = ("--histories", f"lmdb:{tmp_path}/h", *PATIENT) if where == "store" else ()
    with Service(build, model.path, *options) as server, server.client() as client:
        if where == "memory":
            assert client.post({"history": {name: [] for name in history}}, path_of("u", "/history")).status == 200
        sent, at = [0, 0], 0
        while sent != [9, 9]:
            which = rng.choice([each for each in (0, 1) if sent[each] < 9])
            end = rng.randint(sent[which] + 1, 9)
            more = {"history_append": part(lists[which], sent[which], end)}
            if rng.random() < 0.5:  # in rows
                columns = more["history_append"]
                more["history_append"] = [dict(zip(columns, row)) for row in zip(*columns.values())]
            if where == "store":
                more["event_id"] = f"e{at}"
            assert client.post(more, path_of("u", "/history")).status == 200
            sent[which], at = end, at + 1
            whole = {**part(lists[0], 0, sent[0]), **part(lists[1], 0, sent[1])}
            assert bits(client.post({**body, "user_id": "u"})) == bits(client.post({**body, "history": whole}))
        if where == "store":
            page = client.get(path_of("u")).json()["stored"]
            assert sorted(each["name"] for each in page["lists"]) == sorted(each["name"] for each in interests)
            assert page["count"] == 18 and all(each["count"] == 9 for each in page["lists"])


def test_a_list_is_left_out_whole(build, two_lists, rng, tmp_path):
    model, interests = two_lists, two_lists.config["interests"]
    history = model.request(rng, history=2)["history"]
    first = {name: history[name] for name in interests[0]["history"] if name in history}
    torn = [{name: list(first.values())[0], "nonsense": [1, 2]} for name in first]
    torn += [{name: value for name, value in first.items() if name != left_out} for left_out in first if len(first) > 1]
    with Service(build, model.path, "--histories", f"lmdb:{tmp_path}/h", *PATIENT) as server, server.client() as client:
        for append in (*torn, [{}], [{"nonsense": 1}]):
            reply = client.post({"history_append": append, "event_id": "e"}, path_of("u", "/history"))
            assert reply.status == 400, (append, reply)
        whole = client.post({"history": first}, path_of("u", "/history"))
        assert whole.status == 400, "a whole history has all fields"


def test_a_token_names_what_the_store_has(build, demo, rng):
    """Two servers: an append by a token that another server's append has overtaken is refused, and changes nothing."""
    request, history = split(demo, rng)
    with Redis() as redis:
        options = ("--histories", redis.where, *PATIENT)
        with Service(build, demo.path, *options) as one, Service(build, demo.path, *options) as two, \
                one.client() as first, two.client() as second:
            def append(client, begin, end, **more):
                return client.post({**more, "history_append": part(history, begin, end)}, path_of("u", "/history"))

            start = append(first, 0, 3, event_id="e1").json()["history"]
            token = start["token"]
            by_token = append(first, 3, 4, history_token=token)
            assert by_token.status == 200 and by_token.json()["history"]["count"] == 4
            assert append(first, 3, 4, history_token=token).status == 409, "it was used"
            token = by_token.json()["history"]["token"]
            assert append(second, 4, 6, event_id="e2").status == 200
            late = append(first, 4, 5, history_token=token)
            assert late.status == 409 and late.json()["pointer"] == "/history_token"
            named = append(first, 4, 5, history_token=token, event_id="e3")
            assert named.status == 409
            assert not any("is changed in the store" in reply.json()["detail"] for reply in (late, named)), "nothing was applied"
            assert first.get(path_of("u")).json()["stored"]["count"] == 6
            # An event that was applied is answered as the first was, whatever has become of its token.
            token = append(first, 6, 7, event_id="e4").json()["history"]["token"]
            both = append(first, 7, 8, history_token=token, event_id="e5")
            assert both.status == 200 and both.json()["history"]["count"] == 8
            assert append(second, 8, 9, event_id="e6").status == 200
            again = append(first, 7, 8, history_token=token, event_id="e5")
            assert again.status == 200 and again.json()["history"]["count"] == 8
            # A history that a request brought is not the store's: its token appends nothing to that.
            mine = first.post({**request, "user_id": "u", "history": part(history, 0, 2)}).json()["history"]["token"]
            assert append(first, 2, 3, history_token=mine).status == 409
            expected = first.post({**request, "history": part(history, 0, 9)})
            assert bits(second.post({**request, "user_id": "u"})) == bits(expected)


def test_event_ids_without_a_store(server, demo, rng):
    """In the body or the header: the server cannot keep what they promise."""
    _, history = split(demo, rng)
    with server.client() as client:
        body = {"history_append": part(history, 0, 1)}
        for more, headers in (({"event_id": "e"}, {}), ({}, {"Idempotency-Key": '"e"'})):
            reply = client.post({**body, **more}, path_of("u", "/history"), **headers)
            assert reply.status == 400 and reply.json()["pointer"] == "/event_id"
        assert client.post(demo.request(rng), **{"Idempotency-Key": "e"}).status == 200, "it changes no history"
        whole = client.post({"history": part(history, 0, 1)}, path_of("u", "/history"), **{"Idempotency-Key": "e"})
        assert whole.status == 200, "sent again it changes nothing"
