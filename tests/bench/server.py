"""The whole server over HTTP beside the same model behind an HTTP server around ONNX Runtime.

    make bench-server
    python3 tests/bench/server.py --kinds cached --seconds 8

Closed loop: wrk keeps 16 connections busy; what comes out is the most that the server can do. Open loop: openloop.c
posts at 70 % and at 110 % of that rate, and counts what a request waits from when it was due. The load has a processor
of its own, the last; the server has the others, with as many scoring threads (--shared: both have all). The processor
time that the server used is there beside every rate. The rows go to tests/bench/results/PROCESSOR.server.csv.

The kind `small` is this server alone in closed loop: one candidate, by length of history and by how the history is
told, and what such a request reaches of the rate of GET /health/live.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import load  # noqa: E402
import machine  # noqa: E402
from support import builds, messages, service  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BODIES, USERS = 300, 100
LARGEST_DIFFERENCE = 1e-4  # between the two servers' scores
# Of the closed loop's rate; how many times --seconds; how often. An overload has to fill the queue first; tails differ.
RATES = (0.7, 1, 3), (1.1, 3, 1)
LEAST_OFFERED = 20  # requests of an open loop, however slow the machine

# T, C, and whether requests name their user.
KINDS = {"cached": (100, 100, True), "uncached": (100, 100, False), "one": (100, 1, True)}
SMALL = "small"
SMALL_STEPS = 1, 10, 20, 50, 100
FORMS = "history", "token", "message"  # the whole history in JSON; its token in JSON, and in a message


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", type=pathlib.Path, default=builds.TOP / "build/release/dien-server")
    parser.add_argument("--openloop", type=pathlib.Path, default=builds.TOP / "build/release/bench/openloop")
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "build/bench/reference-shape")
    parser.add_argument("--graphs", type=pathlib.Path, default=builds.TOP / "build/bench/peers", help="of peers.py --export")
    parser.add_argument("--tools", type=pathlib.Path, default=builds.TOP / "build/tools")
    parser.add_argument("--kinds", default=",".join([*KINDS, SMALL]))
    parser.add_argument("--steps", default=",".join(map(str, SMALL_STEPS)), help=f"lengths of the histories of {SMALL}")
    parser.add_argument("--shape", help="TxC in place of the kind's")
    parser.add_argument("--servers", default="dien,onnxruntime")
    parser.add_argument("--seconds", type=float, default=8, help="of each run")
    parser.add_argument("--connections", type=int, default=16, help="of the closed loop")
    parser.add_argument("--open-connections", type=int, default=2048, help="most requests in flight in the open loop")
    parser.add_argument("--server-options", default="", help='more of dien-server\'s own, such as "--queue 16"')
    parser.add_argument("--shared", action="store_true", help="server and load share all processors")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    return parser.parse_args()


class Processors:
    """Who runs where."""

    def __init__(self, shared):
        everywhere = sorted(os.sched_getaffinity(0))
        self.server = everywhere if shared or len(everywhere) == 1 else everywhere[:-1]
        self.load = everywhere if shared else everywhere[-1:]

    def __str__(self):
        return f"server {len(self.server)}, load {len(self.load)}" + (" (the same)" if self.load[0] in self.server else "")


class OnnxServer:
    """peer_server.mjs, with what the benchmark asks of service.Service."""

    def __init__(self, options, directory, processes, cached):
        command = ["node", HERE / "peer_server.mjs", options.tools, directory, processes, *(["cached"] if cached else [])]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        self.address = "127.0.0.1", json.loads(self.process.stdout.readline())

    def score(self, body):
        with service.Client(self.address) as client:
            return client.post(body)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(30)


def start(name, options, shape, cached, processors):
    os.sched_setaffinity(0, processors.server)  # what is started inherits it
    try:
        if name == "onnxruntime":
            return OnnxServer(options, options.graphs / shape, len(processors.server), cached)
        build = builds.Build(options.server.resolve().parents[1], options.server.resolve().parent.name)
        return service.Service(build, options.model, "--access-log", "off", "--threads", str(len(processors.server)),
                               *options.server_options.split())
    finally:
        os.sched_setaffinity(0, processors.load)


def processor_seconds(pid):
    """Processor time of a process and its children, as the kernel counts it."""
    total = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(path.parent.name) == pid or int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def make_bodies(model, steps, count, named):
    """Each user has one history; candidates differ from request to request."""
    rng = random.Random(7)
    users = [model.request(rng, history=steps, candidates=1) for _ in range(USERS)]
    for i in range(BODIES):
        body = model.request(rng, history=0, candidates=count)
        body = {**users[i % USERS], "candidates": body["candidates"]}
        yield {"user_id": f"u{i % USERS}", **body} if named else body


def write_bodies(bodies, path):
    path.write_text("".join(json.dumps(body) + "\n" for body in bodies))


def with_tokens(running, bodies):
    """The same requests with the history's token in its place, from a server that has seen the histories."""
    with running.client() as client:
        for body in bodies:
            token = client.post(body).json()["history"]["token"]
            yield {**{name: value for name, value in body.items() if name != "history"}, "history_token": token}


