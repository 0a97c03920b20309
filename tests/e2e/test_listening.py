"""Where and when the server listens: a socket's file in place of a port, and no connection before the model is proved."""

import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from support import builds
from support.service import Service, head

pytestmark = pytest.mark.only_on("release", "asan")  # all of it is the loop's thread's work


@pytest.fixture(scope="module")
def small(demo):
    return json.dumps(demo.request(random.Random(18), history=4, candidates=3)).encode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dien.sock"


def probe(build, address):
    ran = subprocess.run([str(build.server), "--probe", str(address)], capture_output=True, timeout=60, check=False,
                         env=builds.environment())
    return ran.returncode, ran.stderr.decode()


def ends_with(build, demo, *options):
    """The message with which a server cannot start."""
    ran = subprocess.run([str(build.server), "--model", str(demo.path), *map(str, options)], cwd=builds.TOP, check=False,
                         capture_output=True, timeout=60, env=builds.environment())
    assert ran.returncode == 1, ran
    lines = [json.loads(line) for line in ran.stderr.decode().splitlines() if line.startswith("{")]
    return next(line["message"] for line in lines if line["event"] == "start-failed")


# ---- unix:PATH

def test_a_socket_s_file_serves_as_a_port_does(build, demo, server, small, path):
    with Service(build, demo.path, "--listen", f"unix:{path}") as running:
        assert path.is_socket() and path.stat().st_mode & 0o777 == 0o660
        assert running.score(small).scores() == server.score(small).scores()
        for route in ("/health", "/health/live", "/health/ready", "/model"):
            with running.client() as client:
                assert client.get(route).status == 200
        assert running.metrics()["dien_connections"] == 1
        assert running.logged_line(event="listening")["address"] == f"unix:{path}"
        assert probe(build, f"unix:{path}") == (0, "")
        with running.raw() as raw:  # pipelined, and half-closed behind the last
            raw.send(3 * (head(len(small)) + small))
            raw.socket.shutdown(socket.SHUT_WR)
            assert [raw.reply().status for _ in range(3)] == [200] * 3
            assert raw.closed()
    assert not path.exists(), "the file outlives the server"
    status, message = probe(build, f"unix:{path}")
    assert status == 1 and "No such file" in message


def test_deadlines_hold_on_a_socket_s_file(build, demo, path):
    """The kernel counts no bytes of such a connection, and still a head that stops gets its 408."""
    with Service(build, demo.path, "--listen", f"unix:{path}", "--header-timeout", "0.3", "--body-timeout", "0.3") as running:
        for sent in (b"GET /hea", b"GET /health HTTP/1.1\r\nHost", head(20) + b"{"):
            with running.raw(timeout=20) as raw:
                raw.send(sent)
                assert raw.reply().status == 408, sent
        for _ in range(20):
            with running.raw() as raw:
                raw.send(b"GET /hea")
        limit = time.monotonic() + 20
        while running.metrics()["dien_connections"] > 1:
            assert time.monotonic() < limit
            time.sleep(0.05)


def test_permissions_are_those_of_the_option(build, demo, path):
    with Service(build, demo.path, "--listen", f"unix:{path}", "--listen-mode", "602"):
        assert path.stat().st_mode & 0o777 == 0o602


def test_a_socket_that_was_left_behind_is_replaced(build, demo, path):
    killed = Service(build, demo.path, "--listen", f"unix:{path}")
    killed.terminate(signal.SIGKILL)
    killed.wait()
    assert path.is_socket()
    with Service(build, demo.path, "--listen", f"unix:{path}") as running:
        with running.client() as client:
            assert client.get("/health").status == 200


def test_what_is_in_use_stays(build, demo, small, path):
    """Another server's socket, and a file that is none."""
    with Service(build, demo.path, "--listen", f"unix:{path}") as running:
        assert "another process listens there" in ends_with(build, demo, "--listen", f"unix:{path}")
        assert running.score(small).status == 200
    path.write_text("precious")
    assert "no socket" in ends_with(build, demo, "--listen", f"unix:{path}")
    assert path.read_text() == "precious"


def test_a_successor_s_socket_is_not_removed(build, demo, path):
    with Service(build, demo.path, "--listen", f"unix:{path}"):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.is_socket()


@pytest.mark.parametrize("options, reason", [
    (("--listen", "unix:"), "1 to 107 bytes"),
    (("--listen", "unix:" + "x" * 108), "1 to 107 bytes"),
    (("--listen", "unix:/no/such/directory/x"), "No such file"),
    (("--listen", "unix:x", "--reuse-port", "on"), "--reuse-port"),
])
def test_other_paths_are_refused(build, demo, options, reason):
    assert reason in ends_with(build, demo, *options)


# ---- --listen-when-ready

@pytest.mark.parametrize("option", ["--listen-when-ready", "--reuse-port"])
def test_the_first_connection_finds_the_model(build, demo, small, tmp_path, option):
    """Nobody is told 503: a client that comes early is refused by the kernel, and the address file comes with the listener."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        address = chosen.getsockname()
    seen, done = [], threading.Event()

    def knock():
        while not done.is_set():
            connection = http.client.HTTPConnection(*address, timeout=20)
            try:
                connection.request("POST", "/score", small, {"Content-Type": "application/json"})
                seen.append(connection.getresponse().status)
            except ConnectionRefusedError:
                seen.append(None)
            finally:
                connection.close()
            time.sleep(0.0005)
    knocking = threading.Thread(target=knock)
    knocking.start()
    try:
        with Service(build, demo.path, "--listen", f"127.0.0.1:{address[1]}", option, "on", wait_ready=False) as running:
            assert running.score(small).status == 200, "it listens before it is ready"
            done.set()
            knocking.join()
    finally:
        done.set()
    assert set(seen) <= {None, 200} and None in seen, set(seen)


def test_a_second_server_takes_over_without_a_refusal(build, demo, small):
    """The row of the operator's table: with --reuse-port a second server beside the first once answered 503."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Service(build, demo.path, "--reuse-port", "on"))
        statuses, done = [], threading.Event()

        def score():
            while not done.is_set():
                statuses.append(first.score(small).status)
        threads = [threading.Thread(target=score) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            stack.enter_context(Service(build, demo.path, "--listen", f"127.0.0.1:{first.address[1]}", "--reuse-port", "on"))
            time.sleep(0.1)
        done.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200} and len(statuses) > 20


def test_a_refused_model_is_never_listened_for(build, demo, tmp_path):
    address_file = tmp_path / "address"
    ran = subprocess.run([str(build.server), "--model", str(tmp_path), "--listen", "127.0.0.1:0", "--listen-when-ready", "on",
                          "--address-file", str(address_file)], capture_output=True, timeout=60, check=False,
                         cwd=builds.TOP, env=builds.environment())
    assert ran.returncode == 1 and b"model-refused" in ran.stderr and b'"listening"' not in ran.stderr
    assert not address_file.exists()


def test_an_address_in_use_is_told_at_once(build, demo):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        message = ends_with(build, demo, "--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--listen-when-ready", "on")
    assert "in use" in message
