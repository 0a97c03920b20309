"""A model goes live, and back, while requests come: each reply is of one model, and a refused model changes nothing."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import threading
import time

import pytest

from support import modelfile, service
from support.load import Callers
from support.modelfile import Link

DIGEST = "X-Model-Digest"
TOLERANT = ("--samples-tolerance", "1")  # the altered models have no scores of a training code


def altered(demo, path, version, shift=0.0):
    """A copy of the demo model with another version, and other scores where `shift` is not 0."""
    copy = demo.copy(path)
    copy.config["version"] = version
    copy.write_config()
    if shift:
        name = max((name for name in copy.header if name.startswith("mlp.") and name.endswith("bias")), key=len)
        name = "mlp.output.bias" if "mlp.output.bias" in copy.header else name
        begin, end = copy.header[name]["data_offsets"]
        values = [value + shift for value in modelfile.tensor(copy.header, copy.data, name)]
        copy.data[begin:end] = struct.pack(f"<{len(values)}f", *values)
        copy.write_tensors()
    return copy


def loads(server, result):
    return server.metrics()[f'dien_model_loads_total{{result="{result}"}}']


def ends(server, result):
    """Loads that ended so. One that finds the model before in memory is a way back, and ends as live, too."""
    metrics = server.metrics()
    back = metrics["dien_model_rollbacks_total"] if result == "live" else 0
    return metrics[f'dien_model_loads_total{{result="{result}"}}'] + back


def reload(server, result="live", seconds=120):
    """SIGHUP, and wait for the end of the load."""
    before = ends(server, result)
    server.process.send_signal(signal.SIGHUP)
    limit = time.monotonic() + seconds
    while ends(server, result) == before:
        assert time.monotonic() < limit, server.output[-3000:]
        time.sleep(0.005)


@pytest.fixture
def versions(demo, tmp_path):
    return [demo.copy(tmp_path / "one"), altered(demo, tmp_path / "two", "2", shift=0.5)]


@pytest.fixture
def link(versions, tmp_path):
    return Link(tmp_path / "current", versions[0].path)


@pytest.fixture
def small(demo):
    return demo.request(random.Random(7), history=3, candidates=4)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_identity_of_a_model_is_everywhere(start, versions, link, small):
    server = start(*TOLERANT, model=link)
    for version, by in ((versions[0], "start"), (versions[1], "signal")):
        link.set(version.path)
        if by == "signal":
            reload(server)
        config, weights = sha256(version.path / "config.json"), sha256(version.path / "model.safetensors")
        with server.client() as client:
            page, reply = client.get("/model"), client.post(small)
        assert page.json()["sha256"] == {"config": config, "weights": weights}
        assert page.json()["version"] == reply.json()["version"] == version.config["version"]
        assert page.json()["loaded_by"] == by and "last_failure_at" not in page.json()
        assert reply.headers[DIGEST] == page.headers[DIGEST] == f"{config[:16]}-{weights[:16]}"
        line = server.logged_line(event="model-ready", loaded_by=by)
        assert (line["config_sha256"], line["weights_sha256"]) == (config, weights)
        lives = [name for name in server.metrics() if name.startswith("dien_model_info") and 'slot="live"' in name]
        assert len(lives) == 1 and config in lives[0] and weights in lives[0]
    previous = [name for name in server.metrics() if name.startswith("dien_model_info") and 'slot="previous"' in name]
    assert len(previous) == 1 and sha256(versions[0].path / "config.json") in previous[0]


def test_without_a_previous_model(start, versions, link):
    server = start(*TOLERANT, "--keep-previous", "off", model=link)
    link.set(versions[1].path)
    reload(server)
    assert not [name for name in server.metrics() if 'slot="previous"' in name]


class Load(Callers):
    """Clients that score one request after another, and note each reply's digest, version and scores."""

    def __init__(self, server, body, threads=3):
        super().__init__(server, *[self._score] * threads)
        self.body, self.replies = body, set()

    def _score(self, client):
        reply = client.post(self.body)
        scores = tuple(score for _, score in sorted(reply.scores().items()))
        self.replies.add((reply.headers[DIGEST], reply.json()["version"], scores))


