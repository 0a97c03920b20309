"""What is kept of a user: cached, extended and computed states give the very scores of a server that keeps nothing;
tokens, updates of histories, what is told and forgotten of a user; a budget, an age, many threads on one user.
"""

import json
import random
import threading
import time
import urllib.parse

import pytest

from support import modelfile
from support.service import Service
from test_operation import run, series

UNKNOWN_TOKEN = "urn:dien:problem:unknown-history-token"
NO_STATE = "urn:dien:problem:no-user-state"


@pytest.fixture(scope="session")
def server(build, demo):
    """A server of this file's own: no other test's requests are counted. It explains by token, to compare attention."""
    with Service(build, demo.path, "--explain-held", "on") as running:
        yield running


@pytest.fixture(scope="session")
def plain(build, demo):
    """A server that keeps nothing: its scores are the right ones."""
    with Service(build, demo.path, "--cache-bytes", "0") as running:
        yield running


@pytest.fixture
def user(request):
    """A user of the test's own."""
    return f"user of {request.node.name}"


def path_of(user, more=""):
    return "/users/" + urllib.parse.quote(user, safe="") + more


def part(columns, begin, end=None):
    return {name: values[begin:end] for name, values in columns.items()}


def history_of(reply):
    return reply.json()["history"]


def token_of(reply):
    token = history_of(reply)["token"]
    assert len(token) == 32 and set(token) <= set("0123456789abcdef")
    return token


def bits(reply):
    """What the scores and the rest of the results are, to the last digit."""
    assert reply.status == 200, reply
    return reply.body[reply.body.index(b'"results"'):]


def refused(reply, status, kind, pointer=None):
    assert reply.status == status, reply
    problem = reply.json()
    assert problem["type"] == kind and problem.get("pointer") == pointer, problem


class Asked:
    """One user's requests, each beside the same request at a server that keeps nothing."""

    def __init__(self, client, plain, body, user):
        self.client, self.plain, self.user = client, plain, user
        self.body = {**body, "user_id": user, "explain": True}
        self.whole = body["history"]

    def score(self, history):
        reply = self.client.post({**self.body, "history": history})
        self.same(reply, history)
        return reply

    def token(self, token, more, history):
        """With a token, `history` being what it and `more` stand for."""
        body = {name: value for name, value in self.body.items() if name != "history"}
        reply = self.client.post({**body, "history_token": token, **({} if more is None else {"history_append": more})})
        self.same(reply, history)
        return reply

    def same(self, reply, history):
        right = self.plain.score({**self.body, "history": history})
        assert bits(reply) == bits(right)
        kept = dict(history_of(reply))
        kept.pop("token", None)
        assert kept == history_of(right)

    def state(self, history):
        return self.score(history).json()["user_state"]


@pytest.fixture
def asked(server, plain, demo, rng, user):
    with server.client() as client:
        body = demo.request(rng, history=0, candidates=7)
        body["history"] = {name: rng.sample(demo.known_ids(name), 60) for name in body["history"]}  # each once
        yield Asked(client, plain, body, user)
        assert client.ask("DELETE", path_of(user)).status == 204


def moved(before, after, name, **labels):
    return series(after, name, **labels) - series(before, name, **labels)


# The same bits, however the state came about.

def test_computed_cached_extended(server, asked):
    before = server.metrics()
    whole = asked.whole
    assert asked.state(part(whole, 0, 10)) == "computed"
    assert asked.state(part(whole, 0, 10)) == "cached"
    assert asked.state(part(whole, 0, 11)) == "extended"
    assert asked.state(part(whole, 0, 30)) == "extended"
    assert asked.state(part(whole, 0, 30)) == "cached"
    after = server.metrics()
    assert moved(before, after, "dien_user_state_misses_total", reason="absent") == 1
    assert moved(before, after, "dien_user_state_misses_total") == 1


