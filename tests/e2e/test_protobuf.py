"""POST /score as the messages of proto/score.proto: the same answers and the same errors as JSON, by Google's own library."""

import struct

import pytest

from support.messages import MEDIA_TYPE, column_of, compiled, message_of

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


def spoil_user_id(message, _):
    message.user_id = "u" * 257
    return "/user_id"


@pytest.mark.parametrize("spoil", [spoil_nothing_sent, spoil_unknown_field, spoil_kind, spoil_kinds, spoil_user_id])
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


@pytest.mark.parametrize("body", [b"{}", b"\x0a\x7f", b"\xff" * 20, b"\x50\x01"])
def test_what_is_no_message(server, body):
    with server.client() as client:
        reply = client.ask("POST", "/score", body, TYPE)
        assert reply.status == 400 and reply.json()["pointer"] == ""


def test_limits_are_the_same(server, demo, rng, messages):
    body = demo.request(rng, history=1, candidates=4097)
    with server.client() as client:
        told, got = client.post(body), post(client, message_of(messages, body))
        assert (told.status, got.status) == (422, 422)
        assert {**told.json(), "instance": ""} == {**got.json(), "instance": ""}


def test_only_scoring_takes_messages(server):
    with server.client() as client:
        assert client.ask("POST", "/users/u/history", b"", {**TYPE, "Content-Length": "0"}).status == 415