def answered(running, options, bodies, seconds, path, media_type):
    """wrk's counts, and the processor seconds of the server. A run with hardly an answer is repeated, for longer: on a
    busy machine a second may pass without one, and a rate of zero is no divisor."""
    for longer in 1, 2, 4, 8, 16:
        spent = processor_seconds(running.process.pid)
        wrk = argparse.Namespace(load_threads=1, connections=options.connections, seconds=max(1, round(seconds)) * longer)
        got = load.run_wrk(running, wrk, bodies, path, media_type)
        if got["requests"] - got["status"] >= 0.1 * wrk.seconds:  # less is rounded to a rate of 0
            return got, processor_seconds(running.process.pid) - spent
    raise SystemExit(f"{path}: hardly a good answer in {wrk.seconds} s")


def closed(running, options, bodies, seconds, path="/score", media_type=None):
    got, spent = answered(running, options, bodies, seconds, path, media_type)
    took = got["microseconds"] / 1e6
    refused = got["status"]  # answers other than 2xx and 3xx; wrk counts their latencies with the others
    errors = sum(got[kind] for kind in ("connect", "read", "write", "timeout"))
    return {"loop": "closed", "load": 1, "offered_per_second": "",
            "good_per_second": round((got["requests"] - refused) / took, 1),
            "refused_per_second": round(refused / took, 1), "p50_us": got["p50"],
            "p90_us": got["p90"], "p99_us": got["p99"], "p999_us": got["p999"],
            "max_us": got["max"], "refused_p99_us": "", "late_p99_us": "", "errors": errors, "unanswered": 0,
            "server_cpu_us_per_request": round(1e6 * spent / got["requests"], 1), "server_cpu_used": round(spent / took, 2)}


def opened(running, options, bodies, part, rate, seconds):
    host, port = running.address
    spent = processor_seconds(running.process.pid)
    command = [options.openloop, f"{host}:{port}", bodies, "--rate", rate, "--seconds", seconds,
               "--connections", options.open_connections]
    ran = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    spent = processor_seconds(running.process.pid) - spent
    got = json.loads(ran.stdout)
    good, refused = got["good"], got["refused"]
    answers = max(1, good["count"] + refused["count"])
    return {"loop": "open", "load": part, "offered_per_second": round(rate, 1),
            "good_per_second": round(good["count"] / got["seconds"], 1),
            "refused_per_second": round(refused["count"] / got["seconds"], 1),
            **{f"{place}_us": good.get(place, "") for place in ("p50", "p90", "p99", "p999", "max")},
            "refused_p99_us": refused.get("p99", ""), "late_p99_us": got["late"].get("p99", ""),
            "errors": got["other"] + got["failed"], "unanswered": got["unanswered"],
            "server_cpu_us_per_request": round(1e6 * spent / answers, 1), "server_cpu_used": round(spent / got["seconds"], 2)}


HEAD = (f"{'':<34}{'offered/s':>10}{'good/s':>10}{'refused/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'p99 refused':>12}"
        f"{'errors':>7}{'cpu us each':>12}{'cpus':>6}")


def show(row):
    def milliseconds(value):
        return f"{value / 1000:.2f}" if value != "" else ""
    what = f"{row['server']}, {row['loop']} loop" + (f" at {row['load']:.0%}" if row["loop"] == "open" else f" {row['path']}")
    print(f"{what:<34}{row['offered_per_second']:>10}{row['good_per_second']:>10}{row['refused_per_second']:>10}"
          f"{milliseconds(row['p50_us']):>9}{milliseconds(row['p99_us']):>9}{milliseconds(row['max_us']):>9}"
          f"{milliseconds(row['refused_p99_us']):>12}{row['errors'] + row['unanswered']:>7}"
          f"{row['server_cpu_us_per_request']:>12}{row['server_cpu_used']:>6}", flush=True)


def common(options, processors, name):
    return {"connections": options.connections, "seconds": options.seconds, "processors": str(processors),
            "options": options.server_options if name == "dien" else ""}