def test_a_request_that_says_nothing_of_a_history_means_the_held_one(server, plain, asked):
    """Never a ranking as if there were no history where there is one; and a user whom nobody knows is told as such."""
    nothing = {**{name: value for name, value in asked.body.items() if name != "history"}, "explain": False}
    before = server.metrics()
    with plain.client() as other:
        def check(state, history):
            got = asked.client.post(nothing)
            right = other.post({**nothing, "history": history})
            assert bits(got) == bits(right)
            assert got.json()["user_state"] == state and history_of(got) == history_of(right)
        empty = part(asked.whole, 0, 0)
        check("absent", empty)
        assert asked.client.ask("GET", path_of(asked.user)).status == 404, "nothing is kept of an unknown user"
        assert asked.state(part(asked.whole, 0, 20)) == "computed"
        check("cached", part(asked.whole, 0, 20))
        assert asked.client.post({"history_append": part(asked.whole, 20, 30)}, path_of(asked.user, "/history")).status == 200
        check("cached", part(asked.whole, 0, 30))
        assert asked.state(part(asked.whole, 0, 30)) == "cached", "asking changes nothing"
        assert asked.state({}) == "computed", "a history that is sent, and empty, is the user's history"
        check("cached", empty)
        assert asked.state(asked.whole) == "computed"
        check("cached", asked.whole)
        assert asked.client.ask("DELETE", path_of(asked.user)).status == 204
        check("absent", empty)
        assert other.post(nothing).json()["user_state"] == "absent", "a server that keeps nothing knows nobody"
        explained = asked.client.post({**nothing, "explain": True})
        assert explained.json()["user_state"] == "absent"
    after = server.metrics()
    assert moved(before, after, "dien_user_states_total", state="absent") == 3


def test_another_cut_of_the_same_history(asked):
    """The same behaviours are kept of both; how many there were is the newest request's to say."""
    longest = 50
    asked.score(asked.whole)
    cut = asked.score(part(asked.whole, 60 - longest))
    assert cut.json()["user_state"] == "cached"
    more = part(asked.whole, 0, 1)
    history = {name: values[60 - longest:] + more[name] for name, values in asked.whole.items()}
    asked.token(token_of(cut), more, history)


def edited(history, place, name="item", value="an item that is not in the catalogue"):
    return {**history, name: [value if i == place else each for i, each in enumerate(history[name])]}


@pytest.mark.parametrize("place", [0, 10, 19])
def test_edited(server, asked, place):
    """One behaviour is another one: first, middle or last."""
    history = part(asked.whole, 0, 20)
    asked.score(history)
    before = server.metrics()
    assert asked.state(edited(history, place)) == "computed"
    assert asked.state(edited(history, place)) == "cached"
    assert asked.state(history) == "computed"
    assert asked.state(edited(part(asked.whole, 0, 25), place)) == "computed", "longer, but not from there on"
    after = server.metrics()
    assert moved(before, after, "dien_user_state_misses_total", reason="edited") == 3
    assert moved(before, after, "dien_user_state_misses_total") == 3


def test_an_attribute_is_edited(server, asked):
    """The same items, one sent with another category than the model has: another history."""
    rows = modelfile.rows(part(asked.whole, 0, 6))
    assert asked.state(rows) == "computed"
    with_category = [dict(row) for row in rows]
    with_category[3]["category"] = 999
    assert asked.state(with_category) == "computed"
    assert asked.state(rows) == "computed"


def test_shorter(server, asked):
    asked.score(part(asked.whole, 0, 20))
    before = server.metrics()
    assert asked.state(part(asked.whole, 0, 19)) == "computed"
    assert asked.state(part(asked.whole, 0, 0)) == "computed"
    after = server.metrics()
    assert moved(before, after, "dien_user_state_misses_total", reason="shorter") == 2
    assert moved(before, after, "dien_user_state_misses_total") == 2
    assert asked.state(part(asked.whole, 0, 0)) == "cached"
    assert asked.state(part(asked.whole, 0, 1)) == "extended"


def test_a_window_that_slides(server, asked, demo):
    """Beyond max_length the kept end is computed anew: as training saw it."""
    (most,) = {interest["max_length"] for interest in demo.config["interests"]}
    whole = asked.whole
    assert len(next(iter(whole.values()))) >= most + 5, "the demo model takes longer histories: make this one longer"
    before = server.metrics()
    assert asked.state(part(whole, 0, most)) == "computed"
    assert asked.state(part(whole, 0, most + 1)) == "computed"
    assert asked.state(part(whole, 0, most + 1)) == "cached"
    assert asked.state(part(whole, 0, most + 4)) == "computed"
    assert asked.state(part(whole, 4, most + 4)) == "cached", "a caller that sends the window only"
    after = server.metrics()
    assert moved(before, after, "dien_user_state_misses_total", reason="absent") == 1
    assert moved(before, after, "dien_user_state_misses_total", reason="slid") == 2
    assert moved(before, after, "dien_user_state_misses_total") == 3