def expected(build, directories, body):
    """What each model alone answers: (digest, version, scores)."""
    found = set()
    for directory in directories:
        with service.Service(build, directory.path, *TOLERANT) as server:
            reply = server.score(body)
            scores = tuple(score for _, score in sorted(reply.scores().items()))
            found.add((reply.headers[DIGEST], reply.json()["version"], scores))
    return found


@pytest.mark.parametrize("threads, memory, keep", [("1", "map", "off"), ("3", "map", "off"), ("2", "copy", "off"),
                                                   ("2", "map", "on")])
def test_reloads_under_load(build, start, demo, versions, link, threads, memory, keep):
    """No request fails, and each reply is one model's: digest, version and all scores. Large ones are scored by several
    threads, so a request is under way at each swap."""
    body = demo.request(random.Random(3), history=20, candidates=64 if build.sanitized else 400)
    known = expected(build, versions, body)
    assert len({scores for _, _, scores in known}) == 2
    server = start(*TOLERANT, "--threads", threads, "--model-memory", memory, "--keep-previous", keep, model=link)
    reloads = 2 if build.sanitized else 8  # a load has lowest priority, and takes long beside a sanitizer's scoring
    with Load(server, body) as load:
        for turn in range(reloads):
            link.set(versions[(turn + 1) % 2].path)
            reload(server)
    assert load.replies == known
    assert loads(server, "live") == (reloads + 1 if keep == "off" else 2) and loads(server, "refused") == 0


def test_memory_after_twenty_reloads(build, start, demo, versions, link):
    """Nothing of a model stays behind."""
    server = start(*TOLERANT, "--keep-previous", "off", model=link)
    mapped = []
    for turn in range(6 if build.sanitized else 20):
        link.set(versions[(turn + 1) % 2].path)
        reload(server)
        server.score(demo.request(random.Random(turn), history=20, candidates=50))
        mapped.append(pathlib.Path(f"/proc/{server.process.pid}/maps").read_text().count("model.safetensors"))
        if turn == 1:
            early = server.resident_bytes()
    time.sleep(0.5)  # the last model is closed by a thread of the lowest priority
    mapped.append(pathlib.Path(f"/proc/{server.process.pid}/maps").read_text().count("model.safetensors"))
    assert mapped[-1] == 1 and max(mapped) <= 3, mapped
    if not build.sanitized:
        assert server.resident_bytes() <= early * 1.02 + (2 << 20), "a model has 1.3 MB"


# User states.

def test_a_state_of_another_version_is_never_used(start, demo, versions, link, rng):
    server = start(*TOLERANT, model=link)
    body = demo.request(rng, history=5, candidates=3, user_id="u")
    first = server.score(body)
    token = first.json()["history"]["token"]
    assert server.score(body).json()["user_state"] == "cached"
    link.set(versions[1].path)
    reload(server)
    again = server.score(body)
    assert again.json()["user_state"] == "computed" and again.json()["version"] == "2"
    assert server.metrics()['dien_user_state_misses_total{reason="version"}'] == 1
    assert server.score(body).json()["user_state"] == "cached"
    assert again.json()["history"]["token"] != token
    only = {name: value for name, value in body.items() if name != "history"}
    assert server.score({**only, "history_token": token}).status == 409


def test_a_token_of_another_version_is_unknown(start, demo, versions, link, rng):
    server = start(*TOLERANT, model=link)
    body = demo.request(rng, history=5, candidates=3, user_id="u")
    token = server.score(body).json()["history"]["token"]
    link.set(versions[1].path)
    reload(server)
    only = {name: value for name, value in body.items() if name != "history"}
    told = server.score({**only, "history_token": token})
    assert told.status == 409 and told.json()["type"].endswith("unknown-history-token")


def test_states_outlive_a_reload_of_the_same_files(start, demo, versions, link, rng):
    """A copy of the files elsewhere is the same model: tokens stay good, and the way back leads to the model before."""
    server = start(*TOLERANT, model=link)
    link.set(versions[1].path)
    reload(server)
    body = demo.request(rng, history=5, candidates=3, user_id="u")
    token = server.score(body).json()["history"]["token"]
    copy = versions[1].copy(versions[1].path.with_name("two-again"))
    for name in ("config.json", "model.safetensors", "samples.json"):
        shutil.copy(versions[1].path / name, copy.path / name)
    link.set(copy.path)
    reload(server)
    only = {name: value for name, value in body.items() if name != "history"}
    told = server.score({**only, "history_token": token})
    assert told.status == 200 and told.json()["user_state"] == "cached"
    assert any('slot="previous"' in name and 'version="1"' in name for name in server.metrics())


