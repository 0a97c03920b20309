"""Requests as bytes, many connections at once: each byte of the replies is kept, and compared with the server's account.

tests/e2e and tests/faults use it where an ordinary client would hide the fault: a second head, half a reply, silence.
"""

import collections
import re
import selectors
import socket
import time
import uuid

from . import service

STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*\r\n")
SECONDS = 120  # ends what hangs


class Talk:
    """One connection: the pieces that are sent, with `pause` seconds between them, and all bytes that came back.

    The client closes its sending side once `replies` final replies are complete, and reads on until the server's end.
    """

    def __init__(self, *pieces, method="POST", replies=1, pause=0.02, note=None):
        self.pieces = [piece for piece in pieces if piece]
        self.method = method
        self.wanted = replies
        self.pause = pause
        self.note = note  # whatever the test wants to find again
        self.got = b""
        self.reset = False
        self.timed_out = False
        self.began = self.first_byte = self.ended = 0.0

    def replies(self):
        """(final replies, the bytes behind the last whole one)."""
        return parse(self.got, self.method)

    def one(self):
        """The only reply, complete and with nothing behind it; None where the connection ended without a byte."""
        assert not self.timed_out, f"{self}: neither an answer nor an end in {SECONDS} s"
        found, rest = self.replies()
        assert not rest, f"{self}: bytes that are no reply: {rest[:300]!r}"
        assert len(found) <= 1, f"{self}: {len(found)} replies to one request: {self.got[:600]!r}"
        return found[0] if found else None

    def __repr__(self):
        first = self.pieces[0][:60] if self.pieces else b""
        return f"Talk({self.note!r}, {first!r}, {sum(map(len, self.pieces))} bytes)"


def parse(data, method="POST"):
    """The final replies in `data` and the rest; interim ones (1xx) are left out. A reply that breaks a rule is rest."""
    found = []
    while data:
        head_bytes, blank, after = data.partition(b"\r\n\r\n")
        first = STATUS_LINE.match(head_bytes + b"\r\n")
        if not blank or not first:
            break
        status = int(first[1])
        lines = (head_bytes + b"\r\n")[first.end():].split(b"\r\n")[:-1]
        fields = [line.partition(b":") for line in lines]
        if any(not colon or not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) for name, colon, _ in fields):
            break
        headers = collections.defaultdict(list)
        for name, _, value in fields:
            headers[name.decode().title()].append(value.strip().decode("latin-1"))
        if status < 200:
            data = after
            continue
        if any(len(values) > 1 for values in headers.values()) or "Transfer-Encoding" in headers:
            break
        length = int(headers["Content-Length"][0]) if "Content-Length" in headers else 0
        length = 0 if status == 204 or method == "HEAD" else length
        if len(after) < length:
            break
        found.append(service.Reply(status, {name: values[0] for name, values in headers.items()}, after[:length]))
        data = after[length:]
    return found, data


class _Line:
    """A talk on its socket."""

    def __init__(self, talk, address, selector):
        self.talk = talk
        self.selector = selector
        self.socket = socket.create_connection(address, SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.left = b""
        self.piece = 0
        self.next_at = talk.began = time.monotonic()
        self.closed_side = False
        self.seen = 0
        selector.register(self.socket, selectors.EVENT_READ, self)

    def send(self, now):
        """As much as is due and the socket takes."""
        talk = self.talk
        if not self.left and self.piece < len(talk.pieces) and now >= self.next_at:
            self.left = memoryview(talk.pieces[self.piece])
            self.piece += 1
        if self.left:
            try:
                self.left = self.left[self.socket.send(self.left):]
            except BlockingIOError:
                pass
            except OSError:  # refused already: the reply may still be there to read
                self.left, self.piece = b"", len(talk.pieces)
            if not self.left:
                self.next_at = time.monotonic() + talk.pause
                self.finish()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.left else 0)
        self.selector.modify(self.socket, wanted, self)

    def receive(self):
        """False at the connection's end."""
        try:
            more = self.socket.recv(1 << 20)
        except BlockingIOError:
            return True
        except OSError:
            self.talk.reset, more = True, b""
        if not more:
            return False
        self.talk.first_byte = self.talk.first_byte or time.monotonic()
        self.talk.got += more
        self.finish()
        return True

    def finish(self):
        """Close the sending side when everything is sent and answered: a further reply would still be seen."""
        sent = not self.left and self.piece == len(self.talk.pieces)
        if self.talk.got and sent and not self.closed_side and len(self.talk.replies()[0]) >= self.talk.wanted:
            self.closed_side = True
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def end(self):
        self.talk.ended = time.monotonic()
        self.selector.unregister(self.socket)
        self.socket.close()

    @property
    def sending_later(self):
        return not self.left and self.piece < len(self.talk.pieces)


