"""The Python client against the real server: results, tokens, errors, what it sends again and what it does not.

A proxy between them loses requests or replies at will, and notes what passed. Where only the client's own decisions are
asked, a plain socket answers by a script.
"""

import asyncio
import json
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time

import pytest

from support import builds, service

sys.path.insert(0, str(builds.TOP / "model" / "export"))

from dien import client as dien_client  # noqa: E402
from dien.client import AsyncClient, Client  # noqa: E402

pytestmark = pytest.mark.only_on("release")  # the client is new here, the server's code is not

LATE = {"timeout": 120.0}  # no test waits for it; a busy machine's answers are late
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def url_of(server):
    return "http://%s:%d" % server.address


def expected(server, body):
    """The plain HTTP client's scores of a request."""
    return server.score(body).scores()


def taken(demo, rng, history=6, candidates=5):
    return demo.request(rng, history=history, candidates=candidates)


class Script:
    """A server of one behaviour for each request, in turn: bytes to answer with, or None to close without an answer.
    `requests` holds what came: (request line, headers, body as JSON)."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @staticmethod
    def _header(line):
        name, value = line.decode().strip().split(": ", 1)
        return name.lower(), value

    def _serve(self):
        for answer in self.answers:
            connection, _ = self.listener.accept()
            with connection, connection.makefile("rb") as reader:
                line = reader.readline().decode().strip()
                headers = dict(self._header(each) for each in iter(reader.readline, b"\r\n"))
                body = reader.read(int(headers.get("content-length", 0)))
                self.requests.append((line, headers, json.loads(body) if body else None))
                if answer is not None:
                    connection.sendall(answer)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.listener.close()


def answer(status, document, *lines, media="application/json"):
    body = json.dumps(document).encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Type: {media}", f"Content-Length: {len(body)}", "Connection: close", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def problem(status, slug, *lines):
    return answer(status, {"type": "urn:dien:problem:" + slug, "title": slug, "status": status, "detail": "No."}, *lines,
                  media="application/problem+json")


SCORED = {"model": "m", "version": "1", "user_state": "computed", "history": {"length": 0, "received": 0}, "unknown": {},
          "results": [{"index": 0, "score": 0.5}]}
UPDATED = {name: value for name, value in SCORED.items() if name != "results"}


def test_typed_results(server, demo, rng):
    body = taken(demo, rng)
    with Client(url_of(server), **LATE) as client:
        ranking = client.score(**body, top_k=3, explain=True, request_id="client-1")
        assert ranking.request_id == "client-1" and ranking.model == demo.config["name"]
        assert len(ranking.model_digest) >= 12 and ranking.user_state == "computed" and ranking.history.length == 6
        assert len(ranking.results) == 3 and ranking.coverage == 1 and not ranking.stale
        assert ranking.scores().items() <= expected(server, body).items()
        assert [each.score for each in ranking.results] == sorted(ranking.scores().values(), reverse=True)
        best = ranking.results[0]
        assert best.fields["item"] == body["candidates"]["item"][best.index]
        assert len(best.attention["clicks"]) == 6 and sum(best.attention["clicks"]) == pytest.approx(1, abs=1e-5)
        described = client.model()
        assert described.name == demo.config["name"] and described.limits["max_candidates"] == 4096
        assert {field.name: field.attribute_of for field in described.groups["candidate"]}["category"] == "item"
        assert client.ready()


def test_tokens_are_kept_for_the_caller(server, demo, rng):
    """The caller sends whole histories; the server is sent the news alone, and has each state but once computed."""
    body = taken(demo, rng, history=9)
    whole = body.pop("history")
    before = server.metrics()
    with Client(url_of(server), **LATE) as client:
        states = []
        for length in (5, 5, 7, 9, 8, 9):
            history = {name: values[:length] for name, values in whole.items()}
            ranking = client.score(user_id="kept by the client", history=history, **body)
            states.append(ranking.user_state)
            assert ranking.scores() == expected(server, {**body, "history": history})
        assert states == ["computed", "cached", "extended", "extended", "computed", "extended"]
        held = client.user("kept by the client")
        assert held.history.length == 9 and held.bytes > 0
        client.delete_user("kept by the client")
        assert client.user("kept by the client") is None
        # Rows, and an item that the caller has changed in a list that it had given before.
        history = [{name: whole[name][i] for name in whole} for i in range(4)]
        client.score(user_id="rows", history=history, **body)
        history[0] = {name: values[8] for name, values in whole.items()}
        assert client.score(user_id="rows", history=history, **body).scores() == expected(server, {**body, "history": history})
    after = server.metrics()
    refused = [name for name in after if name.startswith("dien_requests_total") and "unknown-history-token" in name]
    assert all(after[name] == before.get(name, 0) for name in refused)


def test_a_token_that_the_server_does_not_know_any_more(start, demo, rng):
    """409 is the client's affair: the whole history goes at once, and the caller sees scores."""
    body = taken(demo, rng)
    server = start()
    with Client(url_of(server), **LATE) as client:
        client.score(user_id="u", **body)
        with server.client() as other:
            other.ask("DELETE", "/users/u")
        ranking = client.score(user_id="u", **body)
        assert ranking.user_state == "computed" and ranking.scores() == expected(server, body)
        assert client.score(user_id="u", **body).user_state == "cached"
    assert server.metrics()['dien_requests_total{outcome="unknown-history-token"}'] == 1
    with Client(url_of(server), **LATE) as client, pytest.raises(dien_client.UnknownToken) as raised:
        client.score(user_id="u", history_token="0" * 32, candidates=body["candidates"], user=body.get("user"),
                     context=body.get("context"))
    assert raised.value.status == 409 and raised.value.pointer == "/history_token"


