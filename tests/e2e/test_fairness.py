"""One client that sends without end: its neighbours are answered, ticks and signals come."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import threading
import time

import pytest

from support import service
from support.service import head

# Each request that the event loop answers by itself, and one that a scoring thread refuses.
FLOODS = {
    "live": head(None, method="GET", path="/health/live"),
    "ready": head(None, method="GET", path="/health/ready"),
    "headed": head(None, method="HEAD", path="/health"),
    "model": head(None, method="GET", path="/model"),
    "metrics": head(None, method="GET", path="/metrics"),
    "user": head(None, method="GET", path="/users/u"),
    "forgotten user": head(None, method="DELETE", path="/users/u"),
    "no such path": head(None, method="GET", path="/nowhere"),
    "no such method": head(0, method="PUT", path="/score"),
    "media type": head(2, "Content-Type: text/plain").replace(b"Content-Type: application/json\r\n", b"") + b"{}",
    "no JSON": head(2) + b"{!",
}
ANSWER_SECONDS = 5  # many times the slowest build's time; a starved loop answers never


class Flood:
    """Sends one request over and over without waiting, and reads the replies without looking at them."""

    def __init__(self, address, request):
        self.socket = socket.create_connection(address, 60)
        self.chunk = request * (65536 // len(request) + 1)
        self.received = 0
        self.ending = False
        self.threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    def _send(self):
        try:
            while not self.ending:
                self.socket.sendall(self.chunk)
        except OSError:
            pass

    def _receive(self):
        try:
            while more := self.socket.recv(1 << 20):
                self.received += len(more)
        except OSError:
            pass

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        limit = time.monotonic() + 30
        while self.received == 0 and time.monotonic() < limit:
            time.sleep(0.001)
        return self

    def __exit__(self, *exception):
        self.ending = True
        with contextlib.suppress(OSError):  # the server may have closed first
            self.socket.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.socket.close()


@pytest.fixture(scope="module")
def small(demo, build):
    return demo.request(random.Random(build.name), history=3, candidates=2)


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_keeps_nobody_waiting(server, small, kind):
    expected = server.score(small).scores()
    with Flood(server.address, FLOODS[kind]) as flood:
        for _ in range(10):
            with server.client(timeout=ANSWER_SECONDS) as client:
                assert client.post(small).scores() == expected
                assert client.get("/health/live").status == 200
        assert flood.received > 0
        before = flood.received
        time.sleep(0.1)
        assert flood.received > before, "the flood was over before its neighbours were answered"


@pytest.mark.parametrize("clients", [1, 8])
def test_a_flood_does_not_outlast_sigterm(start, clients):
    """Signals and deadlines come on time: the drain ends while the flood goes on."""
    running = start("--drain-timeout", "5")
    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(Flood(running.address, FLOODS["live"]))
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < 15


def test_deadlines_come_during_a_flood(start):
    """A half-sent head is answered with 408 by a tick, though the loop never rests."""
    running = start("--header-timeout", "1")
    with Flood(running.address, FLOODS["live"]), running.raw(timeout=15) as slow:
        slow.send(b"POST /score HTTP/1.1\r\nHost: te")
        assert slow.reply().status == 408


# The watchdog. ptrace holds one thread still: the loop's, while the others go on.

PTRACE_CONT, PTRACE_ATTACH, PTRACE_DETACH = 7, 16, 17


class HeldThread:
    """The loop's thread of a server, which stands still from hold() to let_go()."""

    def __init__(self, pid):
        self.pid = pid
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]

    def _ptrace(self, request):
        if self.libc.ptrace(request, self.pid, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def hold(self):
        try:
            self._ptrace(PTRACE_ATTACH)
        except PermissionError:
            pytest.skip("this machine allows no ptrace")
        os.waitpid(self.pid, 0x40000000)  # __WALL

    def let_go(self):
        self._ptrace(PTRACE_DETACH)


def test_a_stalled_loop_is_logged_and_counted(start, small):
    running = start()
    held = HeldThread(running.process.pid)
    held.hold()
    time.sleep(2)
    held.let_go()
    assert running.score(small).status == 200
    assert running.metrics()["dien_loop_stalls_total"] == 1
    running.logged_line(event="loop-stalled")
    running.logged_line(event="loop-resumed")


@pytest.mark.only_on("release")  # a sanitizer reports the abort as its own
def test_a_loop_that_stands_still_ends_the_process(build, demo):
    running = service.Service(build, demo.path, "--watchdog", "1")
    held = HeldThread(running.process.pid)
    held.hold()
    limit = time.monotonic() + 30
    status = None
    while status is None and time.monotonic() < limit:
        pid, got = os.waitpid(running.process.pid, os.WNOHANG | 0x40000000)
        if pid and os.WIFSTOPPED(got):  # the tracer is asked about each signal
            held.libc.ptrace(PTRACE_CONT, running.process.pid, None, os.WSTOPSIG(got))
        elif pid:
            status = got
        time.sleep(0.02)
    assert status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT
    assert any(line["event"] == "watchdog" for line in running.log())
