"""The server as its operators meet it: options, health, model, metrics, log, full queues, deadlines, draining, the end."""

import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from support import builds, service
from support.prometheus import promtool
from support.service import head


@pytest.fixture(scope="module")
def small(demo):
    return demo.request(random.Random(7), history=3, candidates=2)


@pytest.fixture(scope="module")
def large(build, demo):
    """A request that takes a while, on each build about as long."""
    return demo.request(random.Random(8), history=50, candidates=512 if build.sanitized else 4096)


# Options.

def run(build, *arguments, **variables):
    ran = subprocess.run([str(build.server), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, timeout=60, check=False, env=builds.environment(**variables))
    assert builds.sanitizer_report(ran.stdout + ran.stderr) is None
    return ran


def help_entries(build):
    """{flag: (text, default, variable)} from --help."""
    text = run(build, "--help").stdout
    found = re.findall(r"^  --([a-z0-9-]+)([^\n]*)\n +\[default ([^;\]]*); (DIEN_[A-Z0-9_]+)\]", text, re.M)
    return {flag: (rest, default, variable) for flag, rest, default, variable in found}


def test_help_lists_every_option_with_its_default(build):
    ran = run(build, "--help")
    assert ran.returncode == 0 and not ran.stderr
    entries = help_entries(build)
    for flag in ("model", "listen", "threads", "queue", "max-body", "max-candidates", "max-history", "max-connections",
                 "cache-bytes", "cache-ttl", "header-timeout", "body-timeout", "deadline", "drain-delay",
                 "drain-timeout", "samples-tolerance"):
        _, default, variable = entries[flag]
        assert default
        assert variable == "DIEN_" + flag.upper().replace("-", "_")


def test_the_default_drain_ends_before_kubernetes_kills(build):
    """terminationGracePeriodSeconds is 30 s by default; a second is for the log, some for a busy machine."""
    entries = help_entries(build)
    assert sum(float(entries[flag][1]) for flag in ("drain-delay", "drain-timeout")) <= 25


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]"])
def test_a_probe_follows_the_address_to_listen_at(build, demo, host):
    """As the image's HEALTHCHECK does, by DIEN_LISTEN."""
    with service.Service(build, demo.path, "--listen", f"{host}:0") as server:
        here = f"{host}:{server.address[1]}"
        assert run(build, "--probe", "self", DIEN_LISTEN=here).returncode == 0
        assert run(build, "--probe", "self", "--listen", here).returncode == 0
    ran = run(build, "--probe", "self", DIEN_LISTEN=here)
    assert ran.returncode == 1 and here in ran.stderr


def test_version(build):
    ran = run(build, "--version")
    assert ran.returncode == 0 and re.fullmatch(r"dien-server \d+\.\d+\.\d+\n", ran.stdout)


@pytest.mark.parametrize("arguments, word", [
    (["--nosuch", "1"], "--nosuch"), (["--modle", "x"], "--modle"), (["stray"], "stray"), (["--queue"], "--queue"),
    (["--queue", "many"], "--queue"), (["--queue", "-1"], "--queue"), (["--queue", "1.5"], "--queue"),
    (["--queue", "0"], "--queue"), (["--queue", "1e30"], "--queue"), (["--queue", ""], "--queue"),
    (["--max-body", "4T"], "--max-body"), (["--max-body", "nan"], "--max-body"), (["--deadline", "inf"], "--deadline"),
    (["--deadline", "1s"], "--deadline"), (["--log-level", "loud"], "--log-level"), (["--listen", "nonsense"], "listen"),
    (["--prefault", "much"], "--prefault"),
    (["--cache-bytes", "1000"], "--cache-bytes"), (["--cache-ttl", "-1"], "--cache-ttl"),
    (["--listen", "127.0.0.1:99999"], "listen"), (["--listen", "256.256.256.256:80"], "256.256.256.256"),
])
def test_bad_options(build, demo, arguments, word):
    """Exit status 1 or 2, the option named, nothing served."""
    ran = run(build, "--model", demo.path, *arguments)
    assert ran.returncode in (1, 2)
    assert word in ran.stdout + ran.stderr


def test_no_model(build):
    ran = run(build)
    assert ran.returncode in (1, 2) and "--model" in ran.stderr + ran.stdout


def test_port_in_use(build, demo, server):
    host, port = server.address
    ran = run(build, "--model", demo.path, "--listen", f"{host}:{port}")
    assert ran.returncode == 1 and str(port) in ran.stdout + ran.stderr


def test_environment_is_an_option(start, small):
    server = start(DIEN_MAX_CANDIDATES="1")
    assert server.score(small).status == 422
    assert start("--max-candidates", "2", DIEN_MAX_CANDIDATES="1").score(small).status == 200, "a flag wins"