def test_without_user_id_nothing_is_kept(server, demo, rng):
    body = demo.request(rng, history=4, candidates=3)
    before = server.metrics()
    for _ in range(2):
        reply = server.score(body)
        assert reply.json()["user_state"] == "computed" and "token" not in history_of(reply)
    after = server.metrics()
    assert after["dien_cache_entries"] == before["dien_cache_entries"]
    assert moved(before, after, "dien_user_state_misses_total") == 0


def test_both_forms_are_one_history(asked):
    columns = part(asked.whole, 0, 6)
    assert asked.state(columns) == "computed"
    assert asked.state(modelfile.rows(columns)) == "cached"


# Tokens.

def test_a_token_stands_for_the_history(asked):
    whole = asked.whole
    first = asked.score(part(whole, 0, 8))
    again = asked.token(token_of(first), None, part(whole, 0, 8))
    assert again.json()["user_state"] == "cached" and token_of(again) == token_of(first)
    empty = asked.token(token_of(first), part(whole, 0, 0), part(whole, 0, 8))
    assert empty.json()["user_state"] == "cached" and token_of(empty) == token_of(first)
    more = asked.token(token_of(first), part(whole, 8, 12), part(whole, 0, 12))
    assert more.json()["user_state"] == "extended" and token_of(more) != token_of(first)
    rows = asked.token(token_of(more), modelfile.rows(part(whole, 12, 14)), part(whole, 0, 14))
    assert rows.json()["user_state"] == "extended"
    assert history_of(rows)["length"] == history_of(rows)["received"] == 14
    assert asked.state(part(whole, 0, 14)) == "cached", "what was appended is the history"


def test_appending_past_the_window(asked, demo):
    most = max(interest["max_length"] for interest in demo.config["interests"])
    whole, length = asked.whole, most - 1
    token = token_of(asked.score(part(whole, 0, length)))
    while length < most + 5:
        reply = asked.token(token, part(whole, length, length + 2), part(whole, 0, length + 2))
        length += 2
        assert reply.json()["user_state"] == ("extended" if length <= most else "computed")
        assert history_of(reply)["received"] == length
        token = token_of(reply)


def test_unknown_tokens(server, start, asked, demo, tmp_path):
    """Stale, another user's, made up, another process's, another model version's: what a client acts on is the same."""
    whole = asked.whole
    first = asked.score(part(whole, 0, 5))
    stale = token_of(first)
    current = token_of(asked.score(part(whole, 0, 6)))
    other = {**asked.body, "user_id": asked.user + " too"}
    theirs = token_of(asked.client.post(other))
    changed = demo.copy(tmp_path / "model")
    changed.config["version"] += "-next"
    changed.write_config()
    there = [token_of(start(model=model).score({**asked.body, "history": part(whole, 0, 6)})) for model in (demo, changed)]
    body = {name: value for name, value in asked.body.items() if name != "history"}
    made_up = ["0" * 32, "f" * 32, "x" * 32, "short", current.upper() if current.upper() != current else "A" * 32,
               current[:-1], current + "0", "é" * 16, "y" * 256]
    before = server.metrics()
    for token in (stale, theirs, *there, *made_up):
        for more in ({}, {"history_append": part(whole, 6, 7)}):
            refused(asked.client.post({**body, "history_token": token, **more}), 409, UNKNOWN_TOKEN, "/history_token")
    nobody = {**body, "user_id": "a user that was never here", "history_token": current}
    refused(asked.client.post(nobody), 409, UNKNOWN_TOKEN, "/history_token")
    after = server.metrics()
    assert moved(before, after, "dien_requests_total", outcome="unknown-history-token") == 2 * (4 + len(made_up)) + 1
    assert moved(before, after, "dien_http_responses_total", status="409") == 2 * (4 + len(made_up)) + 1
    assert asked.token(current, None, part(whole, 0, 6)).json()["user_state"] == "cached", "refusals harm nothing"
    asked.client.ask("DELETE", path_of(other["user_id"]))


def test_members_that_do_not_go_together(asked):
    token = token_of(asked.score(part(asked.whole, 0, 3)))
    body = {name: value for name, value in asked.body.items() if name != "history"}
    nameless = {name: value for name, value in body.items() if name != "user_id"}
    more, history = part(asked.whole, 3, 4), part(asked.whole, 0, 3)
    for wrong, pointer in (({**nameless, "history_token": token}, "/history_token"),
                           ({**body, "history_token": token, "history": history}, "/history_token"),
                           ({**body, "history_append": more}, "/history_append"),
                           ({**body, "history": history, "history_append": more}, "/history_append"),
                           ({**body, "history_token": ""}, "/history_token"),
                           ({**body, "history_token": "x" * 257}, "/history_token"),
                           ({**body, "history_token": token, "history_append": "A"}, "/history_append"),
                           ({**body, "history_token": token, "history_append": {"nosuch": []}}, "/history_append/nosuch")):
        refused(asked.client.post(wrong), 400, "urn:dien:problem:invalid-request", pointer)


