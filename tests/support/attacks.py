"""Attacks on a server as groups of clients of tests/bench/attack.c, for tests, the soak and the benchmark.

A group is KIND:CLIENTS:REQUEST, as attack.c explains; REQUEST names a file that request_files() writes.
"""

import json
import os
import random
import subprocess

from . import service

ATTACKS = {
    "flood, 1 client": ["flood:1:live"],
    "flood, 8 clients": ["flood:8:live"],
    "flood, 64 clients": ["flood:64:live"],
    "flood of 404, 8 clients": ["flood:8:nowhere"],
    "uploads behind large headers": ["flood:4:upload"],
    "slow readers": ["deaf:64:large"],
    "half-open": ["hold:500:half"],
    "half bodies": ["hold:70:half_body"],
    "connections that come and go": ["churn:8:live"],
    "10,000 idle": ["hold:10000:-"],
    "all at once": ["flood:8:live", "flood:2:upload", "deaf:64:large", "hold:500:half", "hold:70:half_body", "churn:2:live",
                    "hold:10000:-"],
}


def request_files(model, directory, large_by_get=False):
    """Writes the requests' bytes; {name: path}. `large_by_get`: a server of files has the large reply at /large."""
    rng = random.Random(3)
    small = json.dumps(model.request(rng, history=20, candidates=5)).encode()
    large = json.dumps({**model.request(rng, history=50, candidates=4000), "explain": True}).encode()
    padded = small + b" " * (300_000 - len(small))
    requests = {
        "steady": service.head(len(small)) + small,
        "live": service.head(None, method="GET", path="/health/live"),
        "nowhere": service.head(None, method="GET", path="/nowhere"),
        "upload": service.head(len(padded), f"X-Trace: {'x' * 14_000}") + padded,
        "large": service.head(None, method="GET", path="/large") if large_by_get else service.head(len(large)) + large,
        "half": b"POST /score HTTP/1.1\r\nHost: te",
        "half_body": service.head(4 << 20) + b" " * 3_900_000,
    }
    paths = {"-": "-"}
    for name, data in requests.items():
        paths[name] = directory / name
        paths[name].write_bytes(data)
    return paths


def begin(program, address, seconds, groups, files, nice=0, processors=None):
    """Starts attack.c. The groups name their requests; finish() has the result."""
    named = []
    for group in groups:
        kind, clients, request, *rest = group.split(":")
        named.append(":".join([kind, clients, str(files[request]), *rest]))

    def prepare():
        if processors:
            os.sched_setaffinity(0, processors)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except PermissionError:
            pass

    return subprocess.Popen([str(program), "%s:%d" % address, str(seconds), *named], stdout=subprocess.PIPE, preexec_fn=prepare)


def finish(process):
    """One dict for each group: what was delivered, and the latencies of those that measure."""
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)
