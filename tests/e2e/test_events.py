"""POST /events: one outcome a line, in order within a user, safe to send again; bad lines stop no others; limits."""

import gzip
import json

import pytest

from support.histories import bits, part, split
from support.service import Service

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="session")
def plain(build, demo):
    """A server that keeps nothing: its scores are the right ones."""
    with Service(build, demo.path, "--cache-bytes", "0") as running:
        yield running


@pytest.fixture(name="file")
def file_fixture(tmp_path):
    return f"lmdb:{tmp_path}/histories"


def event(user, number, history, begin, end):
    return {"user_id": user, "event_id": f"e{number}", "history_append": part(history, begin, end)}


def body_of(events):
    return "".join(json.dumps(each) + "\n" for each in events).encode()


def outcomes(reply):
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.body.splitlines()]


def names(reply):
    return [each["outcome"] for each in outcomes(reply)]


def test_events_are_scored_in_their_order_and_can_be_sent_again(build, demo, rng, plain, file):
    """Three users' events mixed, in one body: plain, gzip, chunked; each body twice."""
    request, history = split(demo, rng)
    users = ["a", "b", "ü/c"]
    with Service(build, demo.path, "--histories", file) as server:
        client = server.client()
        pieces = {user: [] for user in users}
        events = []
        for number in range(90):
            user = rng.choice(users)
            begin = rng.randrange(12)
            events.append(event(user, number, history, begin, begin + 1))
            pieces[user].append(begin)
        for turn, lines in enumerate((events[:30], events[30:60], events[60:])):
            body = body_of(lines)
            send = {0: lambda: client.post(body, "/events", **LINES),
                    1: lambda: client.post(gzip.compress(body), "/events", **LINES, **{"Content-Encoding": "gzip"}),
                    2: lambda: client.ask("POST", "/events", iter([body[:700], body[700:]]), LINES)}[turn]
            first, again = outcomes(send()), outcomes(send())
            assert [each["outcome"] for each in first] == ["applied"] * 30
            assert [each["outcome"] for each in again] == ["duplicate"] * 30
            assert [each["count"] for each in first] == [each["count"] for each in again]
            assert [each["line"] for each in first] == list(range(1, 31))
        for user in users:
            whole = {name: [values[i] for i in pieces[user]] for name, values in history.items()}
            assert bits(client.post({**request, "user_id": user})) == bits(plain.score({**request, "history": whole}))
        text = client.get("/metrics").body.decode()
        assert 'dien_events_total{outcome="applied"} 90' in text and 'dien_events_total{outcome="duplicate"} 90' in text


def test_500_events_of_one_user_sent_again(build, demo, rng, file):
    _, history = split(demo, rng)
    body = body_of([event("u", number, history, number % 12, number % 12 + 1) for number in range(500)])
    with Service(build, demo.path, "--histories", file) as server:
        client = server.client()
        first = outcomes(client.post(body, "/events", **LINES))
        again = outcomes(client.post(body, "/events", **LINES))
        assert [each["count"] for each in first] == list(range(1, 501)) == [each["count"] for each in again]
        assert {each["outcome"] for each in first} == {"applied"} and {each["outcome"] for each in again} == {"duplicate"}


