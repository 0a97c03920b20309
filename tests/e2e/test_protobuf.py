"""POST /score and POST /users/{id}/history as the messages of proto/score.proto: the same answers, the same states and
the same errors as JSON, by Google's own library.
"""

import struct

import json

import pytest

from support.messages import MEDIA_TYPE, compiled, message_of
from test_operation import series

pytestmark = pytest.mark.only_on("release", "asan")  # the form of a body is no matter of threads

TYPE = {"Content-Type": MEDIA_TYPE}


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("messages"))


def bits(number):
    return struct.pack("f", number)


def post(client, message):
    return client.ask("POST", "/score", message.SerializeToString(), TYPE)


def answer(messages, reply):
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"] == TYPE["Content-Type"]
    return messages.ScoreReply.FromString(reply.body)


def values_of(column):
    numbers = column.integers or column.strings or column.reals
    return [list(numbers[i:i + column.width]) for i in range(0, len(numbers), column.width)] if column.width else list(numbers)


@pytest.mark.parametrize("explain", [False, True])
def test_the_same_answer_to_the_bit(server, demo, rng, messages, explain):
    for _ in range(10):
        body = {**demo.request(rng, history=rng.randrange(1, 40), candidates=rng.randrange(1, 60)), "explain": explain,
                "top_k": rng.randrange(1, 60)}
        with server.client() as client:
            told = client.post(body).json()
            got = answer(messages, post(client, message_of(messages, body)))
        results = told["results"]
        assert list(got.index) == [result["index"] for result in results]
        assert [bits(score) for score in got.score] == [bits(result["score"]) for result in results]
        assert (got.model, got.version, got.user_state) == (told["model"], told["version"], told["user_state"])
        assert {each.field: each.count for each in got.unknown} == told["unknown"]
        for column in got.candidates.columns:
            assert values_of(column) == [result[column.name] for result in results]
        for interest in got.interests:
            attention = [number for result in results for number in result.get("attention", {}).get(interest.name, [])]
            assert [bits(number) for number in interest.attention] == [bits(number) for number in attention]
            assert len(attention) == (interest.length * len(results) if explain else 0)


def test_a_kept_state_is_shared_by_both(server, demo, rng, messages):
    body = {**demo.request(rng, history=12, candidates=5), "user_id": "u-protobuf"}
    with server.client() as client:
        first = answer(messages, post(client, message_of(messages, body)))
        told = client.post(body).json()
        assert told["user_state"] == "cached"
        by_token = {name: value for name, value in body.items() if name != "history"}
        again = answer(messages, post(client, message_of(messages, {**by_token, "history_token": first.history_token})))
        assert again.user_state == "cached"
        assert [bits(score) for score in again.score] == [bits(score) for score in first.score]
        lost = post(client, message_of(messages, {**by_token, "history_token": "0" * 32}))
        assert lost.status == 409 and lost.headers["Content-Type"] == "application/problem+json"


def first_column(body, group):
    return next(iter(body[group]))


def spoil_nothing_sent(message, _):
    message.ClearField("candidates")
    return "/candidates"


def spoil_unknown_field(message, _):
    message.candidates.columns.add(name="no-such-field", integers=[0] * 4)
    return "/candidates/no-such-field"


def spoil_kind(message, body):
    name = first_column(body, "candidates")
    column = next(each for each in message.candidates.columns if each.name == name)
    column.Clear()
    column.name = name
    column.reals.extend([0.5] * 4)
    return f"/candidates/{name}/0"


def spoil_kinds(message, body):
    name = first_column(body, "history")
    column = next(each for each in message.history.columns if each.name == name)
    column.integers.append(1)
    column.strings.append("a")
    return f"/history/{name}"


def spoil_empty_token(message, _):
    message.history_token = ""
    return "/history_token"


@pytest.mark.parametrize("spoil", [spoil_nothing_sent, spoil_unknown_field, spoil_kind, spoil_kinds,
                                   spoil_empty_token])
def test_errors_are_problems_with_a_place(server, demo, rng, messages, spoil):
    body = demo.request(rng, history=3, candidates=4)
    message = message_of(messages, body)
    pointer = spoil(message, body)
    with server.client() as client:
        reply = post(client, message)
        assert reply.status == 400, reply
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert (reply.json()["type"], reply.json()["pointer"]) == ("urn:dien:problem:invalid-request", pointer)
        assert post(client, message_of(messages, body)).status == 200


