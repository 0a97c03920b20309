"""The replies to valid requests, ordinary and edge cases, as the README and proto/openapi.json describe them."""

import math

import pytest

from support.modelfile import finite, rows

pytestmark = pytest.mark.only_on("release", "asan")  # all of it is the loop's thread's work


def attention_of(result):
    """The attention scores in an explained result, interest by interest."""
    return list(result["attention"].values())


def history_of(reply):
    """The reply's account of the history: one entry an interest."""
    given = reply.json()["history"]
    return list(given.get("interests", {"only": given}).values())


def test_shape_of_a_reply(server, demo, rng):
    body = demo.request(rng, history=3, candidates=4)
    reply = server.score(body)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    answer = reply.json()
    assert answer["model"] == demo.config["name"]
    assert answer["version"] == demo.config["version"]
    assert answer["user_state"] == "computed"
    assert all(part["length"] == 3 for part in history_of(reply))
    assert set(answer["unknown"].values()) <= {0}
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2, 3]
    for result in answer["results"]:
        for name, column in body["candidates"].items():
            assert result[name] == column[result["index"]]


def test_results_in_rank_order_and_ties_by_place(server, demo, rng):
    body = demo.request(rng, history=5, candidates=40)
    for name, column in body["candidates"].items():
        body["candidates"][name] = column * 2  # every candidate twice: ties
    results = server.score(body).json()["results"]
    keys = [(-result["score"], result["index"]) for result in results]
    assert keys == sorted(keys)
    assert len({result["score"] for result in results}) <= 40


@pytest.mark.parametrize("top_k, expected", [(1, 1), (5, 5), (12, 12), (13, 12), (10**9, 12)])
def test_top_k(server, demo, rng, top_k, expected):
    body = demo.request(rng, history=5, candidates=12)
    everything = server.score(body).json()["results"]
    assert server.score({**body, "top_k": top_k}).json()["results"] == everything[:expected]


@pytest.mark.parametrize("history", [0, 1, 2])
def test_short_histories(server, demo, rng, history):
    body = demo.request(rng, history=history, candidates=5)
    for form in (body["history"], rows(body["history"])):
        reply = server.score({**body, "history": form})
        assert len(reply.scores()) == 5 and finite(reply.scores().values())
        assert all(part["length"] == history for part in history_of(reply))


def test_a_short_history_matters(server, demo, rng):
    """An empty history is not the answer to every history."""
    one = demo.request(rng, history=1, candidates=5)
    empty = {**one, "history": {name: [] for name in one["history"]}}
    assert server.score(one).scores() != server.score(empty).scores()


def test_unknown_ids_everywhere(server, demo, rng):
    body = demo.request(rng, history=4, candidates=3, unknown=True)
    reply = server.score(body)
    scores = reply.scores()
    assert finite(scores.values()) and len(set(scores.values())) == 1
    unknown = reply.json()["unknown"]
    for group in ("history", "candidates"):
        for name in body[group]:
            assert unknown[name] == 4 + 3
    for group in ("user", "context"):
        for name in body.get(group, ()):
            assert unknown[name] == 1


def test_unknown_ids_are_counted_once_each(server, demo, rng):
    body = demo.request(rng, history=4, candidates=3)
    name = demo.group("candidate")[0]
    before = server.metrics()
    body["candidates"][name][1] = demo.unknown_id(name)
    assert server.score(body).json()["unknown"][name] == 1
    after = server.metrics()
    changed = {key: after[key] - before[key] for key in after if "unknown" in key and after[key] != before[key]}
    assert list(changed.values()) == [1] and name in next(iter(changed))