def test_too_much_is_appended(start, demo, rng):
    server = start("--max-history", "5")
    body = demo.request(rng, history=5, candidates=2)
    with server.client() as client:
        token = token_of(client.post({**body, "user_id": "u"}))
        more = demo.request(rng, history=6, candidates=2)["history"]
        refused(client.post({"user_id": "u", "history_token": token, "history_append": more,
                             **{name: body[name] for name in body if name != "history"}}), 422,
                "urn:dien:problem:history-too-long", "/history_append")
        refused(client.post({"history_append": more}, "/users/u/history"), 422, "urn:dien:problem:history-too-long",
                "/history_append")


# POST /users/{id}/history.

def test_updates_make_the_state_ready(server, asked):
    whole, update = asked.whole, path_of(asked.user, "/history")
    before = server.metrics()
    made = asked.client.post({"history": part(whole, 0, 4)}, update)
    assert made.status == 200 and made.json()["user_state"] == "computed" and "results" not in made.json()
    assert asked.token(token_of(made), None, part(whole, 0, 4)).json()["user_state"] == "cached"
    more = asked.client.post({"history_append": part(whole, 4, 6)}, update)
    assert more.json()["user_state"] == "extended" and history_of(more)["length"] == 6
    most = asked.client.post({"history_token": token_of(more), "history_append": modelfile.rows(part(whole, 6, 7))}, update)
    assert most.json()["user_state"] == "extended"
    refused(asked.client.post({"history_token": token_of(more), "history_append": part(whole, 6, 7)}, update), 409,
            UNKNOWN_TOKEN, "/history_token")
    same = asked.client.post({"history_token": token_of(most), "history_append": []}, update)
    assert same.json()["user_state"] == "cached" and token_of(same) == token_of(most)
    assert asked.state(part(whole, 0, 7)) == "cached"
    after = server.metrics()
    assert moved(before, after, "dien_http_responses_total", route="/users/{id}/history", status="200") == 4
    assert moved(before, after, "dien_http_responses_total", route="/users/{id}/history", status="409") == 1
    assert moved(before, after, "dien_user_states_total", state="computed") == 1
    assert moved(before, after, "dien_user_states_total", state="extended") == 2
    assert moved(before, after, "dien_user_states_total", state="cached") == 3
    assert moved(before, after, "dien_candidates_total") == 14, "updates have none"


def test_updates_that_are_refused(server, asked):
    update = path_of(asked.user, "/history")
    for body in ({"history_append": part(asked.whole, 0, 2)}, {"history_append": []}):
        refused(asked.client.post(body, update), 404, NO_STATE)
    for body, pointer in (({}, ""), ([], ""), (5, ""), ({"history_token": "0" * 32}, ""), ({"history": 5}, "/history"),
                          ({"history": [], "history_token": "0" * 32}, "/history_token"),
                          ({"history": [], "history_append": []}, "/history_append"),
                          ({"history": [], "user_id": "u"}, "/user_id"),
                          ({"history": {"nosuch": [1]}}, "/history/nosuch")):
        refused(asked.client.post(body, update), 400, "urn:dien:problem:invalid-request", pointer)
    for text in ("", "{", "\xff"):
        refused(asked.client.post(text.encode("latin-1"), update), 400, "urn:dien:problem:invalid-json", "")
    assert asked.client.post("{}", update, **{"Content-Type": "text/plain"}).status == 415
    assert asked.client.get(update).status == 405
    refused(asked.client.get(path_of(asked.user)), 404, NO_STATE)


# Ids.

IDS = ["u", "a/b", "a%2Fb", "..", "history", "+ +", "Zoë", "用户", "🙂" * 64, "x" * 256, 'quote " and \\', "tab\tand\nline",
       "\x7f\x01", "a?b#c", "{id}", "café", "cafe\u0301"]