@pytest.mark.parametrize("body", [b"{}", b"\x0a\x7f", b"\xff" * 20])
def test_what_is_no_message(server, body):
    with server.client() as client:
        reply = client.ask("POST", "/score", body, TYPE)
        assert reply.status == 400 and reply.json()["pointer"] == ""


@pytest.mark.parametrize("user", [b"", b"u" * 257, "\u7528".encode() * 134, b"Zo\xeb", b"a\x00b", b"\xed\xa0\x80"],
                         ids=["empty", "long", "long in bytes", "Latin-1", "NUL", "surrogate"])
def test_user_ids_that_are_none(server, demo, rng, messages, user):
    """By bytes, which protobuf's own library would not let through; JSON has the same problem."""
    size = bytes([len(user) & 127 | 128, len(user) >> 7])
    body = demo.request(rng, history=3, candidates=4)
    with server.client() as client:
        text = json.dumps({**body, "user_id": ""}).encode()
        told = client.post(text.replace(b'"user_id": "', b'"user_id": "' + user.replace(b"\0", b"\\u0000")))
        got = client.ask("POST", "/score", message_of(messages, body).SerializeToString() + b"\x0a" + size + user, TYPE)
        for reply in (told, got):
            problem = reply.json()
            assert (reply.status, problem["type"], problem["pointer"]) == (400, "urn:dien:problem:invalid-user-id", "/user_id")


def spread_unknown_fields(message):
    """The message's bytes with a field 20 in the message, in each table and in each column."""
    more = b"\xa2\x01\x03new"  # field 20, three bytes
    for group in ("user", "context", "history", "candidates"):
        for column in getattr(message, group).columns:
            column.MergeFromString(more)
        getattr(message, group).MergeFromString(more)
    return message.SerializeToString() + more


def test_fields_of_newer_clients_are_ignored_unless_strict(server, start, demo, rng, messages):
    message = message_of(messages, demo.request(rng, history=3, candidates=4))
    plain, spread = message.SerializeToString(), spread_unknown_fields(message)
    assert len(spread) > len(plain) + 20, "protobuf's library keeps unknown fields"
    strict = start("--strict-protobuf", "on")
    with server.client() as client, strict.client() as guarded:
        expected = client.ask("POST", "/score", plain, TYPE).body
        assert client.ask("POST", "/score", spread, TYPE).body == expected
        assert guarded.ask("POST", "/score", plain, TYPE).body == expected
        reply = guarded.ask("POST", "/score", spread, TYPE)
        assert (reply.status, reply.json()["detail"]) == (400, "A request has no such member.")
        update_body = b"\x0a\x01u\x22\x00\x50\x01"  # user_id of a ScoreRequest, an empty history, field 10
        assert update(client, "newer", update_body).status == 200
        assert update(guarded, "newer", update_body).status == 400


@pytest.mark.parametrize("media", ["application/protobuf", "Application/Protobuf; charset=utf-8", MEDIA_TYPE])
def test_media_types_of_protobuf(server, demo, rng, messages, media):
    with server.client() as client:
        message = message_of(messages, demo.request(rng, history=3, candidates=4))
        reply = client.ask("POST", "/score", message.SerializeToString(), {"Content-Type": media})
        assert reply.status == 200 and reply.headers["Content-Type"] == MEDIA_TYPE


def test_integers_in_every_form(server, demo, rng, messages):
    """Unsigned integers, reals and decimal strings where an integer is expected, as in JSON."""
    body = demo.request(rng, history=3, candidates=4)
    body["user"]["country"] = 29
    with server.client() as client:
        expected = answer(messages, post(client, message_of(messages, body)))
        for kind, value in (("unsigned_integers", 29), ("reals", 29.0), ("strings", "29")):
            message = message_of(messages, body)
            column = next(each for each in message.user.columns if each.name == "country")
            column.ClearField("integers")
            getattr(column, kind).append(value)
            assert list(answer(messages, post(client, message)).score) == list(expected.score), kind
        message = message_of(messages, body)
        next(each for each in message.user.columns if each.name == "country").integers[0] = 2**63 - 1
        largest = answer(messages, post(client, message))
        column = next(each for each in message.user.columns if each.name == "country")
        column.ClearField("integers")
        column.unsigned_integers.append(2**64 - 1)
        got = answer(messages, post(client, message))
        assert list(got.score) == list(largest.score), "both are unknown"
        assert {each.field: each.count for each in got.unknown}["country"] == 1