def test_a_bad_line_stops_no_other(build, demo, rng, file):
    _, history = split(demo, rng)
    field = next(iter(history))
    good = event("u", 1, history, 0, 1)
    bad = [("{", "invalid-json", ""), ("[]", "invalid-request", ""),
           (json.dumps({**good, "event_id": None}), "invalid-request", "/event_id"),
           (json.dumps({**good, "user_id": ""}), "invalid-user-id", "/user_id"),
           (json.dumps({**good, "candidates": []}), "invalid-request", "/candidates"),
           (json.dumps({**good, "history_append": {**good["history_append"], field: [True]}}), "invalid-request",
            f"/history_append/{field}/0")]
    lines = [json.dumps(good).encode()] + [text.encode() for text, _, _ in bad] + [b"", b" \r"]
    lines.append(json.dumps(event("u", 2, history, 0, 2)).encode())
    body = b"\n".join(lines)  # without a line break at the end
    with Service(build, demo.path, "--histories", file) as server:
        client = server.client()
        strict = client.post(body, "/events", Prefer="handling=strict", **LINES)
        assert strict.status == 400 and strict.json()["pointer"] == "/1"
        said = outcomes(client.post(body, "/events", **LINES))
        assert [each["outcome"] for each in said] == ["applied"] + ["refused"] * len(bad) + ["applied"]
        assert [each["count"] for each in (said[0], said[-1])] == [1, 3], "the strict one has changed nothing"
        assert said[-1]["line"] == len(lines)
        for each, (_, kind, pointer) in zip(said[1:], bad):
            assert each["type"] == f"urn:dien:problem:{kind}" and each["pointer"] == pointer and each["detail"]
        assert client.post(body_of([good]), "/events", Prefer="handling=strict", **LINES).status == 200


def test_limits_of_a_body(build, demo, rng, file):
    _, history = split(demo, rng)
    events = [event("u" if number % 2 else "v", number, history, 0, 1) for number in range(9)]
    with Service(build, demo.path, "--histories", file, "--max-events", "8", "--histories-dedupe", "3") as server:
        client = server.client()
        many = client.post(body_of(events), "/events", **LINES)
        assert many.status == 422 and many.json()["type"].endswith("too-many-events") and many.json()["pointer"] == ""
        one = client.post(body_of(events[:7]), "/events", **LINES)
        assert one.status == 422 and one.json()["type"].endswith("too-many-events")
        assert one.json()["pointer"] == "/6", "the line that is one too many for its user"
        assert names(client.post(body_of(events[:6]), "/events", **LINES)) == ["applied"] * 6, "nothing was applied before"
        assert client.post(b"\n \n", "/events", **LINES).status == 400
        assert client.post(body_of(events[:1]), "/events").status == 415
        assert client.get("/events").status == 405
        assert client.get("/model").json()["limits"]["max_events"] == 8


def test_a_user_that_is_full_is_refused(build, demo, rng, file):
    _, history = split(demo, rng)
    with Service(build, demo.path, "--histories", file, "--histories-user-bytes", "1024") as server:
        client = server.client()
        body = body_of([event(user, number, history, 0, 12) for number in range(90) for user in "uv"])
        said = outcomes(client.post(body, "/events", **LINES))
        assert {each["outcome"] for each in said} == {"applied", "refused"}
        refused = next(each for each in said if each["outcome"] == "refused")
        assert refused["type"].endswith("history-too-large")
        strict = client.post(body, "/events", Prefer="handling=strict", **LINES)
        assert strict.status == 422 and strict.json()["type"].endswith("history-too-large")


def test_a_store_that_is_down(build, demo, rng, tmp_path):
    _, history = split(demo, rng)
    body = body_of([event(f"u{number}", number, history, 0, 1) for number in range(300)])
    with Service(build, demo.path, "--histories", f"unix:{tmp_path}/no.sock") as server:
        client = server.client()
        said = outcomes(client.post(body, "/events", **LINES))
        assert len(said) == 300 and {each["outcome"] for each in said} == {"unavailable"}
        assert all(each["detail"] for each in said)
        strict = client.post(body, "/events", Prefer="handling=strict", **LINES)
        assert strict.status == 503 and strict.json()["type"].endswith("histories-unavailable")
        assert int(strict.headers["Retry-After"]) >= 1


def test_who_may_send_events(build, demo, rng, file, tmp_path, server):
    _, history = split(demo, rng)
    body = body_of([event("u", 1, history, 0, 1)])
    with server.client() as client:
        assert client.post(body, "/events", **LINES).status == 404, "it has no store"
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with Service(build, demo.path, "--histories", file, "--user-write-token-file", str(token)) as keeper:
        client = keeper.client()
        assert client.post(body, "/events", **LINES).status == 403
        assert client.post(body, "/events", Authorization="Bearer s3cret", **LINES).status == 200
