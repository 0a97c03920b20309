"""A candidate beside the live model: its share of users, shadows and their comparison, the guard, promotion."""

import json
import random
import shutil
import signal
import struct
import threading
import time

import pytest

from support import builds, modelfile, service
from test_admin import Plane, problem
from test_reload import DIGEST, TOLERANT, Link, Load, altered, expected

TOPS = (1, 5, 10)


@pytest.fixture
def root(tmp_path):
    """Where candidates lie: `same` is the demo model, `other` has other scores and another order."""
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.fixture
def same(demo, root):
    return demo.copy(root / "same")


def change(copy, name, factor):
    """Multiplies each second value of a tensor, so that the order of items changes as well."""
    begin, end = copy.header[name]["data_offsets"]
    values = list(modelfile.tensor(copy.header, copy.data, name))
    values[::2] = [value * factor for value in values[::2]]
    copy.data[begin:end] = struct.pack(f"<{len(values)}f", *values)


@pytest.fixture
def other(demo, root):
    copy = demo.copy(root / "other")
    copy.config["version"] = "2"
    copy.write_config()
    name = max((name for name in copy.header if name.startswith("mlp.") and copy.header[name]["dtype"] == "F32"
                and len(copy.header[name]["shape"]) == 2), key=lambda name: copy.header[name]["shape"][1])
    change(copy, name, 0.5)
    copy.write_tensors()
    return copy


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("the key of a fleet\n")
    return path


@pytest.fixture
def plane(start, demo, tmp_path, root, key_file):
    """plane(*options): the admin plane of a server on the demo model, by a link."""
    def make(*options):
        link = Link(tmp_path / "current", demo.path)
        if "--threads" not in options:
            options += ("--threads", "2")
        made = Plane(start(*TOLERANT, "--admin-listen", "127.0.0.1:0", "--model-root", root, "--hash-key-file", key_file,
                           *options, model=link))
        made.link = link
        return made
    return make


def set_candidate(plane, directory, **shares):
    reply = plane.ask("POST", "/models/candidate", {"directory": str(directory), **shares})
    assert reply.status == 200, reply
    return plane.models()["candidate"]


def shadows(server):
    """Shadows by how they ended."""
    name = "dien_candidate_shadows_total"
    return {series.split('"')[1]: value for series, value in server.metrics().items() if series.startswith(name)}


def score_with_shadow(server, bodies):
    """One request after another, each with its shadow; the replies of those that were compared."""
    compared = []
    for body in bodies:
        before = shadows(server)
        reply = server.score(body)
        limit = time.monotonic() + 120
        while sum((after := shadows(server)).values()) == sum(before.values()):
            assert time.monotonic() < limit, after
            time.sleep(0.002)
        if after["compared"] > before["compared"]:
            compared.append((body, reply))
    return compared


def exported(server):
    """The comparison as metrics have it."""
    metrics = server.metrics()
    name = "dien_candidate"
    return {"items": metrics[f"{name}_difference_count"], "difference": metrics[f"{name}_difference_sum"],
            "requests": metrics[f'{name}_overlap_count{{top="1"}}'],
            "overlap": [metrics[f'{name}_overlap_sum{{top="{top}"}}'] for top in TOPS],
            "correlations": metrics[f"{name}_rank_correlation_count"],
            "correlation": metrics[f"{name}_rank_correlation_sum"],
            "scores": [metrics[f'{name}_score_sum{{model="{model}"}}'] for model in ("live", "candidate")]}


# Shadows.

def test_a_candidate_that_is_the_live_model(plane, demo, same, rng):
    made = plane()
    set_candidate(made, "same", shadow=1)
    bodies = [demo.request(rng, history=rng.randrange(12), candidates=rng.choice((1, 3, 40)), user_id=f"u{i % 7}")
              for i in range(30)]
    compared = score_with_shadow(made.server, bodies)
    assert len(compared) > 20
    told, items = exported(made.server), sum(len(reply.json()["results"]) for _, reply in compared)
    assert told["items"] == items and told["difference"] == 0 and told["requests"] == len(compared)
    assert told["overlap"] == [len(compared)] * 3
    assert told["correlation"] == told["correlations"] == sum(len(reply.json()["results"]) > 1 for _, reply in compared)
    assert told["scores"][0] == told["scores"][1]
    assert made.server.metrics()['dien_candidate_difference_bucket{le="0"}'] == items
    for model in ("live", "candidate"):
        assert made.server.metrics()[f'dien_candidate_scoring_seconds_count{{model="{model}"}}'] == len(compared)