def test_limits_are_the_same(server, demo, rng, messages):
    body = demo.request(rng, history=1, candidates=4097)
    with server.client() as client:
        told, got = client.post(body), post(client, message_of(messages, body))
        assert (told.status, got.status) == (422, 422)
        assert {**told.json(), "instance": ""} == {**got.json(), "instance": ""}


def test_both_types_are_offered(server):
    with server.client() as client:
        for path in ("/score", "/users/u/history"):
            reply = client.ask("POST", path, b"{}", {"Content-Type": "text/plain"})
            assert reply.status == 415 and reply.headers["Accept"] == f"application/json, {MEDIA_TYPE}"
            assert MEDIA_TYPE in reply.json()["detail"]


# POST /users/{id}/history.

def update(client, user, body):
    return client.ask("POST", f"/users/{user}/history", body, TYPE)


def part(columns, begin, end):
    return {name: values[begin:end] for name, values in columns.items()}


def by_json(client, messages, user, body):
    """What an update's JSON reply says: its status, then the members, or where the problem is."""
    del messages
    reply = client.post(body, f"/users/{user}/history")
    said = reply.json()
    if reply.status != 200:
        return (reply.status, said["type"], said["pointer"])
    return (200, said["model"], said["version"], said["user_state"], said["history"]["length"], said["history"]["received"],
            said["unknown"], said["history"].get("token", ""))


def by_message(client, messages, user, body):
    """The same of a message."""
    reply = update(client, user, message_of(messages, body, "HistoryRequest").SerializeToString())
    if reply.status != 200:
        assert reply.headers["Content-Type"] == "application/problem+json"
        return reply.status, reply.json()["type"], reply.json()["pointer"]
    assert reply.headers["Content-Type"] == MEDIA_TYPE
    said = messages.HistoryReply.FromString(reply.body)
    assert said.SerializeToString() == reply.body, "no member but a HistoryReply's"
    (interest,) = said.interests
    assert not interest.attention
    return (200, said.model, said.version, said.user_state, interest.length, interest.received,
            {each.field: each.count for each in said.unknown}, said.history_token)


COUNTED = [("dien_http_responses_total", {"route": "/users/{id}/history", "status": "200"}),
           ("dien_http_responses_total", {"route": "/users/{id}/history", "status": "409"}),
           *(("dien_user_states_total", {"state": state}) for state in ("computed", "extended", "cached")),
           ("dien_user_state_misses_total", {"reason": "absent"}), ("dien_unknown_ids_total", {"field": "item"}),
           ("dien_candidates_total", {}), ("dien_requests_total", {"outcome": "unknown-history-token"})]


def events(server, messages, history, user, said_by):
    """A user's history as it happens, by JSON or by messages: the answers but their tokens, and what the metrics count."""
    before = server.metrics()
    with server.client() as client:
        answers = [said_by(client, messages, user, {"history": part(history, 0, 4)}),
                   said_by(client, messages, user, {"history": part(history, 0, 4)}),
                   said_by(client, messages, user, {"history_append": part(history, 4, 6)})]
        once = {"history_token": answers[-1][-1], "history_append": part(history, 6, 9)}
        answers += [said_by(client, messages, user, body) for body in (once, once, {"history_append": {}})]
        assert client.ask("DELETE", f"/users/{user}").status == 204
    after = server.metrics()
    tokens = [answer[-1] for answer in answers if answer[0] == 200]
    assert tokens[0] == tokens[1] and tokens[4] == "" and len(set(tokens[:4])) == 3, tokens  # the last append is empty
    return ([answer[:-1] if answer[0] == 200 else answer for answer in answers],
            [series(after, name, **labels) - series(before, name, **labels) for name, labels in COUNTED])


