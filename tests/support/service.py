"""The server as a process, and clients of it: an ordinary one and a raw socket."""

import http.client
import json
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

from . import builds

START_SECONDS = 180  # these limits end what hangs; a busy machine, or a sanitizer's build, must not reach them
REPLY_SECONDS = 180


class Reply:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:600]!r}"

    def json(self):
        return json.loads(self.body)

    def scores(self):
        """Scores by the candidate's place in the request."""
        assert self.status == 200, self
        return {result["index"]: result["score"] for result in self.json()["results"]}

    @property
    def closes(self):
        return self.headers.get("Connection", "").lower() == "close"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """One keep-alive connection."""

    def __init__(self, address, timeout=REPLY_SECONDS):
        if isinstance(address, str):
            self.connection = UnixConnection(address, timeout)
        else:
            self.connection = http.client.HTTPConnection(*address, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.connection.close()

    def ask(self, method, path, body=None, headers=()):
        self.connection.request(method, path, body=body, headers=dict(headers))
        got = self.connection.getresponse()
        return Reply(got.status, got.headers, got.read())

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, body, path="/score", **headers):
        """Post bytes, text, or anything that becomes JSON."""
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        return self.ask("POST", path, body, {"Content-Type": "application/json", **headers})


class Raw:
    """A socket that says exactly what the test wants."""

    def __init__(self, address, timeout=REPLY_SECONDS, receive_buffer=None):
        unix = isinstance(address, str)
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket.settimeout(timeout)
        if receive_buffer:  # before the connection: the window that is offered follows it
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        if not unix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def reply(self, method="POST"):
        """The next reply, or None when the server closed the connection before one."""
        while b"\r\n\r\n" not in self.pending:
            more = self._receive()
            if not more:
                assert not self.pending, f"half a reply: {self.pending!r}"
                return None
            self.pending += more
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = http.client.HTTPMessage()
        for line in lines:
            name, value = line.split(":", 1)
            headers[name] = value.strip()
        status = int(first.split()[1])
        length = 0 if status < 200 or status == 204 or method == "HEAD" else int(headers["Content-Length"])
        while len(self.pending) < length:
            more = self._receive()
            assert more, f"half a body: {self.pending!r}"
            self.pending += more
        body, self.pending = self.pending[:length], self.pending[length:]
        return Reply(status, headers, body)

    def closed(self):
        """True when the server closes the connection without another byte."""
        return not self.pending and self._receive() == b""

    def _receive(self):
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""


def head(length, *lines, method="POST", path="/score", version="1.1"):
    """A request's head in bytes."""
    text = [f"{method} {path} HTTP/{version}", "Host: test", "Content-Type: application/json"]
    if length is not None:
        text.append(f"Content-Length: {length}")
    return ("\r\n".join([*text, *lines]) + "\r\n\r\n").encode("latin-1")