def test_bad_environment(build, demo):
    ran = run(build, "--model", demo.path, DIEN_QUEUE="many")
    assert ran.returncode in (1, 2) and "DIEN_QUEUE" in ran.stdout + ran.stderr


def test_unknown_kernels_are_refused(build, demo):
    ran = run(build, "--model", demo.path, "--check", DIEN_ISA="quantum")
    assert ran.returncode == 1 and "quantum" in ran.stdout + ran.stderr


def test_reference_kernels_can_be_forced(start, small, server):
    one = start(DIEN_ISA="ref")
    one.logged_line(kernels="ref")
    theirs, ours = server.score(small).scores(), one.score(small).scores()
    assert all(abs(theirs[place] - ours[place]) <= 1e-5 for place in theirs)


# Limits of a request.

def test_too_many_candidates(start, demo, rng):
    server = start("--max-candidates", "5")
    with server.client() as client:
        assert client.post(demo.request(rng, history=2, candidates=5)).status == 200
        problem = client.post(demo.request(rng, history=2, candidates=6))
        assert problem.status == 422 and problem.json()["type"].endswith("too-many-candidates")
        assert problem.json()["pointer"] == "/candidates"
        assert client.post(demo.request(rng, history=2, candidates=5)).status == 200


def test_too_long_a_history(start, demo, rng):
    server = start("--max-history", "5")
    with server.client() as client:
        assert client.post(demo.request(rng, history=5, candidates=2)).status == 200
        problem = client.post(demo.request(rng, history=6, candidates=2))
        assert problem.status == 422 and problem.json()["type"].endswith("history-too-long")
        assert problem.json()["pointer"] == "/history"


def test_request_memory(start, demo, rng, small):
    server = start("--request-memory", "64K")
    with server.client() as client:
        refused = client.post(demo.request(rng, history=50, candidates=4096))
        assert refused.status == 503 and refused.json()["type"].endswith("out-of-memory")
        assert client.post(demo.request(rng, history=1, candidates=1)).status == 200


def test_connection_limit(start, small):
    """Beyond it another one is served, in the place of the one that has been idle for longest."""
    server = start("--max-connections", "4")
    taken = [server.raw() for _ in range(4)]
    for raw in taken:
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.reply("GET").status == 200
    with server.raw() as another:
        body = json.dumps(small).encode()
        another.send(head(len(body)) + body)
        assert another.reply().status == 200
        assert taken[0].closed()
    for raw in taken:
        raw.socket.close()
    assert server.score(small).status == 200


# Health, model.

def test_health(server, demo):
    with server.client() as client:
        first = client.get("/health").json()
        assert first["status"] == "ready"
        assert (first["model"], first["version"]) == (demo.config["name"], demo.config["version"])
        time.sleep(0.02)
        assert client.get("/health").json()["uptime_seconds"] > first["uptime_seconds"] > 0
        for path in ("/health/live", "/health/ready"):
            reply = client.get(path)
            assert reply.status == 200 and reply.headers["Content-Type"] == "application/json"