def ranks(scores):
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return {place: rank for rank, place in enumerate(order)}


def divergence(pairs):
    """What the metrics say, from both models' scores of each request."""
    told = {"items": 0, "difference": 0, "requests": 0, "overlap": [0, 0, 0], "correlations": 0, "correlation": 0,
            "scores": [0, 0]}
    for live, candidate in pairs:
        n, first, second = len(live), ranks(live), ranks(candidate)
        told["items"] += n
        told["difference"] += sum(abs(a - b) for a, b in zip(live, candidate))
        told["requests"] += 1
        for i, top in enumerate(TOPS):
            top = min(top, n)
            told["overlap"][i] += sum(first[place] < top and second[place] < top for place in range(n)) / top
        if n > 1:
            told["correlations"] += 1
            told["correlation"] += 1 - 6 * sum((first[i] - second[i]) ** 2 for i in range(n)) / (n * (n * n - 1))
        told["scores"] = [told["scores"][0] + sum(live), told["scores"][1] + sum(candidate)]
    return told


def in_order(reply):
    return [score for _, score in sorted(reply.scores().items())]


def test_the_divergence_is_what_python_says(plane, build, demo, other, rng):
    """Of a candidate with perturbed weights, whose scores come from a server of its own."""
    made = plane("--candidate-guard", "off")
    assert set_candidate(made, "other", shadow=1)["version"] == "2"
    bodies = [demo.request(rng, history=rng.randrange(12), candidates=rng.choice((1, 2, 7, 30)), user_id=f"u{i % 5}")
              for i in range(30)]
    compared = score_with_shadow(made.server, bodies)
    assert len(compared) > 20
    with service.Service(build, other.path, *TOLERANT) as alone:
        pairs = [(in_order(reply), in_order(alone.score(body))) for body, reply in compared]
    told, computed = exported(made.server), divergence(pairs)
    assert computed["difference"] > 1e-3 * computed["items"] and computed["correlation"] < computed["correlations"]
    for name, value in computed.items():
        assert told[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_a_shadow_keeps_no_state_and_answers_nobody(plane, demo, other, rng):
    made = plane("--candidate-guard", "off")
    body = demo.request(rng, history=5, candidates=3, user_id="u")
    first = made.server.score(body)
    set_candidate(made, "other", shadow=1)
    (_, again), = score_with_shadow(made.server, [body])
    assert again.scores() == first.scores() and again.headers[DIGEST] == first.headers[DIGEST]
    assert again.json()["user_state"] == "cached" and again.json()["history"]["token"] == first.json()["history"]["token"]
    assert made.server.metrics()["dien_cache_entries"] == 1
    held = {name: value for name, value in body.items() if name != "history"}
    before = shadows(made.server)["no-history"]
    assert not score_with_shadow(made.server, [held])
    assert shadows(made.server)["no-history"] == before + 1


# A share of users.

def sides(server, users, body):
    """Each user's version, of a reply that is one model's."""
    found = {}
    with server.client() as client:
        for user in users:
            reply = client.post({**body, "user_id": user})
            found[user] = reply.headers[DIGEST], reply.json()["version"], tuple(in_order(reply))
    return found


def test_a_user_is_on_one_side_everywhere(build, plane, demo, other, root, key_file, rng):
    """On two servers with one key, and after the share has grown."""
    body = demo.request(rng, history=4, candidates=3)
    known = {version: each for each in expected(build, [demo, other], body) for version in [each[1]]}
    users = [f"user {i}" for i in range(150 if build.sanitized else 600)]
    made = plane()
    set_candidate(made, "other", canary=0.2)
    first = sides(made.server, users, body)
    assert set(first.values()) == set(known.values())
    canary = {user for user, (_, version, _) in first.items() if version == "2"}
    assert 0.1 < len(canary) / len(users) < 0.3
    options = ("--admin-listen", "127.0.0.1:0", "--model-root", root, "--hash-key-file", key_file)
    with service.Service(build, demo.path, *TOLERANT, *options) as replica:
        set_candidate(Plane(replica), "other", canary=0.2)
        assert sides(replica, users, body) == first
    reply = made.ask("POST", "/models/candidate", {"canary": 0.5})
    assert reply.status == 200 and made.models()["candidate"]["canary"] == 0.5
    grown = {user for user, (_, version, _) in sides(made.server, users, body).items() if version == "2"}
    assert canary < grown and 0.4 < len(grown) / len(users) < 0.6
    metrics = made.server.metrics()
    assert metrics["dien_candidate_canary_share"] == 0.5
    assert metrics['dien_candidate_requests_total{answered_by="candidate"}'] == len(canary) + len(grown)


def test_states_are_of_one_side(plane, demo, other, rng):
    """Tokens of both sides are good; a promotion keeps those of the candidate."""
    made = plane()
    set_candidate(made, "other", canary=0.5)
    body = demo.request(rng, history=4, candidates=3)
    users = [f"u{i}" for i in range(40)]
    only = {name: value for name, value in body.items() if name != "history"}
    tokens, versions = {}, {}
    for user in users:
        reply = made.server.score({**body, "user_id": user})
        tokens[user], versions[user] = reply.json()["history"]["token"], reply.json()["version"]
    assert set(versions.values()) == {"1", "2"}
    for user in users:
        reply = made.server.score({**only, "user_id": user, "history_token": tokens[user]})
        assert reply.json()["user_state"] == "cached" and reply.json()["version"] == versions[user]
        with made.server.client() as client:
            assert client.get(f"/users/{user}").status == 200
    assert made.ask("POST", "/models/promote").status == 200
    for user in users:
        reply = made.server.score({**only, "user_id": user, "history_token": tokens[user]})
        assert reply.status == (200 if versions[user] == "2" else 409)


def test_a_share_of_users_needs_a_key(start, demo, root, same):
    made = Plane(start("--admin-listen", "127.0.0.1:0", "--model-root", root))
    told = problem(made.ask("POST", "/models/candidate", {"directory": "same", "canary": 0.1}), 422, "model-refused")
    assert "--hash-key-file" in told["detail"]
    assert set_candidate(made, "same", shadow=0.1)["canary"] == 0


# Promotion, drop, refusals.

def test_promotion_and_the_way_back(plane, demo, other, rng):
    made = plane()
    body = demo.request(rng, history=4, candidates=3)
    first = made.server.score(body)
    problem(made.ask("POST", "/models/promote"), 409, "no-candidate")
    problem(made.ask("DELETE", "/models/candidate"), 409, "no-candidate")
    problem(made.ask("POST", "/models/candidate", {"shadow": 0.5}), 409, "no-candidate")
    set_candidate(made, "other")
    assert made.server.score(body).headers[DIGEST] == first.headers[DIGEST]
    assert made.ask("POST", "/models/promote").status == 200
    slots = made.models()
    assert slots["live"]["version"] == "2" and slots["previous"]["version"] == "1" and "candidate" not in slots
    assert slots["live"]["loaded_by"] == "admin"
    assert made.server.score(body).json()["version"] == "2"
    assert made.ask("POST", "/models/rollback").status == 200
    assert made.server.score(body).scores() == first.scores()
    set_candidate(made, other.path, canary=1)
    assert made.server.score(body).json()["version"] == "2"
    assert made.ask("DELETE", "/models/candidate").status == 200
    assert made.server.score(body).json()["version"] == "1"
    assert made.server.metrics()['dien_candidate_drops_total{reason="asked"}'] == 1
    assert made.server.metrics()["dien_model_promotions_total"] == 1


BODIES = [(b"", 400), (b"[]", 400), ({"path": "same"}, 400), ({"directory": ""}, 400), ({"directory": 5}, 400),
          ({"directory": "same", "canary": 1.5}, 400), ({"directory": "same", "shadow": -0.1}, 400),
          ({"directory": "same", "shadow": "0.1"}, 400), (b'{"directory": "same", "shadow": 1e999}', 400),
          (b'{"directory": "a\\u0000b"}', 400), ({"directory": "../models/same"}, 422), ({"directory": "/etc"}, 422),
          ({"directory": "link"}, 422), ({"directory": "nowhere"}, 422), ({"directory": "."}, 422),
          ({"directory": "same/config.json"}, 422)]


def test_calls_that_are_refused(plane, same, root, demo):
    made = plane("--admin-max-body", "64K")
    (root / "link").symlink_to(demo.path)
    for body, status in BODIES:
        reply = made.ask("POST", "/models/candidate", body)
        assert reply.status == status and "candidate" not in made.models(), (body, reply)
        assert status == 400 or "--model-root" in reply.json()["detail"], reply
    reply = made.ask("POST", "/models/candidate", {"directory": "same/" + "./" * 2100})  # cut, it would name "same"
    assert reply.status == 422 and "4205 bytes" in reply.json()["detail"], reply


def test_without_a_root_there_are_no_candidates(start, demo):
    made = Plane(start("--admin-listen", "127.0.0.1:0"))
    told = problem(made.ask("POST", "/models/candidate", {"directory": str(demo.path)}), 422, "model-refused")
    assert "--model-root" in told["detail"]


# The guard.

def with_a_bad_item(copy):
    """The embedding of an item that no sample has overflows, and its scores are no numbers; the item."""
    used = json.dumps(copy.samples)
    known = copy.known_ids("item")
    item = next(item for item in reversed(known) if json.dumps(item) not in used)
    field = copy.fields["item"]
    name = f"tables.{field['table']}"
    width = copy.config["tables"][field["table"]]["width"]
    begin = copy.header[name]["data_offsets"][0] + 4 * width * (known.index(item) + field.get("first_row", 0))
    copy.data[begin:begin + 4 * width] = struct.pack("<2f", 3e38, -3e38) * (width // 2)  # finite, as the loader demands
    copy.config["version"] = "2"
    copy.write_config()
    copy.write_tensors()
    return item


@pytest.mark.parametrize("shares", [{"canary": 1}, {"shadow": 1}], ids=["canary", "shadow"])
def test_a_score_that_is_no_number_drops_the_candidate(plane, demo, same, rng, shares):
    """The live model answers in its place."""
    item = with_a_bad_item(same)
    made = plane()
    set_candidate(made, "same", **shares)
    good, bad = demo.request(rng, history=3, candidates=4, user_id="u"), demo.request(rng, history=3, candidates=4)
    bad["candidates"]["item"][2] = item
    assert made.server.score(good).json()["version"] == ("2" if "canary" in shares else "1")
    reply = made.server.score(bad)
    assert reply.status == 200 and reply.json()["version"] == "1" and modelfile.finite(in_order(reply))
    line = made.server.logged_line(event="candidate-dropped")
    assert line["reason"] == "no-number" and line["level"] == "warning"
    assert "candidate" not in made.models() and made.server.score(good).json()["version"] == "1"
    metrics = made.server.metrics()
    assert metrics['dien_candidate_drops_total{reason="no-number"}'] == 1
    assert metrics['dien_candidate_requests_total{answered_by="live"}'] == ("canary" in shares)


def test_scores_that_differ_drop_the_candidate(plane, demo, root, rng):
    altered(demo, root / "far", "2", shift=4)
    made = plane("--candidate-guard-after", "10", "--candidate-p99-factor", "0", "--candidate-difference", "0.05")
    set_candidate(made, "far", shadow=1)
    for _ in range(50):
        if "candidate" not in made.models():
            break
        score_with_shadow(made.server, [demo.request(rng, history=3, candidates=5)])
        time.sleep(0.05)
    assert made.server.logged_line(event="candidate-dropped")["reason"] == "different"
    assert exported(made.server)["requests"] >= 10, "to be read after the drop"


# All at once.

def test_everything_at_once(build, plane, demo, other, same, root, key_file):
    """Users, candidates, promotions, drops, rollbacks, reloads and polls of metrics, and a drain in their midst."""
    rng = random.Random(5)
    body = demo.request(rng, history=8, candidates=40, user_id="u")
    known = expected(build, [demo, other], body)
    versions = [demo.path, other.path]
    made = plane("--candidate-guard-after", "1000000000")
    ending, linking = threading.Event(), threading.Lock()
    calls = [("POST", "/models/candidate", {"directory": "other", "canary": 0.5, "shadow": 0.5}),
             ("POST", "/models/candidate", {"directory": "same", "canary": 1}), ("POST", "/models/candidate", {"shadow": 1}),
             ("POST", "/models/promote", None), ("DELETE", "/models/candidate", None), ("POST", "/models/rollback", None),
             ("POST", "/models/reload", None), ("GET", "/metrics", None), ("GET", "/models", None)]
    faults = []

    def operate(seed):
        choose = random.Random(seed)
        while not ending.is_set():
            try:
                if choose.random() < 0.2:
                    with linking:
                        made.link.set(choose.choice(versions))
                reply = made.ask(*choose.choice(calls))
                if reply.status not in (200, 409):
                    faults.append(reply)
            except (OSError, service.http.client.HTTPException) as error:
                faults.append(error)

    operators = [threading.Thread(target=operate, args=(seed,)) for seed in range(2)]
    with Load(made.server, body) as load:
        for operator in operators:
            operator.start()
        wanted, limit = ("dien_model_promotions_total", "dien_model_rollbacks_total"), time.monotonic() + 120
        time.sleep(2)
        while not all(made.server.metrics()[name] for name in wanted) and time.monotonic() < limit:
            time.sleep(0.5)
        for _ in range(3):
            made.server.process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
        ending.set()
        for operator in operators:
            operator.join()
    assert not faults, faults[:3]
    assert load.replies <= known and len(load.replies) == 2
    metrics = made.server.metrics()
    assert metrics["dien_model_promotions_total"] > 0 and metrics["dien_model_rollbacks_total"] > 0
    made.link.set(other.path)
    made.server.process.send_signal(signal.SIGHUP)
    made.server.terminate()
    made.server.stop()


@pytest.mark.parametrize("delay", [0, 0.01])
def test_a_signal_to_end_in_the_middle_of_a_candidates_load(plane, same, delay):
    document = json.loads((same.path / "samples.json").read_text())
    document["samples"] = document["samples"] * 20
    (same.path / "samples.json").write_text(json.dumps(document))
    made = plane()
    answers = []

    def call():
        try:
            answers.append(made.ask("POST", "/models/candidate", {"directory": "same", "canary": 1}).status)
        except (OSError, service.http.client.HTTPException):
            answers.append(None)

    caller = threading.Thread(target=call)
    caller.start()
    time.sleep(delay)
    made.server.terminate()
    made.server.stop()
    caller.join()
    assert answers[0] in (200, 503, None)


# A thousand bad candidates.

def sections(directory):
    """Places at which a copy of the model may stop: in each tensor, and in the two texts."""
    header, _ = modelfile.read_safetensors(directory / "model.safetensors")
    size = (directory / "model.safetensors").stat().st_size
    begin = size - max(entry["data_offsets"][1] for entry in header.values())
    places = {0, 1, 7, 8, 9, begin // 2, begin - 1, begin, size - 1}
    for entry in header.values():
        first, last = (begin + offset for offset in entry["data_offsets"])
        places |= {first, first + 1, (first + last) // 2, last - 1}
    cuts = [("model.safetensors", place) for place in sorted(places) if 0 <= place < size]
    for name in ("config.json", "samples.json"):
        size = (directory / name).stat().st_size
        cuts += [(name, size * part // 60) for part in range(60)]
    return cuts


@pytest.mark.check_only
@pytest.mark.only_on("release")
def test_a_thousand_bad_candidates(plane, demo, root, rng):
    """Half-copied, spoilt, and removed while they are read: none becomes a candidate, and no request notices. They are
    copies of a small model, since a load has what other processes leave of the processors."""
    small = min((builds.TOP / "build" / "models").glob("*/model.safetensors"), key=lambda path: path.stat().st_size).parent
    made = plane("--samples-tolerance", "1e-5")
    body = demo.request(rng, history=5, candidates=5)
    before = made.server.score(body)
    cuts, target, tried = sections(small), root / "bad", 0
    whole = {name: (small / name).read_bytes() for name in ("config.json", "model.safetensors", "samples.json")}
    with Load(made.server, body, threads=1) as load:
        while tried < 1000:
            name, keep = cuts[tried % len(cuts)]
            kind = tried // len(cuts) % 4  # cut, cut and filled with zeros, bytes too much, removed while it is read
            if name == "model.safetensors" and kind == 1 and keep > len(whole[name]) // 3:
                kind = 0  # the samples may not miss what is zero
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            for each in whole:
                if each != name:
                    shutil.copyfile(small / each, target / each)
            rest = len(whole[name]) - keep
            more = bytes(rest) if kind == 1 else b"{" * (rest + 1) if kind == 2 else b""
            (target / name).write_bytes(whole[name][:keep] + more)
            exchange = threading.Thread(target=shutil.rmtree, args=(target,), kwargs={"ignore_errors": True})
            if kind == 3:
                exchange.start()
            reply = made.ask("POST", "/models/candidate", {"directory": "bad", "canary": 1})
            if kind == 3:
                exchange.join()
            assert reply.status == 422, (name, keep, kind, reply)
            tried += 1
    assert load.replies == {(before.headers[DIGEST], "1", tuple(in_order(before)))}
    metrics = made.server.metrics()
    assert metrics['dien_model_loads_total{result="refused"}'] == 1000
    assert metrics['dien_model_loads_total{result="candidate"}'] == 0 and metrics['dien_model_loads_total{result="live"}'] == 1
    assert set(made.models()) == {"live"}
