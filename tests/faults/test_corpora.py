"""Kinds of requests and of JSON texts, from tables: each is answered once, as its row says, and nothing in it is a second one.

The tables are http_kinds.py and json_kinds.py. Both paths of the decoder meet each text: in a usual place and in a rare one.
"""

import json

import pytest

import http_kinds
import json_kinds
from json_kinds import BROKEN, FREE, VALID
from support import wire
from support.service import Service

pytestmark = pytest.mark.only_on("release", "asan")  # one connection at a time: ThreadSanitizer sees as much in tests/e2e

BEFORE_AN_ID = json_kinds.PLACES["a member"][0]
SECOND = b"GET /health/live HTTP/1.1\r\nHost: test\r\nX-Request-Id: second\r\n\r\n"


@pytest.fixture(scope="module")
def running(build, demo):
    with Service(build, demo.path, "--log-level", "debug", "--header-timeout", "5", "--body-timeout", "5") as running:
        yield running


def rows_of_requests():
    for group, rows in http_kinds.KINDS.items():
        for name, data, expected in rows:
            yield pytest.param(data, expected, id=f"{group}: {name}")


@pytest.mark.parametrize(("data", "expected"), rows_of_requests())
def test_request(running, data, expected):
    """One answer. Behind it the connection ends, or the next request is answered as what it is."""
    account = wire.Account(running)
    talk = wire.Talk(data + SECOND, replies=2, method="GET", note=expected)
    wire.talk_all(running.address, [talk], seconds=30)
    assert not talk.timed_out, f"neither two answers nor an end: {talk.got!r}"
    replies, rest = talk.replies()
    assert not rest, f"bytes that are no reply: {rest!r}"
    assert replies, "closed without an answer"
    assert replies[0].status in expected, replies[0]
    if expected is http_kinds.REFUSED or len(replies) == 1:
        assert replies[0].closes or data.startswith(b"PRI"), replies[0]
    if len(replies) > 1:
        assert not replies[0].closes, replies
        assert [(each.status, each.headers.get("X-Request-Id")) for each in replies[1:]] == [(200, "second")], replies
    account.check([talk])


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("group", http_kinds.KINDS)
def test_request_in_pieces(running, group, cut):
    """The answer does not depend on how the bytes are cut."""
    def pieces(data):
        return [data[i:i + cut] for i in range(0, len(data), cut)]

    rows = http_kinds.KINDS[group]
    whole = wire.talk_all(running.address, [wire.Talk(data, method="GET", note=name) for name, data, _ in rows])
    apart = wire.talk_all(running.address, [wire.Talk(*pieces(data), method="GET", pause=0.001, note=name)
                                            for name, data, _ in rows])
    differing = [(one.note, one.replies()[0], other.replies()[0]) for one, other in zip(whole, apart)
                 if [each.status for each in one.replies()[0]] != [each.status for each in other.replies()[0]]]
    assert not differing, differing


@pytest.fixture(scope="module")
def client(running):
    with running.client() as client:
        yield client


def slug(client, body, path):
    """The kind of problem that a body got, "" for none. Never an error of the server's."""
    reply = client.post(body, path=path)
    assert reply.status < 500, reply
    if reply.status == 200:
        return ""
    problem = json.loads(reply.body)
    assert problem["status"] == reply.status and problem["detail"], reply
    return problem["type"].rsplit(":", 1)[-1]


def rows_of_texts():
    for place, (before, behind) in json_kinds.PLACES.items():
        yield pytest.param([(name, before + text + behind, kind) for name, text, kind in json_kinds.VALUES], id=place)
    yield pytest.param(json_kinds.DOCUMENTS + json_kinds.VALUES, id="a document")


@pytest.mark.parametrize("path", ["/score", "/users/corpus/history"])
@pytest.mark.parametrize("texts", rows_of_texts())
def test_json_text(client, path, texts):
    """Broken JSON is `invalid-json`, and JSON that is no request is not.

    The text of "a member" is the user's id: there a string that is no Unicode text may be `invalid-user-id`.
    """
    wrong = []
    for name, text, kind in texts:
        got = slug(client, text, path)
        broken = got == "invalid-json" or (kind == BROKEN and text.startswith(BEFORE_AN_ID) and got == "invalid-user-id")
        if kind != FREE and broken != (kind == BROKEN):
            wrong.append((name, kind, got))
    assert not wrong, wrong
    assert {kind for _, _, kind in texts} == {VALID, BROKEN, FREE}