def measure(name, running, options, bodies):
    """The runs of one server on one kind of request."""
    closed(running, options, bodies, 2)  # warm
    most = closed(running, options, bodies, options.seconds)
    yield {"path": "/score", **most}
    for part, times, turns in RATES:
        for _ in range(turns):
            rate = part * most["good_per_second"]
            seconds = max(times * options.seconds, LEAST_OFFERED / rate)
            yield {"path": "/score", **opened(running, options, bodies, part, rate, seconds)}
    if name == "dien":
        yield {"path": "/health/live", **closed(running, options, None, min(4, options.seconds), "/health/live")}


def measure_small(running, options, processors, model, steps, scratch):
    """One candidate in every form; the share is of the rate of GET /health/live, which is asked beside each."""
    bodies = list(make_bodies(model, steps, 1, True))
    told = list(with_tokens(running, bodies))
    compiled = messages.compiled(scratch)
    lines = {"history": map(json.dumps, bodies), "token": map(json.dumps, told),
             "message": (messages.message_of(compiled, body).SerializeToString().hex() for body in told)}
    for form in FORMS:
        told_so = scratch / form
        told_so.write_text("".join(line + "\n" for line in lines[form]))
        media_type = messages.MEDIA_TYPE if form == "message" else None
        closed(running, options, told_so, 1, media_type=media_type)  # warm
        scored = closed(running, options, told_so, min(4, options.seconds), media_type=media_type)
        live = closed(running, options, None, min(2, options.seconds), "/health/live")
        assert scored["errors"] == scored["refused_per_second"] == 0
        share = scored["good_per_second"] / live["good_per_second"]
        for path, row in (("/score", scored), ("/health/live", live)):
            yield {"kind": SMALL, "T": steps, "C": 1, "server": "dien", "path": path, **row,
                   **common(options, processors, "dien"), "largest_difference": "", "form": form,
                   "share_of_live": round(share, 3)}
        print(f"T={steps:<4} {form:<8} {scored['good_per_second']:>9} requests/s, "
              f"{scored['server_cpu_us_per_request']:>6} us of processor time each; "
              f"GET /health/live {live['good_per_second']:>9}, "
              f"{live['server_cpu_us_per_request']:>5} us; share {share:.0%}", flush=True)


def run_small(options, processors, model, scratch):
    print(f"\nC=1, user states kept, closed loop; processors: {processors}")
    for steps in map(int, options.steps.split(",")):
        with start("dien", options, None, True, processors) as running:
            yield from measure_small(running, options, processors, model, steps, scratch)


def scores_of(running, bodies, cached):
    """The first body's scores, at the second call: then the state of its user is kept."""
    with open(bodies) as file:
        body = file.readline()
    running.score(body)
    reply = running.score(body)
    state = reply.json().get("user_state")
    assert state in (None, "cached" if cached else "computed"), state
    return reply.scores()


def run(kind, options, processors, model, scratch):
    steps, count, cached = KINDS[kind]
    if options.shape:
        steps, count = map(int, options.shape.split("x"))
    bodies = scratch / kind
    write_bodies(make_bodies(model, steps, count, cached), bodies)
    print(f"\nT={steps} C={count}, user states {'cached' if cached else 'computed in each request'}; processors: {processors}")
    print(HEAD)
    expected = None
    for name in options.servers.split(","):
        with start(name, options, f"{steps}x{count}", cached, processors) as running:
            scores = scores_of(running, bodies, cached)
            expected = expected or scores
            difference = max(abs(scores[i] - expected[i]) for i in expected)
            assert difference < LARGEST_DIFFERENCE, f"the scores of {name} differ by {difference}"
            for row in measure(name, running, options, bodies):
                row = {"kind": kind, "T": steps, "C": count, "server": name, **row, **common(options, processors, name),
                       "largest_difference": f"{difference:.1e}", "form": FORMS[0], "share_of_live": ""}
                show(row)
                yield row


def identity(row):
    """What a row is of: measured once more, it takes the place of the former."""
    return tuple(str(row[name]) for name in ("kind", "T", "C", "server", "options", "processors"))


def main():
    options = arguments()
    processors = Processors(options.shared)
    model = ModelDirectory(options.model)
    machine.check_quiet()
    rows = []
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        for kind in options.kinds.split(","):
            if kind == SMALL:
                rows += run_small(options, processors, model, pathlib.Path(scratch))
            else:
                rows += run(kind, options, processors, model, pathlib.Path(scratch))
    measured = {identity(row) for row in rows}
    path = machine.save("server", rows, options.output, replaces=lambda row: identity(row) in measured)
    print(f"rows in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
