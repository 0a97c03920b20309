"""A steady client's latency under each attack, beside nginx under the same clients: one row of CSV for each.

    make bench-attacks
    python3 tests/bench/attacks.py --server build/release/dien-server --attack build/release/bench/attack --seconds 30

The server has processor 0 and all clients have processor 1. The steady client posts small requests to /score and asks
for /health/live, each on its own clock, before an attack ("quiet") and during it. nginx answers the same requests from
memory, so its latencies show the part that the machine and the clients have in them. A row says how many bytes and
requests the attack delivered. Each attack has a new server.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
from support import attacks, builds, proxies, service  # noqa: E402
from support.modelfile import ModelDirectory  # noqa: E402

SERVER, CLIENTS = {0}, {1}
QUIET_SECONDS = 4
STEADY_CLIENTS, STEADY_PERIOD = 4, 20  # milliseconds between the requests of one client
HEALTH_PERIOD = 20
PROMISED_RATIO, NGINX_RATIO, HEALTH_US = 5, 1.2, 50_000

NGINX = """
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes 1;
worker_rlimit_nofile 30000;
events {{ worker_connections 25000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  large_client_header_buffers 4 32k;
  client_max_body_size 64m;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /score {{ return 200 "{{}}"; }}
    location = /health/live {{ return 200 "{{}}"; }}
    location = /large {{ alias {directory}/large; }}
    location / {{ return 404; }}
  }}
}}
"""


class Nginx:
    """nginx with answers from memory, and a file as large as the replies that slow readers ask for."""

    def __init__(self, large_bytes):
        self.temporary = tempfile.TemporaryDirectory(prefix="dien-bench-nginx-")
        directory = pathlib.Path(self.temporary.name)
        directory.chmod(0o755)  # the worker has another user
        (directory / "large").write_bytes(b"x" * large_bytes)
        port = proxies.free_ports(1)[0]
        self.address = ("127.0.0.1", port)
        config = directory / "config"
        config.write_text(NGINX.format(directory=directory, port=port))
        self.process = subprocess.Popen(["nginx", "-e", str(directory / "error.log"), "-c", str(config)])
        limit = time.monotonic() + 20
        while True:
            try:
                with service.Client(self.address) as client:
                    client.get("/health/live")
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None and time.monotonic() < limit
                time.sleep(0.02)

    def resident_bytes(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in children)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.temporary.cleanup()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", type=pathlib.Path, default=builds.TOP / "build/release/dien-server")
    parser.add_argument("--attack", type=pathlib.Path, default=builds.TOP / "build/release/bench/attack")
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "model/demo")
    parser.add_argument("--seconds", type=float, default=30, help="of each attack")
    parser.add_argument("--attacks", default=";".join(attacks.ATTACKS), help="names, with ; between")
    parser.add_argument("--servers", default="dien,nginx")
    parser.add_argument("--options", default="", help="options of the server")
    parser.add_argument("--label", default="", help="a name for the build, in the rows")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    return parser.parse_args()


def steady(options, address, files, seconds):
    """The latencies of the steady client and of its questions for health. It wakes before the attackers do."""
    groups = [f"beat:{STEADY_CLIENTS}:steady:{STEADY_PERIOD}", f"beat:1:live:{HEALTH_PERIOD}",
              f"knock:1:live:{HEALTH_PERIOD}"]
    return attacks.begin(options.attack, address, seconds, groups, files, nice=-15, processors=CLIENTS)


def start(name, options):
    os.sched_setaffinity(0, SERVER)
    try:
        if name == "nginx":
            return Nginx(3_000_000)
        build = builds.Build(options.server.resolve().parents[1], options.server.resolve().parent.name)
        return service.Service(build, options.model, "--access-log", "off", "--threads", "1", "--deadline", "1",
                               *options.options.split())
    finally:
        os.sched_setaffinity(0, CLIENTS)


def measure(name, attack, options, files):
    """The row of one attack on one server."""
    running = start(name, options)
    try:
        quiet = attacks.finish(steady(options, running.address, files, QUIET_SECONDS))
        attackers = attacks.begin(options.attack, running.address, options.seconds + 1, attacks.ATTACKS[attack], files,
                                  nice=5,
                                  processors=CLIENTS)
        time.sleep(1)  # until they are all connected
        got = attacks.finish(steady(options, running.address, files, options.seconds))
        resident = running.resident_bytes()
        delivered = attacks.finish(attackers)
        began = time.monotonic()
    finally:
        running.stop()
    stopped = time.monotonic() - began
    total = {key: sum(group[key] for group in delivered) for key in ("sent_bytes", "requests", "replies",
                                                                     "received_bytes", "connections")}
    scores, health, knock = got
    return {
        "server": name, "label": options.label, "attack": attack,
        "clients": sum(group["clients"] for group in delivered),
        "seconds": options.seconds, "attack_sent_mb_per_s": round(total["sent_bytes"] / 1e6 / (options.seconds + 1), 2),
        "attack_requests_per_s": round(total["requests"] / (options.seconds + 1)),
        "attack_replies_per_s": round(total["replies"] / (options.seconds + 1)),
        "attack_connections": total["connections"],
        "quiet_p50_us": quiet[0].get("p50_us", ""), "quiet_p99_us": quiet[0].get("p99_us", ""),
        "p50_us": scores.get("p50_us", ""), "p99_us": scores.get("p99_us", ""), "max_us": scores.get("max_us", ""),
        "answers": scores["measured"], "errors": scores["errors"],
        "health_p50_us": health.get("p50_us", ""), "health_p99_us": health.get("p99_us", ""),
        "health_max_us": health.get("max_us", ""),
        "health_errors": health["errors"], "new_connection_p99_us": knock.get("p99_us", ""),
        "new_connection_max_us": knock.get("max_us", ""),
        "new_connection_errors": knock["errors"], "resident_mb": round(resident / 1e6, 1),
        "stop_seconds": round(stopped, 2),
    }


# Columns of the printed table: the heading, the row's member, and whether it is a time in microseconds.
COLUMNS = (("MB/s", "attack_sent_mb_per_s", False), ("requests/s", "attack_requests_per_s", False),
           ("replies/s", "attack_replies_per_s", False), ("quiet p99", "quiet_p99_us", True), ("p50 ms", "p50_us", True),
           ("p99 ms", "p99_us", True), ("max ms", "max_us", True), ("errors", "errors", False),
           ("health p99", "health_p99_us", True), ("max", "health_max_us", True), ("errors", "health_errors", False),
           ("new p99", "new_connection_p99_us", True),
           ("errors", "new_connection_errors", False), ("MB", "resident_mb", False), ("stop s", "stop_seconds", False))


def heading():
    print(f"{'attack':<30}{'server':<12}" + "".join(f"{name:>11}" for name, _, _ in COLUMNS))


def show(row):
    def text(value, is_time):
        return "none" if value == "" else f"{value / 1000:.2f}" if is_time else value
    values = "".join(f"{text(row[member], is_time):>11}" for _, member, is_time in COLUMNS)
    print(f"{row['attack']:<30}{row['server'] + ' ' + row['label']:<12}{values}", flush=True)


def verdict(rows):
    """Does each attack keep the promise: five times the quiet p99, or 1.2 times nginx's; no error; health in 50 ms or so?"""
    for row in rows:
        if row["server"] != "dien":
            continue
        beside = next((other for other in rows if other["server"] == "nginx" and other["attack"] == row["attack"]),
                      None)

        def within(value, limit, other):
            return value != "" and (value <= limit or (other not in (None, "") and value <= NGINX_RATIO * other))
        good = {
            "p99": within(row["p99_us"], PROMISED_RATIO * row["quiet_p99_us"], beside and beside["p99_us"]),
            "errors": row["errors"] + row["health_errors"] + row["new_connection_errors"] == 0,
            "health": within(row["health_max_us"], HEALTH_US, beside and beside["health_max_us"]),
        }
        broken = [name for name, kept in good.items() if not kept]
        print(f"{row['attack']:<32}{'kept' if not broken else 'broken: ' + ', '.join(broken)}")


def identity(row):
    """The subject of a row: measured once more, it takes the place of the former."""
    return tuple(row[name] for name in ("server", "label", "attack"))


def main():
    options = arguments()
    names = [name for name in options.attacks.split(";") if name]
    if not set(names) <= set(attacks.ATTACKS):
        raise SystemExit(f"attacks: {'; '.join(attacks.ATTACKS)}")
    os.sched_setaffinity(0, CLIENTS)
    machine.check_quiet()
    rows = []
    heading()
    with tempfile.TemporaryDirectory(prefix="dien-bench-") as scratch:
        model = ModelDirectory(options.model)
        for attack in names:
            for name in options.servers.split(","):
                files = attacks.request_files(model, pathlib.Path(scratch), large_by_get=name == "nginx")
                rows.append(measure(name, attack, options, files))
                show(rows[-1])
    verdict(rows)
    measured = {identity(row) for row in rows}
    path = machine.save("attacks", rows, options.output, replaces=lambda row: identity(row) in measured)
    print(f"rows in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