def test_health_is_answered_beside_the_queue(start, large):
    """Liveness, readiness and metrics do not wait behind scoring: in the median, as any one may wait for a processor."""
    server = start("--threads", "1", "--deadline", "3600")
    body = json.dumps(large).encode()
    ending, faults = threading.Event(), []

    def work():
        with server.client() as client:
            while not ending.is_set():
                reply = client.post(body)
                if reply.status != 200:
                    faults.append(repr(reply))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while server.metrics()["dien_queue_depth"] == 0:
        time.sleep(0.01)
    seconds, depths = [], []
    with server.client() as client:
        for path in ("/health/live", "/health/ready", "/metrics", "/model") * 3:
            began = time.monotonic()
            assert client.get(path).status == 200
            seconds.append(time.monotonic() - began)
            depths.append(server.metrics()["dien_queue_depth"])
    ending.set()
    for thread in threads:
        thread.join()
    assert not faults, faults[:3]
    assert sorted(seconds)[len(seconds) // 2] < 0.5 * server.build.patience
    assert max(depths) > 0, "the queue was empty: this showed nothing"


def test_model_says_what_a_client_must_send(server, demo):
    with server.client() as client:
        answer = client.get("/model").json()
    assert (answer["name"], answer["version"]) == (demo.config["name"], demo.config["version"])
    for group in ("user", "context", "candidate", "behaviour"):
        members = {field["name"]: field for field in answer["groups"][group]}
        assert list(members) == demo.config["groups"].get(group, [])
        for name, field in members.items():
            assert field["required"] == ("attribute_of" not in demo.fields[name])
            if demo.fields[name]["kind"] == "categorical":
                assert field["rows"] == demo.config["tables"][demo.fields[name]["table"]]["rows"]
    assert [(each["name"], each["max_length"]) for each in answer["interests"]] == \
        [(each["name"], each["max_length"]) for each in demo.config["interests"]]
    assert {"max_candidates", "max_history", "max_body_bytes"} <= set(answer["limits"])


# Metrics.

@pytest.mark.check_only
def test_promtool_accepts_the_metrics(server, small):
    server.score(small)
    server.score("{")
    with server.client() as client:
        reply = client.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    status, output = promtool("check", "metrics", input=reply.body)
    assert status == 0, output


def test_every_series_exists_from_the_start(start, small, demo):
    """What a dashboard or an alert names is there before the first request; requests add no new series."""
    server = start()
    first = server.metrics()
    server.score(small)
    server.score("{")
    server.score({**small, "candidates": {}})
    with server.client() as client:
        client.get("/nothing")
        client.ask("DELETE", "/score")
        client.post("x", **{"Content-Type": "text/plain"})
    assert set(server.metrics()) == set(first)


def series(metrics, name, /, **labels):
    """The sum over the series of a name whose labels include these."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(value for key, value in metrics.items()
               if key.split("{")[0] == name and all(each in key for each in wanted))


def test_metrics_move_with_requests(start, demo, rng):
    server = start()
    before = server.metrics()
    with server.client() as client:
        for _ in range(3):
            assert client.post(demo.request(rng, history=4, candidates=5)).status == 200
        client.post("{")
        client.get("/nothing")
    after = server.metrics()

    def moved(name, **labels):
        return series(after, name, **labels) - series(before, name, **labels)
    assert moved("dien_requests_total", outcome="ok") == 3
    assert moved("dien_requests_total", outcome="invalid-json") == 1
    assert moved("dien_candidates_total") == 15
    assert moved("dien_user_states_total", state="computed") == 3
    for phase in ("decode", "resolve", "state", "score", "encode", "queue", "total"):
        count = moved("dien_request_duration_seconds_count", phase=phase)
        assert count == 3 or phase in ("decode", "queue", "total") and count == 4, phase
        assert moved("dien_request_duration_seconds_sum", phase=phase) > 0


def test_histograms_are_cumulative_and_fine(server, small):
    server.score(small)
    buckets = {}
    for key, value in server.metrics().items():
        found = re.fullmatch(r'(\w+_bucket)\{(.*?),?le="([^"]+)"\}', key)
        if found:
            buckets.setdefault((found[1], found[2]), []).append((float(found[3].replace("+Inf", "inf")), value))
    assert buckets
    for bounds in buckets.values():
        assert bounds == sorted(bounds)
        counts = [count for _, count in bounds]
        assert counts == sorted(counts)
        assert bounds[-1][0] == float("inf")
    for (name, _), bounds in buckets.items():
        if name.startswith("dien_candidate_") and "_seconds_" not in name:
            continue  # differences, shares and scores
        # Durations start at 50 microseconds, the age of what is evicted at a second.
        assert bounds[0][0] <= (1 if name == "dien_cache_eviction_age_seconds_bucket" else 50e-6), name


def test_turns_of_the_loop_are_measured(build, start, small, large):
    """The loop serves nobody else while a turn lasts. A large request is the scoring thread's work, and no turn's."""
    server = start()
    with server.client() as client:
        for _ in range(100):
            client.post(small)
            client.get("/metrics")
        for _ in range(5):
            client.post(large)
    metrics = server.metrics()
    turns, short = metrics["dien_loop_turn_seconds_count"], metrics['dien_loop_turn_seconds_bucket{le="0.025"}']
    assert turns >= 200 and metrics["dien_loop_turn_seconds_sum"] > 0
    if not build.sanitized:  # a busy machine takes the processor from some turns
        assert turns - short <= 0.02 * turns, (turns, short)


RATIOS = {"samples_tolerance", "request_log_share", "candidate_p99_factor", "candidate_difference"}


def test_limits_are_metrics(build, start, demo):
    """Every limit has a flag, a default and a metric."""
    server = start("--max-candidates", "77")
    kinds = {flag.replace("-", "_"): text.split(maxsplit=1)[0] for flag, (text, _, _) in help_entries(build).items()}
    limits = {}
    for key, value in server.metrics().items():
        if found := re.fullmatch(r'dien_limit_(\w+)\{name="([^"]+)"\}', key):
            assert found[2] not in limits, f"{found[2]} is in two families"
            limits[found[2]] = value
            kind = {"BYTES": "bytes", "SECONDS": "seconds"}.get(kinds[found[2]], "items")
            assert found[1] == ("ratio" if found[2] in RATIOS else kind), key
    assert limits["max_candidates"] == 77
    assert set(limits) == {flag for flag, kind in kinds.items() if kind in ("BYTES", "SECONDS", "NUMBER")}


def test_old_names_can_be_left_out(start, server):
    """They are beside the new ones by default, and --old-names off leaves out these and nothing else."""
    with_old, without = set(server.metrics()), set(start("--old-names", "off").metrics())
    old = {name for name in with_old if re.match(r"dien_limit\{|dien_requests_aside_total", name)}
    assert len(old) > 20 and with_old - without == old and not without - with_old


def test_process_and_build_metrics(server, demo):
    metrics = server.metrics()
    assert series(metrics, "dien_build_info", version=re.search(r"[\d.]+", run(server.build, "--version").stdout)[0]) == 1
    assert series(metrics, "dien_model_info", name=demo.config["name"], version=demo.config["version"]) == 1


# The log.

def test_log_lines_are_json_and_say_what_happened(start, small):
    server = start()
    server.score(small, **{"X-Request-Id": "seen-in-the-log"})
    server.score("{", **{"X-Request-Id": "bad-one"})
    good, bad = server.logged("seen-in-the-log"), server.logged("bad-one")
    assert good["http.response.status_code"] == 200 and bad["http.response.status_code"] == 400
    assert good["http.request.method"] == "POST" and good["http.route"] == "/score" and "url.path" not in good
    assert 0 < good["http.server.request.duration"] < 60 * builds.slowness() and "error.type" not in good
    assert bad["error.type"] == "invalid-json"
    assert (good["method"], good["path"], good["status"]) == ("POST", "/score", 200), "the old names"
    for line in server.output.splitlines():
        json.loads(line)


def test_no_access_log(start, small):
    server = start("--access-log", "off")
    for _ in range(5):
        server.score(small)
    server.stop()  # which writes what the log still holds
    assert server.log() and not [line for line in server.log() if line["event"] == "request"]


def test_old_names_of_log_members_can_be_left_out(start, small):
    server = start("--old-names", "off")
    server.score(small, **{"X-Request-Id": "by-new-names"})
    line = server.logged("by-new-names")
    assert line["http.response.status_code"] == 200
    assert not {"method", "path", "status", "seconds", "problem"} & set(line)


@pytest.mark.parametrize("access_log", ["on", "off"])
def test_a_deletion_leaves_a_line_without_the_id(start, demo, rng, access_log):
    """The request's id says which one it was, to whoever sent it; --access-log has no say in it."""
    server = start("--access-log", access_log)
    with server.client() as client:
        assert client.post(demo.request(rng, history=2, candidates=2, user_id="remembered")).status == 200
        for request_id, states in (("held", 1), ("gone", 0)):
            reply = client.ask("DELETE", "/users/remembered", headers={"X-Request-Id": request_id})
            assert reply.status == 204
            line = server.logged_line(event="user-deleted", request_id=request_id)
            assert line["states"] == states and line["level"] == "info"
        client.get("/users/remembered")
    server.logged_line(event="user-deleted", request_id="gone")
    assert not [line for line in server.log() if line["event"] == "user-deleted" and line["request_id"] not in ("held", "gone")]
    assert "remembered" not in server.output


# A log that is not read, or cannot be written.

LOG_REQUESTS = 5000


def serve_many(server, small, lost):
    """Requests and health are answered as if somebody read the log. How many lines are lost, as the metric says."""
    with server.client(timeout=20) as client:
        for number in range(LOG_REQUESTS):
            assert client.ask("GET", "/nothing").status == 404, number
        assert client.post(small).status == 200
        began = time.monotonic()
        assert client.get("/health/live").status == 200
        assert time.monotonic() - began < server.build.patience
    metrics = server.metrics()
    assert metrics["dien_log_lines_total"] >= LOG_REQUESTS
    assert (metrics["dien_log_dropped_total"] > 0) == lost
    return metrics["dien_log_dropped_total"]


def end(server):
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5 + server.build.patience


def log_lines(text):
    """(lines, how many are told as lost). Each line is whole, the last one too."""
    assert text.endswith(b"\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return lines, sum(line["lines"] for line in lines if line["event"] == "log-dropped")


@pytest.fixture
def log_pipe():
    """Both ends of a pipe, as unbuffered files."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as writer:
        yield reader, writer


def test_a_log_that_nobody_reads_stops_nothing(build, demo, small, log_pipe):
    reader, writer = log_pipe
    server = service.Service(build, demo.path, "--log-buffer", "64K", log=writer)
    writer.close()
    serve_many(server, small, lost=True)
    end(server)
    lines, _ = log_lines(reader.read(1 << 20))
    assert len(lines) > 100, "the pipe was full"


def test_a_log_that_is_read_late_says_what_it_lost(build, demo, small, log_pipe):
    reader, writer = log_pipe
    server = service.Service(build, demo.path, "--log-buffer", "64K", log=writer)
    writer.close()
    dropped = serve_many(server, small, lost=True)
    chunks = []
    thread = threading.Thread(target=lambda: chunks.extend(iter(lambda: reader.read(1 << 16), b"")))
    thread.start()
    limit = time.monotonic() + 30
    while b"log-dropped" not in b"".join(chunks):
        assert time.monotonic() < limit
        time.sleep(0.01)
    server.score(small, **{"X-Request-Id": "read-again"})
    end(server)
    thread.join()
    lines, told = log_lines(b"".join(chunks))
    assert told == dropped
    assert any(line.get("request_id") == "read-again" for line in lines)
    assert lines[-1]["event"] == "stopped"
    assert sum(line["event"] == "request" for line in lines) + told >= LOG_REQUESTS


def test_a_second_signal_is_fast_though_nobody_reads_the_log(build, demo, log_pipe):
    _, writer = log_pipe
    server = service.Service(build, demo.path, "--drain-delay", "60", log=writer)
    with server.client() as client:
        for _ in range(1000):
            client.get("/nothing")
        server.terminate()
        while client.get("/health/ready").status == 200:  # two signals at once are one
            time.sleep(0.01)
    began = time.monotonic()
    server.terminate()
    assert server.wait() == 1
    assert time.monotonic() - began < 5 + server.build.patience


def test_a_second_signal_loses_no_line_of_the_log(build, demo):
    server = service.Service(build, demo.path, "--drain-delay", "60")
    with server.client() as client:
        for _ in range(100):
            client.get("/nothing")
    server.terminate()
    server.logged_line(event="draining")
    server.terminate()
    assert server.wait() == 1
    lines = server.log()
    assert sum(line["event"] == "request" for line in lines) == 100
    assert lines[-1]["event"] == "killed"


def test_a_log_on_a_full_disk_stops_nothing(build, demo, small):
    with open("/dev/full", "wb", buffering=0) as full:
        server = service.Service(build, demo.path, log=full)
    serve_many(server, small, lost=True)
    end(server)


def test_no_standard_error_stops_nothing(build, demo, small):
    """Nor does a socket take its place and receive the log."""
    server = service.Service(build, demo.path, log=service.Service.CLOSED)
    serve_many(server, small, lost=True)
    assert os.readlink(f"/proc/{server.process.pid}/fd/2") == "/dev/null"
    end(server)


def test_a_log_that_is_read_loses_nothing(start, small):
    server = start("--log-buffer", "16M")  # a disk may stand still for seconds on a busy machine
    serve_many(server, small, lost=False)


# A full queue, a passed deadline.

def flood(server, body, count):
    """Post on `count` connections at once; the replies."""
    text = (body if isinstance(body, str) else json.dumps(body)).encode()
    many = [server.raw() for _ in range(count)]
    for raw in many:
        raw.send(head(len(text)) + text)
    replies = [raw.reply() for raw in many]
    for raw in many:
        raw.socket.close()
    return replies


def test_full_queue(start, large, small):
    """503 with Retry-After, at once; those in the queue are answered; the counts agree; then all is as before."""
    server = start("--threads", "1", "--queue", "2", "--deadline", "3600")
    before = server.metrics()
    replies = flood(server, large, 30)
    refused = [reply for reply in replies if reply.status == 503]
    assert {reply.status for reply in replies} == {200, 503}
    assert len(refused) < 30
    for reply in refused:
        assert reply.json()["type"].endswith("saturated")
        assert int(reply.headers["Retry-After"]) >= 1
        assert not reply.closes
    after = server.metrics()
    assert series(after, "dien_requests_total", outcome="saturated") - \
        series(before, "dien_requests_total", outcome="saturated") == len(refused)
    assert series(after, "dien_requests_total", outcome="ok") - \
        series(before, "dien_requests_total", outcome="ok") == 30 - len(refused)
    assert server.score(small).status == 200


def in_time(server, body):
    """The first answer that is not late: with a short deadline any may be, where processors are busy."""
    for _ in range(100):
        reply = server.score(body)
        if reply.status not in (503, 504):
            break
    return reply


def test_deadline(start, large, small):
    """A request that waited too long is not scored any more: 504, and nobody waits for its answer. The process stands
    still while requests wait in the queue, since by its own estimate the server lets in none that would be late."""
    server = start("--threads", "1", "--deadline", "1")
    body, replies = json.dumps(large).encode(), []
    for _ in range(20):  # on a busy machine the queue may be empty again when it is to stand still
        many = [server.raw() for _ in range(8)]
        for raw in many:
            raw.send(head(len(body)) + body)
        limit = time.monotonic() + 5
        while server.metrics()["dien_queue_depth"] == 0 and time.monotonic() < limit:
            time.sleep(0.001)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        server.process.send_signal(signal.SIGCONT)
        replies += [raw.reply() for raw in many]
        for raw in many:
            raw.socket.close()
        if 504 in {reply.status for reply in replies}:
            break
    late = [reply for reply in replies if reply.status == 504]
    assert late and {reply.status for reply in replies} <= {200, 503, 504}
    assert all(reply.json()["type"].endswith("deadline-passed") for reply in late)
    assert series(server.metrics(), "dien_requests_total", outcome="deadline-passed") == len(late)
    assert in_time(server, small).status == 200


def test_overload(start, large, small):
    """What would pass its deadline in the queue is refused at once, by what it costs; each request has one answer, and
    the counts agree. Light requests have their turn meanwhile."""
    server = start("--threads", "1", "--deadline", "0.04")
    expected = in_time(server, large).scores()
    before = server.metrics()
    replies = []
    for _ in range(20):  # again where the first of a flood was late, and so taken from the queue without cost
        replies += flood(server, large, 60)
        counts = {status: sum(reply.status == status for reply in replies) for status in (200, 503, 504)}
        if counts[200] > 0 and counts[503] > 0:
            break
    assert sum(counts.values()) == len(replies) and counts[200] > 0 and counts[503] > 0
    for reply in replies:
        if reply.status == 200:
            assert reply.scores() == expected
        elif reply.status == 503:
            assert reply.json()["type"].endswith("saturated") and "deadline" in reply.json()["detail"]
            assert int(reply.headers["Retry-After"]) >= 1
    after = server.metrics()
    for status, outcome in ((200, "ok"), (503, "saturated"), (504, "deadline-passed")):
        assert series(after, "dien_requests_total", outcome=outcome) - \
            series(before, "dien_requests_total", outcome=outcome) == counts[status]
    assert series(after, "dien_refusals_total", limit="deadline") - \
        series(before, "dien_refusals_total", limit="deadline") == counts[503]
    assert series(after, "dien_refusals_total", limit="queue") == 0
    assert series(after, "dien_queue_seconds") == series(after, "dien_queue_depth") == 0
    assert in_time(server, small).status == 200


# A large request among threads.

def test_a_large_request_is_split(start, large):
    """Among idle threads: the same answer, and it shows in the metrics."""
    alone, many = start("--threads", "1"), start("--threads", "4")
    explained = {**large, "explain": True}
    expected = {name: alone.score(body).json() for name, body in (("plain", large), ("explained", explained))}
    for turn in range(200):
        assert many.score(large).json() == expected["plain"]
        if turn >= 3 and series(many.metrics(), "dien_requests_split_total") > 0:
            break
    assert many.score(explained).json() == expected["explained"]
    metrics = many.metrics()
    assert series(metrics, "dien_pieces_helped_total") >= series(metrics, "dien_requests_split_total") > 0
    assert series(alone.metrics(), "dien_requests_split_total") == 0


def test_light_requests_beside_heavy_ones(start, large, small):
    """One thread, never without a heavy request: light ones are answered in between, all of them, and so are the heavy."""
    server = start("--threads", "1", "--deadline", "3600")
    expected = {"large": server.score(large).scores(), "small": server.score(small).scores()}
    ending, faults, heavy = threading.Event(), [], [0]

    def work():
        with server.client() as client:
            while not ending.is_set():
                if client.post(large).scores() != expected["large"]:
                    faults.append("large")
                heavy[0] += 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    with server.client() as client:
        for _ in range(300):
            if client.post(small).scores() != expected["small"]:
                faults.append("small")
            if series(server.metrics(), "dien_requests_interleaved_total") > 0:
                break
    ending.set()
    for thread in threads:
        thread.join()
    assert not faults and heavy[0] > 0
    assert series(server.metrics(), "dien_requests_interleaved_total") > 0


def test_max_buffered(start, small):
    """Bodies under way count together."""
    server = start("--max-buffered", "100K", "--max-body", "64K")
    with server.raw() as first, server.raw() as second:
        first.send(head(60_000) + b" " * 59_000)
        time.sleep(0.3)
        second.send(head(60_000) + b" " * 59_000)
        assert second.reply().status == 503
        assert server.score(small).status == 200
        first.send(b" " * 1000)
        assert first.reply().status == 400
    assert server.score(small).status == 200


# A model's file is read before the server is ready.

def mapped_bytes(server, name):
    """How much of a mapped file is in the process's page table, and how much is mapped."""
    text = pathlib.Path(f"/proc/{server.process.pid}/smaps").read_text()
    parts = re.findall(rf"/{re.escape(name)}\nSize: +(\d+) kB\n(?:.*\n)*?Rss: +(\d+) kB\n", text)
    return sum(int(rss) for _, rss in parts) * 1024, sum(int(size) for size, _ in parts) * 1024


@pytest.mark.parametrize("prefault", ["auto", "100K", "off"])
def test_prefault(build, demo, tmp_path, prefault):
    """Without a request: a cold file is in memory, as much of it as was asked for, and the log and the metrics say so."""
    shutil.copytree(demo.path, tmp_path / "model")
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    with open(tmp_path / "model" / "model.safetensors", "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    expected = {"auto": size, "100K": 100 * 1024, "off": 0}[prefault]
    with service.Service(build, tmp_path / "model", "--prefault", prefault) as server:
        resident, mapped = mapped_bytes(server, "model.safetensors")
        assert mapped >= size and resident >= expected // 4096 * 4096
        metrics, line = server.metrics(), server.logged_line(event="model-ready")
        assert metrics["dien_model_prefaulted_bytes"] == line["prefaulted_bytes"] == expected
        assert 0 <= metrics["dien_model_prefault_seconds"] <= line["seconds"]


# A model's files that change while they are mapped.

@pytest.mark.parametrize("size", [0, 200_000])
def test_a_truncated_model_ends_the_server_with_its_reason(build, demo, rng, tmp_path, size):
    """The log names the file, the status is one of its own, and no request gets a false score."""
    shutil.copytree(demo.path, tmp_path / "model")
    server = service.Service(build, tmp_path / "model", "--threads", "2", "--cache-bytes", "0")
    body = demo.request(rng, history=10, candidates=20)
    expected = server.score(body).scores()
    os.truncate(tmp_path / "model" / "model.safetensors", size)
    limit = time.monotonic() + 60
    while server.process.poll() is None:
        assert time.monotonic() < limit
        try:
            assert server.score(demo.request(rng, history=50, candidates=200)).status == 200
            assert server.score(body).scores() == expected
        except (OSError, http.client.HTTPException):
            continue
    assert server.wait() == 3
    (line,) = (line for line in server.log() if line["event"] == "file-lost")
    assert line["level"] == "error" and line["file"] == str(tmp_path / "model" / "model.safetensors")
    assert builds.sanitizer_report(server.output) is None


# Draining and the end.

def test_drain_loses_nothing(start, demo, rng):
    """SIGTERM under load: readiness says no at once, every request that was sent on an accepted connection is answered."""
    delay = 1.5 * min(builds.slowness(), 4)  # in which all of the questions below are asked
    server = start("--drain-delay", delay, "--drain-timeout", "180", "--deadline", "3600")
    body = json.dumps(demo.request(rng, history=20, candidates=200)).encode()
    expected = server.score(body).scores()
    answered, faults = [0], []
    ending = threading.Event()

    def work():
        while not ending.is_set():
            try:
                with server.client() as client:
                    while not ending.is_set():
                        reply = client.post(body)
                        if reply.status != 200 or reply.scores() != expected:
                            faults.append(repr(reply))
                        answered[0] += 1
                        if reply.closes:
                            break
            except ConnectionRefusedError:
                return
            except Exception as error:  # noqa: BLE001: any other end is a lost request
                if server.process.poll() is None:
                    faults.append(repr(error))
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while answered[0] == 0 and not faults:
        time.sleep(0.05)
    time.sleep(0.2)
    with server.client() as client:
        assert client.get("/health/ready").status == 200
    server.terminate()
    time.sleep(0.3)
    with server.client() as client:
        ready = client.get("/health/ready")
        assert ready.status == 503 and ready.json()["status"] == "draining"
    with server.client() as client:
        assert client.get("/health/live").status == 200
    with server.client() as client:
        during = client.post(body)
        assert during.status == 200 and during.closes
    # What was sent before the listening socket closes is answered, on connections of before and of now.
    time.sleep(0.7)
    ending.set()
    for thread in threads:
        thread.join()
    assert server.wait() == 0
    assert not faults, faults[:3]


def test_requests_in_flight_are_finished(build, demo, large):
    """No delay: the listening socket closes at once, what is in the queue is still answered."""
    server = service.Service(build, demo.path, "--threads", "1", "--deadline", "3600", "--drain-timeout", "3600")
    text = json.dumps(large).encode()
    many = [server.raw() for _ in range(12)]
    for raw in many:
        raw.send(head(len(text)) + text)
    while series(server.metrics(), "dien_connections") < 12:
        time.sleep(0.01)
    time.sleep(0.2)
    server.terminate()
    statuses = [reply.status if reply else None for reply in (raw.reply() for raw in many)]
    assert statuses == [200] * 12
    assert server.wait() == 0
    server.clean()


def test_a_request_that_comes_too_late_hears_that_the_server_stops(build, demo):
    """The threads stop while a connection still sends: draining, with Retry-After, and no refusal of the queue."""
    server = service.Service(build, demo.path, "--threads", "1", "--drain-timeout", "0", "--max-candidates", "65536")
    text = json.dumps(demo.request(random.Random(9), history=50, candidates=2048 if build.sanitized else 65536)).encode()
    with server.raw() as busy, server.raw() as late:
        late.send(head(2) + b"{}")
        assert late.reply().status == 400
        busy.send(head(len(text)) + text)
        while series(server.metrics(), "dien_threads_busy") < 1:
            time.sleep(0.002)
        server.terminate()
        server.logged_line(event="closing")
        late.send(head(2) + b"{}")
        reply = late.reply()
        assert reply.status == 503 and reply.json()["type"].endswith(":draining"), reply
        assert reply.closes and reply.headers["Retry-After"] == "1"
        assert busy.reply().status == 200
    assert server.wait() == 0
    server.clean()


def test_new_connections_are_refused_after_the_drain_delay(build, demo):
    server = service.Service(build, demo.path)
    server.terminate()
    assert server.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        server.raw()


def test_idle_connections_do_not_hold_the_end(build, demo, small):
    server = service.Service(build, demo.path, "--drain-timeout", "3600")
    idle = [server.client() for _ in range(5)]
    for client in idle:
        assert client.post(small).status == 200
    half = server.raw()
    half.send(head(100) + b"{")
    server.terminate()
    half.socket.close()
    assert server.wait() == 0  # long before the drain timeout
    server.clean()


def test_the_drain_timeout_ends_what_does_not_end(build, demo):
    """A client that never finishes its body is not waited for longer than --drain-timeout."""
    server = service.Service(build, demo.path, "--drain-timeout", "1")
    with server.raw() as half:
        half.send(head(100) + b"{")
        time.sleep(0.2)
        server.terminate()
        assert server.wait() == 0
    server.clean()


def test_a_second_signal_is_a_fast_exit(build, demo):
    server = service.Service(build, demo.path, "--drain-delay", "3600")
    server.terminate()
    server.logged_line(event="draining")  # two signals at once are one
    assert server.process.poll() is None
    server.terminate()
    server.wait()  # long before the drain delay
    server.clean()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(build, demo, number):
    server = service.Service(build, demo.path)
    server.terminate(number)
    assert server.wait() == 0
    server.clean()


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_that_do_not_end_it(start, small, number):
    server = start()
    server.terminate(number)
    time.sleep(0.2)
    assert server.score(small).status == 200


def test_a_signal_at_any_moment_of_the_start(build, demo):
    """SIGTERM before or while the model loads ends it too; never a crash, never a hang."""
    for delay in (0, 0.005, 0.02, 0.05, 0.1):
        process = subprocess.Popen([build.server, "--model", demo.path, "--listen", "127.0.0.1:0", "--drain-delay", "0"],
                                   env=builds.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(delay)
        process.terminate()
        output, _ = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGTERM), output
        assert builds.sanitizer_report(output.decode()) is None


# Valgrind sees what the sanitizers cannot: the uninstrumented libraries. One run, on the release build.

@pytest.mark.check_only
@pytest.mark.only_on("release")
def test_valgrind(build, demo, small, tmp_path):
    log = tmp_path / "valgrind"
    command = ["valgrind", "--error-exitcode=97", "--leak-check=full", "--errors-for-leak-kinds=definite",
               f"--log-file={log}", build.server, "--model", demo.path, "--listen", "127.0.0.1:0", "--threads", "2",
               "--address-file", tmp_path / "address", "--drain-delay", "0"]
    process = subprocess.Popen([str(part) for part in command], env=builds.environment(OPENBLAS_CORETYPE="HASWELL"),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    limit = time.monotonic() + 120
    while not (tmp_path / "address").exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.1)
    host, port = (tmp_path / "address").read_text().strip().rsplit(":", 1)
    with service.Client((host, int(port))) as client:
        while client.get("/health/ready").status != 200:
            time.sleep(0.1)
        assert client.post(small).status == 200
        assert client.post({**small, "explain": True}).status == 200
        assert client.post("{").status == 400
        assert client.get("/metrics").status == 200
        assert client.get("/model").status == 200
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, log.read_text()[-6000:] + output.decode()[-2000:]