@pytest.mark.parametrize("escape", [False, True], ids=["utf8", "escapes"])
def test_a_path_names_the_user_of_the_json(server, demo, rng, escape):
    """Whatever the id has in it, however JSON writes it; ids that look alike are different users."""
    bodies = {user: demo.request(rng, history=2 + i, candidates=2, user_id=user) for i, user in enumerate(IDS)}
    with server.client() as client:
        for user, body in bodies.items():
            reply = client.post(json.dumps(body, ensure_ascii=escape))
            assert reply.json()["user_state"] == "computed", user
        for i, (user, body) in enumerate(bodies.items()):
            held = client.get(path_of(user))
            assert held.status == 200 and history_of(held)["length"] == 2 + i, user
            assert client.post({"history": body["history"]}, path_of(user, "/history")).json()["user_state"] == "cached"
            assert client.get("/users/" + "".join(f"%{byte:02x}" for byte in user.encode())).status == 200
        for user in IDS:
            assert client.ask("DELETE", path_of(user)).status == 204
            assert client.get(path_of(user)).status == 404


@pytest.mark.parametrize("user", ["%ZZ", "%", "%4", "a%", "a%2", "%%41", "x" * 257, "%41" * 257])
def test_bad_ids(server, user):
    with server.client() as client:
        for reply in (client.get(f"/users/{user}"), client.ask("DELETE", f"/users/{user}"),
                      client.post({"history": []}, f"/users/{user}/history")):
            refused(reply, 400, "urn:dien:problem:invalid-user-id")


def test_no_id(server):
    with server.client() as client:
        for path in ("/users", "/users/", "/users//history", "/users/a/", "/users/a/other", "/users/a/history/"):
            refused(client.get(path), 404, "urn:dien:problem:not-found")


def test_the_log_has_no_ids(start, demo, rng):
    server = start("--log-level", "debug")
    user = "secretly"
    with server.client() as client:
        named = [client.post(demo.request(rng, history=2, candidates=2, user_id=user)),
                 client.post({"history_append": []}, f"/users/{user}/history"), client.get(f"/users/{user}"),
                 client.ask("DELETE", f"/users/{user}"), client.get(f"/users/{user}"), client.get(f"/users/{user}/other"),
                 client.get(f"http://test/users/{user}"), client.post({}, f"/users/{user}"),
                 client.post("{", f"/users/{user}/history"), client.get(f"/users/{user}%zz")]
    assert [reply.status for reply in named] == [200, 200, 200, 204, 404, 404, 404, 405, 400, 400]
    lines = [server.logged(reply.headers["X-Request-Id"]) for reply in named]
    assert {line.get("http.route", line.get("url.path")) for line in lines} == {
        "/score", "/users/{id}", "/users/{id}/history", "/users/..."}
    assert user not in server.output


# What a caller can learn who has no more than a user's id.

EXPLAIN_HELD = "urn:dien:problem:explain-held"


@pytest.fixture(scope="module")
def guarded(build, demo):
    """A server as it is by default: it explains no history that it holds."""
    with Service(build, demo.path) as running:
        yield running


def empty_appends(demo):
    """Bodies of POST /users/{id}/history that append nothing."""
    fields = demo.config["groups"]["behaviour"]
    return [{"history_append": []}, {"history_append": {}}, {"history_append": {name: [] for name in fields}}]


def test_an_id_alone_tells_no_behaviour(guarded, demo, rng):
    """An append of nothing gives no token, and a token gives no attention: neither lets a caller ask the held history
    behaviour by behaviour."""
    body = demo.request(rng, history=12, candidates=3)
    short = {name: value for name, value in body.items() if name != "history"}
    with guarded.client() as client:
        owner = token_of(client.post({**body, "user_id": "victim"}))
        for nothing in empty_appends(demo):
            reply = client.post(nothing, "/users/victim/history")
            assert reply.status == 200 and reply.json()["user_state"] == "cached", reply
            assert "token" not in history_of(reply) and owner.encode() not in reply.body
        refused(client.post({**short, "user_id": "victim", "explain": True}), 403, EXPLAIN_HELD, "/explain")
        unknown = client.post({**short, "user_id": "nobody", "explain": True})
        assert unknown.status == 200 and unknown.json()["user_state"] == "absent"
        scored = client.post({**short, "user_id": "victim"})
        assert scored.json()["user_state"] == "cached" and "token" not in history_of(scored)
        # Whoever appends a behaviour has a token of the new state, but no attention over it.
        stolen = token_of(client.post({"history_append": part(body["history"], 0, 1)}, "/users/victim/history"))
        for token in (owner, stolen, "0" * 32):
            for more in ({}, {"history_append": []}, {"history_append": part(body["history"], 0, 1)}):
                reply = client.post({**short, "user_id": "victim", "history_token": token, "explain": True, **more})
                refused(reply, 403, EXPLAIN_HELD, "/explain")
                assert b"attention" not in reply.body
        assert history_of(client.get("/users/victim"))["received"] == 13, "what was refused was not applied"
        # Explaining a history that the request brings stays possible, kept or not.
        again = client.post({**body, "user_id": "victim", "explain": True})
        assert again.status == 200 and b"attention" in again.body