def parse_log(text):
    """The JSON lines that are whole in a server's output."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]


def parse_metrics(page):
    """A page of metrics as {'name{labels}': value}."""
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


class Service:
    """dien-server on a port of its own choice. As a context it stops in order: SIGTERM, exit status 0, no report.

    `log` is a file or a descriptor for its log in place of the output file; CLOSED: it has no standard error.
    `descriptors`: the number that it may open."""

    CLOSED = "closed"

    def __init__(self, build, model, *options, wait_ready=True, log=subprocess.STDOUT, descriptors=None, **variables):
        self.build = build
        self.temporary = tempfile.TemporaryDirectory(prefix="dien-e2e-")
        self.directory = pathlib.Path(self.temporary.name)
        address_file = self.directory / "address"
        arguments = [build.server, "--model", model, "--address-file", address_file]
        if "--listen" not in options:
            arguments += ["--listen", "127.0.0.1:0"]
        if "--drain-delay" not in options:
            arguments += ["--drain-delay", "0"]
        if "--deadline" not in options:  # a second, by default: a busy machine's answers are late
            arguments += ["--deadline", "3600"]
        if log == self.CLOSED:
            arguments = ["sh", "-c", 'exec "$@" 2>&-', "sh", *arguments]
            log = subprocess.STDOUT
        if descriptors is not None:
            arguments = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *arguments]
        self.arguments = [str(argument) for argument in (*arguments, *options)]
        self.output_file = self.directory / "output"
        self.terminated = False  # told to stop
        self.killed = False
        with open(self.output_file, "wb") as output:
            self.process = subprocess.Popen(self.arguments, cwd=builds.TOP, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=log, env=builds.environment(**variables))
        self.address = self._wait_for(address_file)
        if wait_ready:
            self.wait_ready()

    def _wait_for(self, address_file):
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            # Without its line end it is not written to the end yet.
            text = address_file.read_text() if address_file.exists() else ""
            if text.startswith("unix:") and text.endswith("\n"):
                return text.strip().removeprefix("unix:")
            if text.endswith("\n"):
                host, port = text.strip().rsplit(":", 1)
                return host.strip("[]"), int(port)
            assert self.process.poll() is None, f"exit status {self.process.returncode}:\n{self.output}"
            time.sleep(0.01)
        self.process.kill()
        raise AssertionError(f"no address after {START_SECONDS} s:\n{self.output}")

    def wait_ready(self):
        limit = time.monotonic() + START_SECONDS
        with self.client() as client:
            while client.get("/health/ready").status != 200:
                assert time.monotonic() < limit, f"not ready after {START_SECONDS} s:\n{self.output}"
                time.sleep(0.02)

    @property
    def output(self):
        return self.output_file.read_text(errors="replace")

    def log(self):
        """The log's JSON lines that are whole by now: the server's log thread writes some milliseconds later."""
        return parse_log(self.output)

    def client(self, timeout=REPLY_SECONDS):
        return Client(self.address, timeout)

    def raw(self, timeout=REPLY_SECONDS):
        return Raw(self.address, timeout)

    def score(self, body, **headers):
        """Post on a connection of its own."""
        with self.client() as client:
            return client.post(body, **headers)

    def metrics(self):
        """GET /metrics as {'name{labels}': value}."""
        with self.client() as client:
            reply = client.get("/metrics")
        assert reply.status == 200, reply
        return parse_metrics(reply.body.decode())

    def logged(self, request_id, seconds=60):
        """The log's line of a request. It is written when the request has ended, which may be after its answer."""
        return self.logged_line(seconds, request_id=request_id)

    def logged_line(self, seconds=REPLY_SECONDS, **members):
        """The log's last line with these members, waited for."""
        limit = time.monotonic() + seconds
        while True:
            lines = [line for line in self.log() if members.items() <= line.items()]
            if lines:
                return lines[-1]
            assert time.monotonic() < limit, f"no line with {members}:\n{self.output[-4000:]}"
            time.sleep(0.02)

    def resident_bytes(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * 4096

    def terminate(self, number=signal.SIGTERM):
        self.terminated = self.terminated or number in (signal.SIGTERM, signal.SIGINT)
        self.process.send_signal(number)

    def kill(self):
        """kill -9: nothing is asked of its end."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def wait(self, seconds=180):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.output[-4000:]}") from None

    def clean(self):
        report = builds.sanitizer_report(self.output)
        assert report is None, report

    def stop(self):
        """Stop in order; everything that the server must hold to at its end is checked here."""
        if self.killed:
            self.clean()
            return
        expected = self.terminated or self.process.poll() is None
        if not self.terminated:
            self.terminate()
        status = self.wait()
        self.clean()
        assert expected, f"the server ended by itself with {status}:\n{self.output[-4000:]}"
        assert status == 0, f"exit status {status}:\n{self.output[-4000:]}"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()


def check(build, model, *options, seconds=300, **variables):
    """dien-server --check: (exit status, output)."""
    ran = subprocess.run([str(build.server), "--model", str(model), "--check", *options], cwd=builds.TOP,
                         env=builds.environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         timeout=seconds, check=False)
    return ran.returncode, ran.stdout.decode(errors="replace")
