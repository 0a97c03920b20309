"""A body's cost does not depend on the head before it: libmicrohttpd would receive it into the rest of the head's buffer,
in the worst case one byte at a time."""

import json
import random
import re
import signal
import subprocess
import time

import pytest

from support.service import head
from test_chunked import CHUNKED, chunks

pytestmark = pytest.mark.only_on("release", "asan")  # all of it is the loop's thread's work

BODY = 300_000
PIECE = 4096  # BODY_BUFFER of http.c


@pytest.fixture(scope="module")
def good(demo):
    body = json.dumps(demo.request(random.Random(4), history=4, candidates=3)).encode()
    return body + b" " * (BODY - len(body))


def receipts(server, action):
    """The calls of recv() while `action` runs."""
    output = server.directory / "strace"
    strace = subprocess.Popen(["strace", "-f", "-c", "-e", "trace=recvfrom", "-o", output, "-p", str(server.process.pid)],
                              stderr=subprocess.PIPE)
    assert b"attached" in strace.stderr.readline()
    action()
    strace.send_signal(signal.SIGINT)
    strace.communicate()
    return int(re.search(r"(\d+)\s+(?:\d+\s+)?recvfrom", output.read_text())[1])


@pytest.mark.check_only
@pytest.mark.only_on("release")
def test_receipts_of_a_body(start, good):
    """In the head's place each size that could leave a small rest of the buffer: its half, and the whole."""
    server = start("--connection-memory", "24K")
    for size in (*range(11_900, 12_300, 7), *range(8000, 19_000, 250)):
        for framing, body in ((len(good), good), (None, chunks(good, 10**6))):
            def post():
                with server.raw() as raw:
                    raw.send(head(framing, *([] if framing else [CHUNKED]), "X-Large: " + "x" * size))
                    time.sleep(0.002)
                    raw.send(body)
                    assert raw.reply().status == 200
            calls = receipts(server, post)
            assert calls < 2 * BODY / PIECE + 64, size


def test_bodies_after_heads_of_each_size(start, good):
    """The buffer grows at the right moments: nothing waits for bytes that do not come, whatever the split."""
    server = start("--connection-memory", "24K")
    expected = server.score(good[:6000]).scores()
    with server.raw() as raw:
        for size in (*range(11_500, 12_300, 37), 15_000, 17_000):
            for framing, body in ((6000, good[:6000]), (None, chunks(good[:6000], 500)), (None, chunks(good[:6000], 10**6))):
                for cut in (0, 1, 100, 5000):
                    raw.send(head(framing, *([] if framing else [CHUNKED]), "X-Large: " + "x" * size))
                    raw.send(body[:cut])
                    time.sleep(0.001)
                    raw.send(body[cut:])
                    assert raw.reply().scores() == expected, (size, cut)