# A model that is refused.

def spoil(directory, kind):
    files = {name: directory / name for name in ("config.json", "model.safetensors", "samples.json")}
    if kind.startswith("no "):
        files[kind[3:]].unlink()
    elif kind == "samples off":
        document = json.loads(files["samples.json"].read_text())
        document["samples"][0]["scores"][0] += 0.5
        files["samples.json"].write_text(json.dumps(document))
    else:
        name, keep = kind.split(" to ")
        os.truncate(files[name], int(files[name].stat().st_size * float(keep)))


KINDS = ["no config.json", "no model.safetensors", "no samples.json", "config.json to 0.5", "model.safetensors to 0",
         "model.safetensors to 0.99", "samples.json to 0.9", "samples off"]


def test_a_refused_model_changes_nothing(start, demo, link, small, tmp_path):
    server = start(model=link)
    before = server.score(small)
    digest = before.headers[DIGEST]
    with Load(server, small) as load:
        for number, kind in enumerate(KINDS):
            bad = demo.copy(tmp_path / f"bad{number}")
            spoil(bad.path, kind)
            link.set(bad.path)
            reload(server, "refused")
        link.set(tmp_path / "nowhere")
        reload(server, "refused")
    assert load.replies == {(digest, "1", tuple(score for _, score in sorted(before.scores().items())))}
    lines = [line for line in server.log() if line["event"] == "model-refused"]
    assert len(lines) == len(KINDS) + 1
    for kind, line in zip(KINDS, lines):
        assert kind.split(" to ")[0].removeprefix("no ").replace("samples off", "samples.json") in line["message"]
    with server.client() as client:
        assert "last_failure_at" in client.get("/model").json()
    assert server.metrics()["dien_model_last_failure_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
    link.set(demo.path)
    reload(server)


def test_a_reload_while_another_runs_is_answered(start, demo, tmp_path, small):
    """It is refused at once, in the log and in a metric, and not done later."""
    slow = demo.copy(tmp_path / "slow")
    document = json.loads((slow.path / "samples.json").read_text())
    document["samples"] = document["samples"] * 60
    (slow.path / "samples.json").write_text(json.dumps(document))
    server = start(model=slow)
    server.process.send_signal(signal.SIGHUP)
    limit = time.monotonic() + 60
    while loads(server, "busy") == 0:
        assert time.monotonic() < limit
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.001)
    server.logged_line(event="reload-refused")
    while server.metrics()["dien_model_loading"]:
        time.sleep(0.01)
    began = sum(line["event"] == "reload" for line in server.log())
    time.sleep(0.2)
    assert loads(server, "live") == 1 + began and server.score(small).status == 200


@pytest.mark.parametrize("delay", [0, 0.002, 0.01, 0.05])
def test_a_signal_to_end_in_the_middle_of_a_load(start, demo, tmp_path, small, delay):
    slow = demo.copy(tmp_path / "slow")
    document = json.loads((slow.path / "samples.json").read_text())
    document["samples"] = document["samples"] * 20
    (slow.path / "samples.json").write_text(json.dumps(document))
    server = start(model=slow)
    assert server.score(small).status == 200
    server.process.send_signal(signal.SIGHUP)
    time.sleep(delay)
    server.terminate()
    server.stop()


def test_reload_during_a_drain(build, demo, small):
    server = service.Service(build, demo.path, "--drain-delay", "1")
    server.terminate()
    server.logged_line(event="draining")
    server.process.send_signal(signal.SIGHUP)
    server.logged_line(event="reload-refused")
    server.stop()