def test_an_owner_keeps_the_token(guarded, demo, rng):
    """A token is due to who brought the history, named its token or appended to it."""
    history = demo.request(rng, history=4, candidates=1)["history"]
    update = "/users/owner/history"
    with guarded.client() as client:
        token = token_of(client.post({"history": part(history, 0, 2)}, update))
        assert token_of(client.post({"history": part(history, 0, 2)}, update)) == token
        assert token_of(client.post({"history_token": token, "history_append": []}, update)) == token
        token = token_of(client.post({"history_append": part(history, 2, 3)}, update))
        token = token_of(client.post({"history_token": token, "history_append": part(history, 3, 4)}, update))
        assert token_of(client.post({"history": history}, update)) == token


# What is told and forgotten.

def test_get_says_what_is_held(server, asked, demo):
    history = part(asked.whole, 0, 55)
    scored = asked.score(history)
    time.sleep(0.05)
    first = asked.client.get(path_of(asked.user))
    held = first.json()
    assert held["history"] == {"length": history_of(scored)["length"], "received": 55}
    assert (held["model"], held["version"]) == (demo.config["name"], demo.config["version"])
    assert 0 < held["bytes"] <= server.metrics()["dien_cache_bytes"]
    assert 0.05 <= held["age_seconds"] < 600 and 0.05 <= held["idle_seconds"] <= held["age_seconds"]
    assert token_of(scored).encode() not in first.body
    for name, values in history.items():
        assert name.encode() not in first.body
        for value in values:
            assert f'"{value}"'.encode() not in first.body
    asked.token(token_of(scored), None, history)
    used = asked.client.get(path_of(asked.user)).json()
    assert used["idle_seconds"] < used["age_seconds"] and used["age_seconds"] > held["age_seconds"]
    assert first.headers["Cache-Control"] == "no-store"
    whole = asked.client.get(path_of(asked.user))
    only_head = asked.client.ask("HEAD", path_of(asked.user))
    assert only_head.status == 200 and only_head.body == b""
    assert abs(int(only_head.headers["Content-Length"]) - len(whole.body)) < 30, "the digits of its times differ"
    assert asked.client.ask("HEAD", path_of(asked.user + " not")).status == 404


def test_delete_forgets(server, asked):
    history = part(asked.whole, 0, 5)
    token = token_of(asked.score(history))
    before = server.metrics()
    reply = asked.client.ask("DELETE", path_of(asked.user))
    assert reply.status == 204 and reply.body == b"" and "Content-Type" not in reply.headers
    refused(asked.client.get(path_of(asked.user)), 404, NO_STATE)
    assert asked.client.ask("DELETE", path_of(asked.user)).status == 204
    body = {name: value for name, value in asked.body.items() if name != "history"}
    refused(asked.client.post({**body, "history_token": token}), 409, UNKNOWN_TOKEN, "/history_token")
    refused(asked.client.post({"history_append": history}, path_of(asked.user, "/history")), 404, NO_STATE)
    after = server.metrics()
    assert moved(before, after, "dien_cache_forgotten_total") == 1
    assert after["dien_cache_entries"] == before["dien_cache_entries"] - 1
    assert after["dien_cache_bytes"] < before["dien_cache_bytes"]
    assert asked.state(history) == "computed"


