"""One user, one answer, as the README promises. A candidate's score has the same bits whatever is scored with it.

Scores are written with nine significant digits, which name a float32 exactly: equal numbers are equal bits.
"""

import threading

import pytest

from support.modelfile import rows, take

CANDIDATES = 1000
THREADS = 8


@pytest.fixture(scope="module")
def case(server, demo):
    """A request of 1,000 candidates with some of them twice, and its scores."""
    import random
    rng = random.Random(2)
    body = demo.request(rng, history=30, candidates=CANDIDATES)
    with server.client() as client:
        return body, client.post(body).scores()


def with_candidates(body, places):
    return {**body, "candidates": take(body["candidates"], places)}


def test_scores_differ(case):
    """What follows would hold for a constant too."""
    assert len(set(case[1].values())) > 10


def test_equal_candidates_score_equal(case):
    body, scores = case
    by_candidate = {}
    for place, candidate in enumerate(zip(*body["candidates"].values())):
        by_candidate.setdefault(candidate, set()).add(scores[place])
    assert all(len(each) == 1 for each in by_candidate.values())
    assert len(by_candidate) < CANDIDATES


def test_alone(server, case, rng):
    body, scores = case
    with server.client() as client:
        for place in rng.sample(range(CANDIDATES), 40):
            assert client.post(with_candidates(body, [place])).scores() == {0: scores[place]}


@pytest.mark.parametrize("count", [2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257, 999])
def test_among_some(server, case, rng, count):
    """Counts on both sides of any vector width, lane block and BLAS panel."""
    body, scores = case
    places = rng.sample(range(CANDIDATES), count)
    assert server.score(with_candidates(body, places)).scores() == {i: scores[p] for i, p in enumerate(places)}


def test_shuffled(server, case, rng):
    body, scores = case
    with server.client() as client:
        for _ in range(3):
            places = rng.sample(range(CANDIDATES), CANDIDATES)
            got = client.post(with_candidates(body, places)).scores()
            assert got == {i: scores[place] for i, place in enumerate(places)}


def test_rows_are_columns(server, case):
    body, scores = case
    as_rows = {**body, "history": rows(body["history"]), "candidates": rows(body["candidates"])}
    mixed = {**body, "history": rows(body["history"])}
    with server.client() as client:
        assert client.post(as_rows).scores() == scores
        assert client.post(mixed).scores() == scores


def test_attributes_sent_or_left_out(server, demo, case):
    """An attribute that says what the model's own map says changes nothing."""
    body, scores = case
    assert demo.samples, "the samples are the source of attribute values"
    attributes = [name for name in demo.config["groups"]["candidate"] if "attribute_of" in demo.fields[name]]
    if not attributes:
        pytest.skip("the demo model has no attributes")
    from support.modelfile import tensor
    more = {group: dict(body[group]) for group in ("history", "candidates")}
    for name in attributes:
        field = demo.fields[name]
        parent = demo.fields[field["attribute_of"]]
        row_of = {one: parent.get("first_row", 0) + i for i, one in enumerate(demo.known_ids(parent["name"]))}
        mapped = tensor(demo.header, demo.data, f"attributes.{name}")
        known = demo.known_ids(name)
        for group in more.values():
            group[name] = [known[mapped[row_of[one]] - field.get("first_row", 0)] for one in group[parent["name"]]]
    assert server.score({**body, **more}).scores() == scores


def test_with_and_without_user_id(server, case):
    body, scores = case
    with server.client() as client:
        for user in ("u1", "u2", "u1"):
            assert client.post({**body, "user_id": user}).scores() == scores


def test_top_k_and_explain_change_no_score(server, case):
    body, scores = case
    with server.client() as client:
        top = client.post({**body, "top_k": 25}).scores()
        assert len(top) == 25
        assert all(scores[place] == score for place, score in top.items())
        some = with_candidates(body, list(range(50)))
        explained = client.post({**some, "explain": True}).scores()
        assert explained == {place: scores[place] for place in range(50)}


def test_parallel_connections(server, case, rng):
    """Different cuts of one request from many connections at once, so that every scoring thread takes part."""
    body, scores = case
    faults = []

    def work(places_list):
        with server.client() as client:
            for places in places_list:
                got = client.post(with_candidates(body, places)).scores()
                if got != {i: scores[place] for i, place in enumerate(places)}:
                    faults.append(places)

    threads = [threading.Thread(target=work, args=([rng.sample(range(CANDIDATES), rng.randint(1, 200))
                                                    for _ in range(25)],)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_another_server(start, case):
    """Another process, with one scoring thread: the same bits."""
    body, scores = case
    assert start("--threads", "1").score(body).scores() == scores