def test_a_directory_that_is_replaced_while_it_is_read(start, demo, versions, link, tmp_path):
    """Each load is of one directory: the digests are of files that belong together."""
    server = start(*TOLERANT, model=link)
    pairs = {f"{sha256(each.path / 'config.json')[:16]}-{sha256(each.path / 'model.safetensors')[:16]}"
             for each in versions}
    ending = threading.Event()

    def swap():
        turn = 0
        while not ending.is_set():
            link.set(versions[turn % 2].path)
            turn += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(20):
            reload(server)
            with server.client() as client:
                assert client.get("/model").headers[DIGEST] in pairs
    finally:
        ending.set()
        thread.join()


# The way back, by the link.

def test_the_way_back_needs_no_load(start, versions, link, small, demo, rng):
    """The link names the model before again: it is in memory, proved, and so are its users' states."""
    server = start(*TOLERANT, model=link)
    body = demo.request(rng, history=5, candidates=3, user_id="u")
    token = server.score(body).json()["history"]["token"]
    first = server.score(small)
    link.set(versions[1].path)
    reload(server)
    assert server.score(small).json()["version"] == "2"
    link.set(versions[0].path)
    before = server.metrics()["dien_model_rollbacks_total"]
    server.process.send_signal(signal.SIGHUP)
    server.logged_line(event="model-rolled-back", version="1")
    assert server.metrics()["dien_model_rollbacks_total"] == before + 1 and loads(server, "live") == 2
    again = server.score(small)
    assert again.scores() == first.scores() and again.headers[DIGEST] == first.headers[DIGEST]
    only = {name: value for name, value in body.items() if name != "history"}
    assert server.score({**only, "history_token": token}).json()["user_state"] == "cached"
    link.set(versions[1].path)
    server.process.send_signal(signal.SIGHUP)
    server.logged_line(event="model-rolled-back", version="2")


def test_a_previous_model_whose_files_were_written_is_loaded(start, versions, link):
    server = start(*TOLERANT, model=link)
    link.set(versions[1].path)
    reload(server)
    versions[0].config["version"] = "3"
    versions[0].write_config()
    link.set(versions[0].path)
    reload(server)
    with server.client() as client:
        assert client.get("/model").json()["version"] == "3"


def test_polling_follows_the_link(start, versions, link):
    server = start(*TOLERANT, "--model-poll", "0.05", model=link)
    time.sleep(0.3)
    assert loads(server, "live") == 1
    link.set(versions[1].path)
    server.logged_line(event="model-ready", loaded_by="poll", version="2")
    link.set(versions[0].path.with_name("nowhere"))
    server.logged_line(event="model-refused")
    time.sleep(0.3)
    assert loads(server, "refused") == 1, "a refused target is not tried again and again"


def test_a_model_beyond_the_memory_limit_is_refused(start, demo, versions, link, small):
    size = (demo.path / "model.safetensors").stat().st_size
    server = start(*TOLERANT, "--model-memory-limit", str(size), model=link)
    assert server.metrics()['dien_limit_bytes{name="model_memory_limit"}'] == size
    link.set(versions[1].path)
    reload(server, "refused")
    assert "--model-memory-limit" in server.logged_line(event="model-refused")["message"]
    assert server.score(small).json()["version"] == "1"


# systemd.

def test_systemd_is_told(build, versions, link, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        server = service.Service(build, link.path, *TOLERANT, NOTIFY_SOCKET=str(tmp_path / "notify"),
                                 WATCHDOG_USEC="2000000")
        alive = []

        def told():
            while (text := manager.recv(1000).decode()) == "WATCHDOG=1":
                alive.append(time.monotonic())
            return text

        assert told() == "READY=1"
        link.set(versions[1].path)
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        server.process.send_signal(signal.SIGHUP)
        first, second = told().split("\n")
        assert first == "RELOADING=1"
        assert before <= int(second.removeprefix("MONOTONIC_USEC=")) / 1e6 <= time.clock_gettime(time.CLOCK_MONOTONIC)
        assert told() == "READY=1"
        link.set(tmp_path / "nowhere")
        server.process.send_signal(signal.SIGHUP)
        assert told().startswith("RELOADING=1") and told() == "READY=1", "a refused reload has ended, too"
        time.sleep(1.2)
        server.terminate()
        assert told() == "STOPPING=1" and alive
        server.stop()
