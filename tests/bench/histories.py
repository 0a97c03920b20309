"""A history store of a million users, LMDB and Redis: bytes, opening, reads, appends. And the server over HTTP: requests
that name the user alone beside requests that bring the whole history.

    make bench-histories
    python3 tests/bench/histories.py --parts lmdb,redis,redis-aof,wire

histories.c fills and measures the stores; a store that is there is not filled again. The server's runs are those of
server.py: closed loop, users with histories of 50 behaviours on the reference shape, server and load on a processor each.
"""

import argparse
import contextlib
import csv
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
import server  # noqa: E402
from support import builds, redis_server, service  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402

LENGTH = 50
# How Redis keeps what it was told.
PERSISTENCE = {"redis": ("memory alone", ()),
               "redis-aof": ("append-only file", ("--appendonly", "yes", "--appendfsync", "everysec"))}
PARTS = "lmdb", *PERSISTENCE, "wire"
TOKENLESS = "--user-write", "public"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=builds.TOP / "build/release")
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "build/bench/reference-shape")
    parser.add_argument("--store", type=pathlib.Path, default=builds.TOP / "build/bench/histories", help="where LMDB's file is")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--users", type=int, default=1000000)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--counts", default="10,100", help="candidates of a request")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--server-options", default="--access-log off")
    parser.add_argument("--fill-only", action="store_true", help="leave the store there for a measurement to come")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    options = parser.parse_args()
    options.server = options.build / "dien-server"
    return options


def program(options, act, where, scratch):
    """The rows of histories.c."""
    path = pathlib.Path(scratch) / "rows.csv"
    command = [options.build / "bench" / "histories", act, where, "--users", options.users, "--length", LENGTH,
               "--seconds", options.seconds, "--csv", path]
    ran = subprocess.run([str(word) for word in command], stderr=subprocess.PIPE, text=True, check=False)
    if ran.returncode != 0:
        raise SystemExit(ran.stderr)
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- the stores


def size(like, what, count, stored):
    return {**like, "what": what, "sync": "-", "outstanding": 1, "count": count, "seconds": "", "p50_us": "", "p99_us": "",
            "file_bytes": stored}


def run_lmdb(options, scratch):
    options.store.mkdir(parents=True, exist_ok=True)
    file = options.store / f"{options.users}-{LENGTH}"
    rows = [] if file.exists() else program(options, "fill", f"lmdb:{file}", scratch)
    if not options.fill_only:
        rows += program(options, "measure", f"lmdb:{file}", scratch)
        stored = os.stat(file).st_blocks * 512
        rows.append(size(rows[-1], "bytes a user at the end", stored // options.users, stored))
    return [{"engine": "LMDB", "persistence": "file", **row} for row in rows]


def run_redis(options, part, scratch):
    persistence, flags = PERSISTENCE[part]
    with redis_server.Redis(*flags) as redis:
        rows = program(options, "fill", redis.where, scratch)
        info = redis.ask("INFO", "memory").decode()
        used = int(next(line for line in info.splitlines() if line.startswith("used_memory:")).split(":")[1])
        rows.append(size(rows[-1], "bytes a user in memory", used // options.users, ""))
        rows += program(options, "measure", redis.where, scratch)
    return [{"engine": "Redis", "persistence": persistence, **row} for row in rows]


# ---- the server


def bodies_of(model, count, scratch):
    """Files of requests by their form, and the histories of the users."""
    whole = list(server.make_bodies(model, LENGTH, count, True))
    history = {body["user_id"]: body["history"] for body in whole}
    named = [{name: value for name, value in body.items() if name != "history"} for body in whole]
    files = {}
    for form, bodies in (("whole history", whole), ("user alone", named)):
        files[form] = pathlib.Path(scratch) / form.replace(" ", "-")
        server.write_bodies(bodies, files[form])
    return files, history


def wire_bytes(running, body):
    """Of the request and of its reply, head and body."""
    with running.raw() as raw:
        request = service.head(len(body)) + body
        raw.send(request)
        reply = raw.reply()
    assert reply.status == 200, reply
    return len(request), len(f"HTTP/1.1 200 OK\r\n{reply.headers}".replace("\n", "\r\n")) + len(reply.body)


def measure(options, store, form, count, running, file):
    body = file.read_text().splitlines()[0].encode()
    if options.seconds >= 1:
        server.closed(running, options, file, 1)  # warm
    row = server.closed(running, options, file, options.seconds)
    assert row["errors"] == row["refused_per_second"] == 0, row
    sent, got = wire_bytes(running, body)
    print(f"C={count:<4} {form:<14} {store:<6} {row['good_per_second']:>9} requests/s   p50 {row['p50_us'] / 1000:6.2f} ms   "
          f"p99 {row['p99_us'] / 1000:6.2f} ms   {sent:>6} and {got} bytes", flush=True)
    kept = ("good_per_second", "p50_us", "p90_us", "p99_us", "server_cpu_us_per_request")
    return {"C": count, "T": LENGTH, "form": form, "store": store, "request_bytes": sent, "reply_bytes": got,
            **{name: row[name] for name in kept}, "connections": options.connections, "seconds": options.seconds}


@contextlib.contextmanager
def place(store, scratch):
    """What --histories is given; empty: no store."""
    if store == "Redis":
        with redis_server.Redis() as redis:
            yield ("--histories", redis.where, "--histories-timeout", "1", *TOKENLESS)
    else:
        yield ("--histories", f"lmdb:{scratch}/histories", *TOKENLESS) if store == "LMDB" else ()


def run_wire(options, scratch):
    model = ModelDirectory(options.model)
    processors = server.Processors(False)
    build = builds.Build(options.build.resolve().parent, options.build.resolve().name)
    for count in map(int, options.counts.split(",")):
        files, history = bodies_of(model, count, scratch)
        for store in ("none", "LMDB", "Redis"):
            os.sched_setaffinity(0, processors.server)  # what is started inherits it
            with tempfile.TemporaryDirectory(dir=scratch) as directory, place(store, directory) as flags, \
                    service.Service(build, options.model, "--threads", str(len(processors.server)), *flags,
                                    *options.server_options.split()) as running:
                os.sched_setaffinity(0, processors.load)
                with running.client() as client:
                    for user, columns in history.items() if store != "none" else ():
                        reply = client.post({"history": columns, "event_id": "first"}, f"/users/{user}/history")
                        assert reply.status == 200, reply
                for form in files if store != "none" else ["whole history"]:
                    yield measure(options, store, form, count, running, files[form])
            os.sched_setaffinity(0, sorted({*processors.server, *processors.load}))


def identity(row):
    """What a row is of: measured once more, it takes the place of the former."""
    return row["engine"], row["persistence"], row["what"], row["sync"], str(row["outstanding"])


def main():
    options = arguments()
    machine.check_quiet()
    parts = options.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        stores = run_lmdb(options, scratch) if "lmdb" in parts else []
        for part in PERSISTENCE:
            stores += run_redis(options, part, scratch) if part in parts else []
        wire = list(run_wire(options, scratch)) if "wire" in parts else []
    measured = set(map(identity, stores))
    for name, rows, replaces in (("histories", stores, lambda old: identity(old) in measured),
                                 ("histories-wire", wire, lambda old: True)):
        if rows:
            print(f"rows in {os.path.relpath(machine.save(name, rows, options.output, replaces=replaces))}")


if __name__ == "__main__":
    main()