def test_updates_make_the_same_states(start, demo, rng, messages):
    server = start()  # of this test alone: requests of others that were given up may be counted late
    history = demo.request(rng, history=9)["history"]
    history["item"][5] = "an item that is not in the catalogue"
    told, counted = events(server, messages, history, "u-by-json", by_json)
    assert events(server, messages, history, "u-by-message", by_message) == (told, counted)
    assert [answer[3] for answer in told if answer[0] == 200] == ["computed", "cached", "extended", "extended", "cached"]
    assert [answer for answer in told if answer[0] != 200] == [(409, "urn:dien:problem:unknown-history-token", "/history_token")]
    assert counted == [5, 1, 1, 2, 2, 1, 1, 0, 1]


def test_a_token_is_one_token_by_both(server, demo, rng, messages):
    """Each goes on from what the other was told, and a request for scores finds the state."""
    body = {**demo.request(rng, history=6, candidates=5), "user_id": "u-both"}
    history = body["history"]
    with server.client() as client:
        token = by_json(client, messages, "u-both", {"history": part(history, 0, 2)})[-1]
        token = by_message(client, messages, "u-both", {"history_token": token, "history_append": part(history, 2, 4)})[-1]
        token = by_json(client, messages, "u-both", {"history_token": token, "history_append": part(history, 4, 6)})[-1]
        assert by_message(client, messages, "u-both", {"history": history})[3:5] == ("cached", 6)
        got = answer(messages, post(client, message_of(messages, body)))
        assert (got.user_state, got.history_token) == ("cached", token)


def same_problem(client, messages, user, body):
    """The status, kind and place of a body's problem, which is the same in both forms to the last word."""
    told = client.post(body, f"/users/{user}/history")
    got = update(client, user, message_of(messages, body, "HistoryRequest").SerializeToString())
    assert (got.status, got.headers["Content-Type"]) == (told.status, "application/problem+json"), got
    assert {**got.json(), "instance": ""} == {**told.json(), "instance": ""}
    return got.status, got.json()["type"].removeprefix("urn:dien:problem:"), got.json().get("pointer")


def test_updates_are_refused_as_json_is(server, demo, rng, messages):
    history = demo.request(rng, history=3)["history"]
    token = "0" * 32
    wrong = [({}, ""), ({"history_token": token}, ""), ({"history": history, "history_token": token}, "/history_token"),
             ({"history": history, "history_append": history}, "/history_append"),
             ({"history_append": history, "history_token": "x" * 257}, "/history_token"),
             ({"history": {"nosuch": [1]}}, "/history/nosuch"), ({"history": {"item": [0.5]}}, "/history/item/0"),
             ({"history_append": {"item": ["A13", "A16"], "category": [1]}}, "/history_append/category"),
             ({"history_append": {"nosuch": [1]}}, "/history_append/nosuch")]
    with server.client() as client:
        for body, pointer in wrong:
            assert same_problem(client, messages, "u-refused", body) == (400, "invalid-request", pointer)
        for more in (history, {}):
            assert same_problem(client, messages, "u-refused", {"history_append": more}) == (404, "no-user-state", None)
        lost = {"history_append": history, "history_token": token}
        assert same_problem(client, messages, "u-refused", lost) == (409, "unknown-history-token", "/history_token")
        assert same_problem(client, messages, "%zz", {"history": history}) == (400, "invalid-user-id", None)
        assert client.get("/users/u-refused").status == 404, "nothing is kept of what was refused"


def test_limits_of_updates_are_the_same(start, demo, rng, messages):
    server = start("--max-history", "5", "--max-body", "4096")
    history = demo.request(rng, history=6)["history"]
    with server.client() as client:
        assert same_problem(client, messages, "u", {"history": history}) == (422, "history-too-long", "/history")
        assert by_message(client, messages, "u", {"history": part(history, 0, 5)})[0] == 200
        assert same_problem(client, messages, "u", {"history_append": history}) == (422, "history-too-long", "/history_append")
        assert update(client, "u", b"\x00" * 4097).status == 413


@pytest.mark.parametrize("body", [b"{\"history\": []}", b"\x22\x7f", b"\xff" * 20])
def test_what_is_no_message_of_a_history(server, body):
    with server.client() as client:
        reply = update(client, "u-no-message", body)
        assert reply.status == 400 and reply.json()["type"] == "urn:dien:problem:invalid-request", reply
        assert reply.json()["pointer"] == ""
