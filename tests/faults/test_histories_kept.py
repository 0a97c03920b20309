"""What was answered 200 is in the store after kill -9 of the server, once: LMDB with `commit`, and Redis with its
append-only file. The answer leaves after the change is on the disk.
"""

import http.client
import os
import re
import shutil
import subprocess
import threading
import time

import pytest

from support import histories, redis_server
from support.service import START_SECONDS, Service

# How the file is left does not depend on how the server was compiled.
pytestmark = pytest.mark.only_on("release")

WRITERS = 3
O_DSYNC = 0o10000


@pytest.fixture(scope="module")
def plain(build, demo):
    """A server that keeps nothing: its scores are the right ones."""
    with Service(build, demo.path, "--cache-bytes", "0") as running:
        yield running


class Writer:
    """Appends one event after another to a user of its own until the server is gone."""

    def __init__(self, user, history):
        self.user, self.history = user, history
        self.answered = []  # behaviours that were answered 200, by their places in `history`
        self.open = None  # the one without an answer
        self.faults = []

    def body(self, event):
        place = event % len(next(iter(self.history.values())))
        return {"history_append": histories.part(self.history, place, place + 1), "event_id": f"e{event}"}

    def run(self, server):
        event = 0
        try:
            with server.client() as client:
                while True:
                    self.open = event
                    reply = client.post(self.body(event), histories.path_of(self.user, "/history"))
                    if reply.status != 200 or reply.json()["history"]["count"] != event + 1:
                        self.faults.append(reply)
                    self.answered.append(event)
                    self.open = None
                    event += 1
        except (OSError, http.client.HTTPException):
            pass

    def whole(self, count):
        columns = {name: [] for name in self.history}
        for event in range(count):
            columns = histories.joined(columns, self.body(event)["history_append"])
        return columns if count else None

    def look(self, client, judge, counts):
        """The store has as many behaviours as one of `counts`, those of the first events, in order."""
        reply = client.post({**judge.request, "user_id": self.user})
        count = reply.json()["history"].get("count", 0)
        assert count in counts, (self.user, counts, reply)
        assert histories.bits(reply) == judge.bits(self.whole(count)), (self.user, count)

    def deliver_again(self, client):
        """A consumer of a stream delivers what it has no answer for, and may deliver older events as well."""
        for event in [*self.answered[-1:], *([self.open] if self.open is not None else [])]:
            reply = client.post(self.body(event), histories.path_of(self.user, "/history"))
            assert reply.status == 200 and reply.json()["history"]["count"] == event + 1, (self.user, event, reply)


def kill_many_times(build, demo, rng, plain, where, times):
    """Returns how many appends were answered in all, and how many kills fell between an append and its answer."""
    request, history = histories.split(demo, rng)
    judge = histories.Judge(plain, request)
    writers, last = [], []
    for number in range(times + 1):
        with Service(build, demo.path, "--histories", where, "--histories-timeout", "60") as server:
            with server.client() as client:
                for writer in last:
                    done = len(writer.answered)
                    writer.look(client, judge, (done, done + (writer.open is not None)))
                    writer.deliver_again(client)
                    writer.look(client, judge, (done + (writer.open is not None),))
                if number == times:
                    for writer in writers:
                        writer.look(client, judge, (len(writer.answered) + (writer.open is not None),))
                    break
            last = [Writer(f"{number}-{i}", history) for i in range(WRITERS)]
            writers += last
            threads = [threading.Thread(target=writer.run, args=(server,)) for writer in last]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.005, 0.1))
            server.kill()
            for thread in threads:
                thread.join()
            assert not any(writer.faults for writer in last), [writer.faults[:1] for writer in last]
    return sum(len(writer.answered) for writer in writers), sum(writer.open is not None for writer in writers)


TIMES = [4, pytest.param(100, marks=pytest.mark.check_only)]


@pytest.mark.parametrize("times", TIMES)
def test_lmdb_keeps_what_was_answered(build, demo, rng, plain, tmp_path, times):
    answered, cut = kill_many_times(build, demo, rng, plain, f"lmdb:{tmp_path}/histories", times)
    assert answered > times and cut > 0


@pytest.mark.parametrize("times", TIMES)
def test_redis_keeps_what_was_answered(build, demo, rng, plain, times):
    with redis_server.Redis(durable=True) as redis:
        answered, cut = kill_many_times(build, demo, rng, plain, redis.where, times)
        assert answered > times and cut > 0
        redis.kill()
        redis.start()
        assert redis.ask("DBSIZE") > 0


# ---- the order of sync and answer


def traced(process, file):
    """strace on a process, or None where it may not trace."""
    tracer = subprocess.Popen(["strace", "-f", "-s", "40", "-e", "trace=desc,network", "-o", str(file), "-p", str(process.pid)],
                              stderr=subprocess.PIPE, text=True)
    line = tracer.stderr.readline()
    if "attached" in line:
        return tracer
    tracer.kill()
    tracer.wait()
    tracer.stderr.close()
    return None


def events_of(lines, synced_descriptors):
    """The order of what matters: `sync` (returned 0), `commit` (a synced write returned), `answer` (begins to be sent)."""
    begun = {}
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.strip()
        resumed = re.match(r"<\.\.\. (\w+) resumed>", call)
        if not resumed and re.match(r"(sendto|sendmsg|write|writev)\(.*HTTP/1\.1 200", call):
            yield "answer"
        if call.endswith("<unfinished ...>"):
            begun[thread] = call
            continue
        whole = begun.pop(thread, "") if resumed else call
        name, _, words = whole.partition("(")
        returned = call.rpartition(" = ")[2]
        if name == "fdatasync" and returned == "0":
            yield "sync"
        if name == "pwrite64" and int(words.split(",")[0]) in synced_descriptors and not returned.startswith("-"):
            yield "commit"


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not there")
def test_the_answer_leaves_after_the_sync(build, demo, rng, tmp_path):
    """Between two answers the pages were synced, and after them the root was written to a descriptor with O_DSYNC."""
    _, history = histories.split(demo, rng)
    writer = Writer("u", history)
    appends = 20
    with Service(build, demo.path, "--histories", f"lmdb:{tmp_path}/histories", "--histories-timeout", "60") as server:
        pid = server.process.pid
        synced = set()
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with open(f"/proc/{pid}/fdinfo/{descriptor}") as file:
                flags = int(next(line for line in file if line.startswith("flags:")).split()[1], 8)
            if flags & O_DSYNC and os.readlink(f"/proc/{pid}/fd/{descriptor}").endswith("/histories"):
                synced.add(int(descriptor))
        assert synced, "no descriptor of the file has O_DSYNC"
        tracer = traced(server.process, tmp_path / "trace")
        if tracer is None:
            pytest.skip("strace may not trace here")
        try:
            with server.client() as client:
                for event in range(appends):
                    assert client.post(writer.body(event), histories.path_of("u", "/history")).status == 200
        finally:
            tracer.terminate()
            tracer.wait(START_SECONDS)
            tracer.stderr.close()
    order = list(events_of((tmp_path / "trace").read_text().splitlines(), synced))
    assert order.count("answer") == appends
    for _ in range(appends):
        end = order.index("answer")
        assert "sync" in order[:end] and "commit" in order[order.index("sync"):end], order[:end + 1]
        order = order[end + 1:]