def test_history_beyond_max_length(server, demo, rng):
    """The end that `keep` names is used, and the reply says how many."""
    limit = max(interest["max_length"] for interest in demo.config["interests"])
    body = demo.request(rng, history=limit + 17, candidates=6)
    reply = server.score(body)
    parts = history_of(reply)
    assert [part["length"] for part in parts] == [interest["max_length"] for interest in demo.config["interests"]]
    assert all(part["received"] == limit + 17 for part in parts)
    if all(interest.get("keep", "last") == "last" for interest in demo.config["interests"]):
        kept = {name: column[17:] for name, column in body["history"].items()}
        dropped = {name: column[:limit] for name, column in body["history"].items()}
    else:
        kept = {name: column[:limit] for name, column in body["history"].items()}
        dropped = {name: column[17:] for name, column in body["history"].items()}
    assert server.score({**body, "history": kept}).scores() == reply.scores()
    assert server.score({**body, "history": dropped}).scores() != reply.scores()


def test_explain(server, demo, rng):
    body = demo.request(rng, history=9, candidates=5)
    results = server.score({**body, "explain": True}).json()["results"]
    for result in results:
        for scores in attention_of(result):
            assert len(scores) == 9 and all(score >= 0 for score in scores)
            assert math.isclose(sum(scores), 1, abs_tol=1e-5)
    assert len({str(result["attention"]) for result in results}) > 1, "attention depends on the candidate"
    assert "attention" not in server.score(body).json()["results"][0]


def test_explain_names_the_candidate_at_its_place(server, demo, rng):
    """Attention goes with its candidate through ranking and top_k."""
    body = demo.request(rng, history=6, candidates=8)
    by_place = {result["index"]: result["attention"]
                for result in server.score({**body, "explain": True}).json()["results"]}
    cut = server.score({**body, "explain": True, "top_k": 3}).json()["results"]
    for result in cut:
        assert result["attention"] == by_place[result["index"]]
    alone = {**body, "candidates": {name: [column[5]] for name, column in body["candidates"].items()}}
    assert server.score({**alone, "explain": True}).json()["results"][0]["attention"] == by_place[5]


def test_explain_of_an_empty_history(server, demo, rng):
    body = demo.request(rng, history=0, candidates=2, explain=True)
    for result in server.score(body).json()["results"]:
        assert all(scores == [] for scores in attention_of(result))


def test_user_id_is_not_the_user(server, demo, rng):
    body = demo.request(rng, history=3, candidates=2)
    reply = server.score({**body, "user_id": "ü/~\" 'x"})
    assert reply.scores() == server.score(body).scores()
    assert reply.json()["user_state"] == "computed"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON",
                                          "application/json;charset=UTF-8"])
def test_content_type_forms(server, demo, rng, content_type):
    reply = server.score(demo.request(rng), **{"Content-Type": content_type})
    assert reply.status == 200


def test_request_id_is_taken_and_echoed(server, demo, rng):
    reply = server.score(demo.request(rng), **{"X-Request-Id": "abc-123.x_Y"})
    assert reply.headers["X-Request-Id"] == "abc-123.x_Y"
    assert server.logged("abc-123.x_Y")["http.response.status_code"] == 200


def test_request_id_is_made(server, demo, rng):
    ids = {server.score(demo.request(rng)).headers["X-Request-Id"] for _ in range(20)}
    assert len(ids) == 20 and all(ids)


@pytest.mark.parametrize("hostile", ["a" * 5000, "x\ty", 'quote"and\\', "caf\xe9", "<script>", ""])
def test_hostile_request_ids(server, demo, rng, hostile):
    """Whatever a client sends, the log stays JSON lines and the reply's header stays a plain token."""
    reply = server.score(demo.request(rng), **{"X-Request-Id": hostile})
    assert reply.status in (200, 400, 431)
    if reply.status == 200:
        echoed = reply.headers["X-Request-Id"]
        assert 0 < len(echoed) <= 200 and echoed.isprintable() and echoed.isascii()
        assert '"' not in echoed and "\\" not in echoed and "<" not in echoed
    if reply.status == 200:
        server.logged(echoed)
    assert server.log()  # whose lines are JSON