def test_with_a_history_store_whole_histories_are_sent(start, demo, rng, tmp_path):
    """There an append would be stored, though the caller asked only for scores."""
    body = taken(demo, rng)
    server = start("--histories", f"lmdb:{tmp_path / 'store'}")
    with Client(url_of(server), **LATE) as client:
        for length in (2, 4):
            history = {name: values[:length] for name, values in body["history"].items()}
            ranking = client.score(**{**body, "history": history}, user_id="u")
            assert ranking.history.origin == "request" and ranking.history.length == length
        assert client.update_history("u", history_append=body["history"], event_id="e-1").history.count == 6
        assert client.update_history("u", history_append=body["history"], event_id="e-1").history.count == 6
        without = {name: value for name, value in body.items() if name != "history"}
        ranking = client.score(user_id="u", **without)
        assert ranking.history.origin == "store" and ranking.scores() == expected(server, body)


def test_a_stream_of_events(start, demo, rng, tmp_path):
    history = taken(demo, rng)["history"]
    one = {name: values[:1] for name, values in history.items()}
    events = [{"user_id": f"u{number % 2}", "event_id": f"e{number}", "history_append": one} for number in range(6)]
    server = start("--histories", f"lmdb:{tmp_path / 'store'}")
    with Client(url_of(server), **LATE) as client:
        outcomes = client.append_events(events)
        assert [(each.outcome, each.count) for each in outcomes] == [("applied", 1 + number // 2) for number in range(6)]
        assert {each.outcome for each in client.append_events(iter(events))} == {"duplicate"}
        wrong = client.append_events([events[0], {**events[1], "event_id": "new", "history_append": {"item": 5}}])
        assert (wrong[0].outcome, wrong[1].outcome) == ("duplicate", "refused")
        assert wrong[1].slug == "invalid-request" and wrong[1].pointer == "/history_append/item"
    with Script(None, answer(200, {"line": 1, "outcome": "applied"})) as script, Client(script.url, **LATE) as client:
        assert [each.outcome for each in client.append_events(events[:1])] == ["applied"], "a lost reply: sent again"
        assert {headers["content-type"] for _, headers, _ in script.requests} == {"application/x-ndjson"}


def test_errors_have_pointers(server, demo, rng):
    body = taken(demo, rng)
    with Client(url_of(server), **LATE) as client:
        column = [*body["history"]["item"][:2], 5.5, *body["history"]["item"][3:]]
        wrong = {**body, "history": {**body["history"], "item": column}}
        with pytest.raises(dien_client.RequestRefused) as raised:
            client.score(**wrong)
        assert (raised.value.status, raised.value.slug, raised.value.pointer) == (400, "invalid-request", "/history/item/2")
        assert "/history/item/2" in str(raised.value) and raised.value.request_id
        # A pointer is one into the caller's request, though the client sent a part of it.
        history = {name: values[:2] for name, values in wrong["history"].items()}
        client.score(**{**body, "history": history}, user_id="pointer")
        with pytest.raises(dien_client.RequestRefused) as raised:
            client.score(**wrong, user_id="pointer")
        assert raised.value.pointer == "/history/item/2"
        with pytest.raises(ValueError, match="JSON"):
            client.score(candidates={"item": [float("nan")]})
        with pytest.raises(TypeError, match="set"):
            client.score(candidates={"item": {1}})
    with pytest.raises(dien_client.Unreachable) as unreachable, Client("http://127.0.0.1:1", retries=1) as client:
        client.score(candidates={"item": ["a"]})
    assert not unreachable.value.sent


def test_ids_of_any_characters(server, demo, rng):
    body = taken(demo, rng)
    with Client(url_of(server), **LATE) as client:
        for user in ("a/b%2F c?#", "Ж-é-用户", "x" * 256):
            assert client.update_history(user, history=body["history"]).history.length == 6
            assert client.user(user).history.received == 6
            assert client.score(user_id=user, **body).user_state == "cached"
            client.delete_user(user)
            assert client.user(user) is None


def test_a_server_that_goes_away_and_comes_back(build, demo, rng, tmp_path):
    """The client has idle connections to a server that is killed; its successor on that path answers the call."""
    body = taken(demo, rng)
    path = tmp_path / "socket"
    first = service.Service(build, demo.path, "--listen", f"unix:{path}")
    with Client(f"unix:{path}", retries=500, timeout=120) as client:
        before = client.score(user_id="u", **body)
        first.process.kill()
        first.process.wait()
        starting = []
        thread = threading.Timer(0.3, lambda: starting.append(service.Service(build, demo.path, "--listen", f"unix:{path}",
                                                                              "--listen-when-ready", "on")))
        thread.start()
        try:
            after = client.score(user_id="u", **body)  # by a token that the new server does not know
        finally:
            thread.join()
        assert after.scores() == before.scores() and after.user_state == "computed"
        starting[0].stop()


def test_a_lost_reply_is_asked_for_again():
    body = {"candidates": {"item": ["a"]}}
    with Script(None, None, answer(200, SCORED)) as script, Client(script.url, **LATE) as client:
        assert client.score(**body).scores() == {0: 0.5}
        assert len(script.requests) == 3
    with Script(None, None, None) as script, Client(script.url, **LATE) as client:
        with pytest.raises(dien_client.Unreachable) as raised:
            client.score(**body)
        assert raised.value.sent and len(script.requests) == 3


@pytest.mark.parametrize("members, times", [({"history_append": []}, 1), ({"history_append": [], "event_id": "e"}, 2),
                                            ({"history_append": [], "history_token": "0" * 32}, 2), ({"history": []}, 2)])
def test_an_append_goes_again_only_if_it_is_known_by_a_name(members, times):
    """The table of deploy/README.md."""
    with Script(None, answer(200, UPDATED)) as script, Client(script.url, **LATE) as client:
        if times == 1:
            with pytest.raises(dien_client.Unreachable):
                client.update_history("u", **members)
        else:
            client.update_history("u", **members)
        assert len(script.requests) == times
        assert [headers.get("idempotency-key") for _, headers, _ in script.requests] == [members.get("event_id")] * times
        assert {line for line, _, _ in script.requests} == {"POST /users/u/history HTTP/1.1"}


def test_503_waits_as_long_as_the_server_says():
    body = {"candidates": {"item": ["a"]}}
    with Script(problem(503, "saturated", "Retry-After: 1"), answer(200, SCORED)) as script, Client(script.url, **LATE) as client:
        began = time.monotonic()
        client.score(**body)
        assert time.monotonic() - began >= 1
        limits = [int(headers["x-request-timeout-ms"]) for _, headers, _ in script.requests]
        assert 119_000 < limits[0] <= 120_000 and limits[1] <= limits[0] - 1000
    # An append without a name, too: what is 503 was not acted upon. But a store may have it.
    with Script(problem(503, "draining", "Retry-After: 1"), answer(200, UPDATED)) as script, \
            Client(script.url, **LATE) as client:
        client.update_history("u", history_append=[])
        assert len(script.requests) == 2
    with Script(problem(503, "histories-unavailable", "Retry-After: 1")) as script, Client(script.url, **LATE) as client:
        with pytest.raises(dien_client.Unavailable) as raised:
            client.update_history("u", history_append=[])
        assert raised.value.retry_after == 1 and raised.value.slug == "histories-unavailable"
    # Longer than the call may take: said at once.
    with Script(problem(503, "saturated", "Retry-After: 3600")) as script, Client(script.url, **LATE) as client:
        with pytest.raises(dien_client.Unavailable, match="503"):
            client.score(**body)


@pytest.mark.parametrize("status, slug, kind", [(504, "deadline-passed", dien_client.DeadlinePassed),
                                                (422, "too-many-candidates", dien_client.RequestRefused),
                                                (500, "model-fault", dien_client.Unavailable)])
def test_what_would_fail_again_is_not_sent_again(status, slug, kind):
    with Script(problem(status, slug)) as script, Client(script.url, **LATE) as client:
        with pytest.raises(kind) as raised:
            client.score(candidates={"item": ["a"]})
        assert len(script.requests) == 1 and raised.value.slug == slug


def test_a_proxy_s_own_page():
    """A 502 of a balancer is no problem document; the request may be repeated."""
    page = answer(502, "Bad Gateway", media="text/html")
    with Script(page, page, page) as script, Client(script.url, **LATE) as client:
        with pytest.raises(dien_client.Unavailable, match="Bad Gateway") as raised:
            client.score(candidates={"item": ["a"]})
        assert raised.value.slug == "" and len(script.requests) == 3


def test_headers_of_a_call():
    """The trace, the id for the balancer, priority: with each attempt."""
    def propagate(headers):
        headers["traceparent"] = "of the process"

    with Script(None, answer(200, SCORED), answer(200, SCORED)) as script, \
            Client(script.url, headers={"Authorization": "Bearer x"}, propagate=propagate, **LATE) as client:
        client.score(candidates={"item": ["a"]}, user_id="u", traceparent=TRACE, tracestate="a=b", priority="low")
        client.score(candidates={"item": ["a"]}, user_id="é")
        for _, headers, _ in script.requests[:2]:
            assert headers["traceparent"] == TRACE and headers["tracestate"] == "a=b" and headers["x-priority"] == "low"
            assert headers["x-user-id"] == "u" and headers["authorization"] == "Bearer x"
        headers = script.requests[2][1]
        assert headers["traceparent"] == "of the process" and "x-user-id" not in headers


def test_coroutines(server, demo, rng):
    """All of them on one client; each gets its own answer."""
    bodies = [taken(demo, rng, history=1 + i % 7) for i in range(40)]
    wanted = [expected(server, body) for body in bodies]

    async def all_of_them():
        async with AsyncClient(url_of(server), connections=5, **LATE) as client:
            assert await client.ready() and (await client.model()).name == demo.config["name"]
            rankings = await asyncio.gather(*(client.score(user_id=f"async-{i}", **body) for i, body in enumerate(bodies)))
            assert [ranking.scores() for ranking in rankings] == wanted
            again = await asyncio.gather(*(client.score(user_id=f"async-{i}", **body) for i, body in enumerate(bodies)))
            assert {ranking.user_state for ranking in again} == {"cached"}
            with pytest.raises(dien_client.RequestRefused) as raised:
                await client.score(candidates={"item": []})
            assert raised.value.pointer == "/candidates"
            await client.update_history("async-0", history_append={name: values[:1] for name, values
                                                                   in bodies[0]["history"].items()})
            assert (await client.user("async-0")).history.received == 2
            await client.delete_user("async-0")
            assert await client.user("async-0") is None
    asyncio.run(all_of_them())
    with Script(None, answer(200, SCORED)) as script:
        async def once_more():
            async with AsyncClient(script.url, **LATE) as client:
                return await client.score(candidates={"item": ["a"]})
        assert asyncio.run(once_more()).scores() == {0: 0.5}


def test_threads_share_a_client(start, demo):
    """Connections are kept: there are never more than the pool may have, and each answer is the caller's own."""
    server, faults = start(), []
    bodies = [taken(demo, random.Random(i), history=3) for i in range(8)]
    wanted = [expected(server, body) for body in bodies]
    before = server.metrics()["dien_connections_accepted_total"]
    with Client(url_of(server), connections=4, **LATE) as client:
        def work(number):
            for _ in range(10):
                if client.score(user_id=f"t{number}", **bodies[number]).scores() != wanted[number]:
                    faults.append(number)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not faults
    assert server.metrics()["dien_connections_accepted_total"] - before <= 4 + 1  # and that of this reading


@pytest.mark.check_only  # pandas
def test_numpy_and_frames(server, demo, rng):
    import numpy as np
    import pandas
    body = taken(demo, rng)
    wanted = expected(server, body)
    with Client(url_of(server), **LATE) as client:
        arrays = {name: np.array(values) for name, values in body["candidates"].items()}
        assert client.score(**{**body, "candidates": arrays}).scores() == wanted
        frames = {name: pandas.DataFrame(body[name]) for name in ("history", "candidates")}
        for _ in range(2):
            ranking = client.score(**{**body, **frames}, user_id="frames")
            assert ranking.scores() == wanted
        assert ranking.user_state == "cached"
        frame = ranking.to_frame()
        assert list(frame.columns) == ["index", *body["candidates"], "score"]
        assert frame["score"].tolist() == [each.score for each in ranking.results]
        # What is missing in a frame is left out: the model knows the category of its items.
        frames["candidates"]["category"] = [np.nan] * len(frames["candidates"])
        known = {name: values for name, values in body["candidates"].items() if name != "category"}
        assert client.score(**{**body, **frames}).scores() == expected(server, {**body, "candidates": known})


def test_the_client_needs_no_training_tools():
    """Imported in a process of its own: neither PyTorch nor numpy nor pandas comes with it."""
    code = "import sys, dien.client; print([name for name in ('torch', 'numpy', 'pandas') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=builds.TOP / "model" / "export", capture_output=True, text=True,
                         check=True)
    assert ran.stdout == "[]\n"
    assert pathlib.Path(dien_client.__file__).parent.name == "client"