def together(count, work):
    """work(place) on `count` threads at once; their errors are the test's."""
    errors, gate = [], threading.Barrier(count)

    def one(place):
        try:
            gate.wait()
            work(place)
        except Exception as error:  # noqa: BLE001: reported below
            errors.append(repr(error))
    threads = [threading.Thread(target=one, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[:3]


def test_delete_while_requests_are_in_flight(start, plain, demo, rng):
    server = start("--threads", "4")
    body = demo.request(rng, history=50, candidates=4, user_id="busy")
    right = bits(plain.score(body))
    ending = threading.Event()

    def work(place):
        with server.client() as client:
            for _ in range(60):
                if place < 4:
                    assert bits(client.post(body)) == right
                else:
                    assert client.ask("DELETE", "/users/busy").status == 204
                    assert client.get("/users/busy").status in (200, 404)
        ending.set()
    together(6, work)
    with server.client() as client:
        assert client.ask("DELETE", "/users/busy").status == 204
        assert client.get("/users/busy").status == 404
        metrics = server.metrics()
        assert metrics["dien_cache_entries"] == 0
        assert metrics["dien_cache_forgotten_total"] > 0
        assert client.post(body).json()["user_state"] == "computed"


# The budget and the age.

def test_a_ttl_is_kept_on_reading(start, plain, demo, rng):
    """The time to live counts from when a state was computed: a user who asks every few milliseconds makes it no
    younger, and is computed anew once it has passed."""
    server = start("--cache-ttl", "0.5")
    body = demo.request(rng, history=5, candidates=3, user_id="old")
    right = bits(plain.score(body))
    with server.client() as client:
        token = token_of(client.post(body))
        limit = time.monotonic() + 10
        while True:
            reply = client.post(body)
            assert bits(reply) == right
            if reply.json()["user_state"] == "computed":
                break
            assert reply.json()["user_state"] == "cached" and token_of(reply) == token
            assert time.monotonic() < limit, "being used has kept the state past its time to live"
            time.sleep(0.01)
        assert token_of(reply) != token
        short = {name: value for name, value in body.items() if name != "history"}
        refused(client.post({**short, "history_token": token}), 409, UNKNOWN_TOKEN, "/history_token")
        time.sleep(0.6)
        refused(client.get("/users/old"), 404, NO_STATE)
        refused(client.post({**short, "history_token": token_of(reply)}), 409, UNKNOWN_TOKEN, "/history_token")
        reply = client.post(body)
        assert reply.json()["user_state"] == "computed" and bits(reply) == right
    assert server.metrics()["dien_cache_expired_total"] >= 2


def test_a_ttl_is_kept_without_requests(start, demo, rng):
    server = start("--cache-ttl", "0.5", "--cache-bytes", "4M")
    with server.client() as client:
        for place in range(20):
            client.post(demo.request(rng, history=5, candidates=1, user_id=f"user {place}"))
        limit = time.monotonic() + 30
        while server.metrics()["dien_cache_entries"] > 0:
            assert time.monotonic() < limit, server.metrics()["dien_cache_entries"]
            time.sleep(0.1)
    metrics = server.metrics()
    assert metrics["dien_cache_expired_total"] == 20
    assert metrics["dien_cache_evictions_total"] == metrics["dien_cache_forgotten_total"] == 0


def test_nothing_is_kept_in_no_bytes(plain, demo, rng):
    body = demo.request(rng, history=5, candidates=3, user_id="u")
    with plain.client() as client:
        for _ in range(2):
            reply = client.post(body)
            assert reply.json()["user_state"] == "computed" and "token" not in history_of(reply)
        made = client.post({"history": body["history"]}, "/users/u/history")
        assert made.json()["user_state"] == "computed" and "token" not in history_of(made)
        short = {name: value for name, value in body.items() if name != "history"}
        refused(client.post({**short, "history_token": "0" * 32}), 409, UNKNOWN_TOKEN, "/history_token")
        refused(client.post({"history_append": []}, "/users/u/history"), 404, NO_STATE)
        refused(client.get("/users/u"), 404, NO_STATE)
        assert client.ask("DELETE", "/users/u").status == 204
    metrics = plain.metrics()
    assert metrics["dien_cache_capacity_bytes"] == metrics["dien_cache_bytes"] == metrics["dien_cache_entries"] == 0
    assert series(metrics, "dien_user_state_misses_total") == 0


@pytest.mark.parametrize("text", ["1000", "1", "1048575", "-1", "1.5"])
def test_a_budget_that_is_none(build, demo, text):
    ran = run(build, "--model", demo.path, "--cache-bytes", text)
    assert ran.returncode in (1, 2) and "--cache-bytes" in ran.stdout + ran.stderr


@pytest.mark.parametrize("text", ["-1", "soon", "inf"])
def test_an_age_that_is_none(build, demo, text):
    ran = run(build, "--model", demo.path, "--cache-ttl", text)
    assert ran.returncode in (1, 2) and "--cache-ttl" in ran.stdout + ran.stderr


def test_eviction(start, plain, demo, rng):
    """More users than fit: every score is right, the budget holds, what is dropped is counted."""
    server = start("--cache-bytes", "1M")
    bodies = [demo.request(rng, history=1 + i % 50, candidates=2, user_id=f"user {i}") for i in range(30)]
    right = [bits(plain.score(body)) for body in bodies]
    many = 1200
    with server.client() as client:
        for i in range(many):
            body = bodies[i % 30]
            assert bits(client.post({**body, "user_id": f"user {i}"})) == right[i % 30]
            if i % 100 == 0:
                metrics = server.metrics()
                assert metrics["dien_cache_bytes"] <= metrics["dien_cache_capacity_bytes"] == 1 << 20
        states = {"cached": 0, "computed": 0}
        for i in range(0, many, 7):
            reply = client.post({**bodies[i % 30], "user_id": f"user {i}"})
            assert bits(reply) == right[i % 30]
            states[reply.json()["user_state"]] += 1
    metrics = server.metrics()
    assert states["cached"] > 0 and states["computed"] > 0
    assert 0 < metrics["dien_cache_entries"] < many
    assert metrics["dien_cache_bytes"] <= 1 << 20
    evicted = metrics["dien_cache_evictions_total"]
    assert evicted > 0
    assert metrics["dien_cache_eviction_age_seconds_count"] == evicted
    assert series(metrics, "dien_cache_eviction_age_seconds_bucket", le="+Inf") == evicted
    assert metrics["dien_cache_eviction_age_seconds_sum"] > 0
    assert metrics["dien_cache_entries"] + evicted == series(metrics, "dien_user_state_misses_total", reason="absent")
    assert metrics["dien_cache_refused_total"] == metrics["dien_cache_expired_total"] == 0


# Many threads on one user.

def test_a_hot_user_is_computed_once(start, plain, demo):
    server = start("--threads", "8")
    random_ = random.Random(5)
    for turn in range(8):
        body = demo.request(random_, history=50, candidates=3, user_id=f"hot {turn}")
        right = bits(plain.score(body))
        before, states = server.metrics(), []

        def work(_, body=body, right=right, states=states):
            with server.client() as client:
                reply = client.post(body)
            assert bits(reply) == right
            states.append((reply.json()["user_state"], token_of(reply)))
        together(8, work)
        after = server.metrics()
        assert sorted(state for state, _ in states) == ["cached"] * 7 + ["computed"]
        assert len({token for _, token in states}) == 1
        assert moved(before, after, "dien_user_states_total", state="computed") == 1
        assert moved(before, after, "dien_user_states_total", state="cached") == 7
        assert moved(before, after, "dien_user_state_misses_total", reason="absent") == 1


def test_appends_from_many_connections_are_all_there(start, plain, demo, rng):
    """Each behaviour once: events of one user that come at the same time do not overwrite each other."""
    server = start("--threads", "8")
    body = demo.request(rng, history=33, candidates=3)
    with server.client() as client:
        client.post({"history": part(body["history"], 0, 1)}, "/users/u/history")

    def work(place):
        with server.client() as client:
            for i in range(1 + 4 * place, 5 + 4 * place):
                assert client.post({"history_append": part(body["history"], i, i + 1)}, "/users/u/history").status == 200
    together(8, work)
    with server.client() as client:
        assert history_of(client.get("/users/u")) == {"length": 33, "received": 33}
    assert series(server.metrics(), "dien_user_states_total", state="extended") == 32


# Metrics.

def test_the_metrics_are_there_from_the_start(start):
    metrics = start("--cache-bytes", "2M").metrics()
    for reason in ("absent", "expired", "version", "shorter", "slid", "edited"):
        assert metrics[f'dien_user_state_misses_total{{reason="{reason}"}}'] == 0
    for state in ("computed", "extended", "cached"):
        assert metrics[f'dien_user_states_total{{state="{state}"}}'] == 0
        assert metrics[f'dien_user_state_duration_seconds_count{{state="{state}"}}'] == 0
    for name in ("entries", "evictions_total", "expired_total", "forgotten_total", "refused_total", "waits_total",
                 "eviction_age_seconds_count", "eviction_age_seconds_sum"):
        assert metrics[f"dien_cache_{name}"] == 0
    assert metrics["dien_cache_capacity_bytes"] == 2 << 20
    assert 0 < metrics["dien_cache_bytes"] < 2 << 19, "the index alone"
    for route, status in (("/users/{id}", 200), ("/users/{id}", 204), ("/users/{id}", 404), ("/users/{id}/history", 409)):
        assert metrics[f'dien_http_responses_total{{route="{route}",status="{status}"}}'] == 0