def talk_all(address, talks, together=64, seconds=SECONDS):
    """Holds all the talks, `together` at once; returns them as a list."""
    talks = list(talks)
    waiting = iter(talks)
    lines = set()
    with selectors.DefaultSelector() as selector:
        def begin():
            for talk in waiting:
                line = _Line(talk, address, selector)
                lines.add(line)
                line.send(time.monotonic())
                if len(lines) >= together:
                    return

        begin()
        while lines:
            now = time.monotonic()
            soon = min((line.next_at - now for line in lines if line.sending_later), default=1.0)
            for key, events in selector.select(max(0.0, min(soon, 1.0))):
                line = key.data
                if events & selectors.EVENT_READ and not line.receive():
                    line.end()
                    lines.discard(line)
                elif events & selectors.EVENT_WRITE:
                    line.send(time.monotonic())
            now = time.monotonic()
            for line in list(lines):
                if line.sending_later and now >= line.next_at:
                    line.send(now)
                if now - line.talk.began > seconds:
                    line.talk.timed_out = True
                    line.end()
                    lines.discard(line)
            if len(lines) < together:
                begin()
    return talks


def chunked(body, size, extension=b""):
    """The body in chunks of `size` bytes, and the last chunk."""
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"


# ---- The server's account of what it answered.

RESPONSES = re.compile(r'dien_http_responses_total\{route="([^"]*)",status="([^"]*)"\}')


def responses(metrics):
    """Counter {status: answers} of a metrics page, a status as the page names it."""
    count: collections.Counter = collections.Counter()
    for name, value in metrics.items():
        found = RESPONSES.match(name)
        if found and value:
            count[found[2]] += int(value)
    return count


def log_status(line):
    """The status in a line of the access log; None in other lines."""
    if line.get("event") != "request":
        return None
    return line.get("http.response.status_code", line.get("status"))


class Account:
    """Compares the answers that clients saw with the log and the metrics of a server that logs every request.

    It begins at its making. Nobody else may use the server until check().
    """

    def __init__(self, running):
        assert "debug" in running.arguments, "routes that do not score are logged at that level"
        self.running = running
        self.own = f"account-{uuid.uuid4()}-"  # request ids of our own looks at the metrics
        self.looks = 0
        self.before = self._counted()
        running.logged(f"{self.own}0")  # with it all earlier lines are in the file
        self.output_bytes = running.output_file.stat().st_size

    def _counted(self):
        """Answers by status, our earlier looks left out: a look is counted when it has ended."""
        with self.running.client() as client:
            reply = client.get("/metrics", **{"X-Request-Id": f"{self.own}{self.looks}"})
        count = responses(service.parse_metrics(reply.body.decode()))
        count["200"] -= self.looks
        self.looks += 1
        return count

    def _logged(self):
        """[(request id, status)] since the start; without a status where the request got no answer."""
        with open(self.running.output_file, "rb") as file:
            file.seek(self.output_bytes)
            lines = service.parse_log(file.read().decode(errors="replace"))
        return [(line.get("request_id"), log_status(line)) for line in lines
                if log_status(line) is not None and not line.get("request_id", "").startswith(self.own)]

    def check(self, talks, seconds=6):
        """Each answer has one line and one count, with its status, and nothing else has. Returns answers by status."""
        seen: collections.Counter = collections.Counter()
        by_id = {}
        for talk in talks:
            for reply in talk.replies()[0]:
                seen[reply.status] += 1
                by_id[reply.headers.get("X-Request-Id")] = reply.status
        limit = time.monotonic() + seconds * self.running.build.patience
        while True:
            counted = self._counted() - self.before
            logged = self._logged()
            in_log = collections.Counter(status for _, status in logged if status)
            if in_log == seen and +counted == collections.Counter({str(status): seen[status] for status in seen}):
                break
            assert time.monotonic() < limit, f"answers {dict(seen)}, log {dict(in_log)}, metrics {dict(+counted)}"
            time.sleep(0.05)
        for request_id, status in logged:
            assert by_id.get(request_id, status) == status, f"{request_id}: logged {status}, answered {by_id[request_id]}"
        return seen
