"""Load on a server: requests at given times (open loop), or one after another on each connection (closed loop).

In an open loop a request's latency counts from the time when it was due. If the server, or this program, is behind, later
requests wait, and that wait is theirs, as it is for users who do not wait for each other.
"""
from __future__ import annotations

import array
import asyncio
import collections
import dataclasses
import time
import urllib.parse
from typing import Callable, Iterable, Optional

QUANTILES = (0.5, 0.9, 0.99, 0.999)
UNIX = "unix:"
REPLY_MOST = 1 << 30  # bytes of a body
HEAD_MOST = 1 << 20
BURST = 16
WAITING = 64  # requests that are due, for each connection, beyond which the schedule itself waits


@dataclasses.dataclass(frozen=True)
class Shot:
    """One request: `due` seconds after the beginning, and its bytes. `key` is the caller's, for the reply."""
    due: float
    data: bytes
    key: int


@dataclasses.dataclass(frozen=True)
class Target:
    """Where to send: a TCP address, or the path of a Unix socket; the value of Host, and what stands before paths."""
    host: str
    port: int
    path: Optional[str]
    name: str
    prefix: str = ""

    @staticmethod
    def of(url: str) -> Target:
        """http://HOST:PORT or unix:PATH."""
        if url.startswith(UNIX):
            return Target("", 0, url[len(UNIX):], "localhost")
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url}: neither http://HOST:PORT nor unix:PATH")
        return Target(parts.hostname, parts.port or 80, None, parts.netloc, parts.path.rstrip("/"))

    async def open(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """A connection."""
        loop = asyncio.get_running_loop()
        if self.path is not None:
            await loop.create_unix_connection(protocol, self.path)
        else:
            await loop.create_connection(protocol, self.host, self.port)

    def request(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """A POST in bytes."""
        lines = [f"POST {self.prefix}{path} HTTP/1.1", f"Host: {self.name}", f"Content-Length: {len(body)}",
                 *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclasses.dataclass
class Measured:
    """What a load has seen. Times in seconds; `latencies` from due to the end of the reply, `late` from due to sent."""
    latencies: array.array[float] = dataclasses.field(default_factory=lambda: array.array("d"))
    late: array.array[float] = dataclasses.field(default_factory=lambda: array.array("d"))
    statuses: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # or the error's name
    seconds: float = 0.0

    def quantile(self, share: float) -> float:
        """Of the latencies: the least one that `share` of them do not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def report(self) -> dict[str, object]:
        """The numbers for people and programs: milliseconds, requests a second."""
        ordered, late = sorted(self.latencies), sorted(self.late)

        def at(values: list[float], share: float) -> float:
            return round(1000 * values[min(len(values) - 1, int(share * len(values)))], 3) if values else 0.0
        return {"requests": sum(self.statuses.values()), "seconds": round(self.seconds, 3),
                "requests_per_second": round(sum(self.statuses.values()) / max(self.seconds, 1e-9), 1),
                "statuses": dict(self.statuses),
                "latency_ms": {**{f"p{share * 100:g}": at(ordered, share) for share in QUANTILES}, "max": at(ordered, 1)},
                "sent_late_ms": {"p50": at(late, 0.5), "p99": at(late, 0.99), "max": at(late, 1)}}


Replied = Callable[[int, int, bytes], None]  # key, status, body


class _Half(Exception):
    """More of the reply is to come."""


def _line_end(data: bytes, at: int) -> int:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _Half
    return end


def _chunks(data: bytes, at: int) -> tuple[bytes, int]:
    """A chunked body without trailers, and the place behind it."""
    parts: list[bytes] = []
    while True:
        end = _line_end(data, at)
        size = int(data[at:end].split(b";")[0], 16)
        at = end + 2 + size + 2
        if len(data) < at:
            raise _Half
        if size == 0:
            return b"".join(parts), at
        parts.append(data[end + 2:end + 2 + size])


def parse(data: bytes) -> tuple[int, bytes, bool]:
    """A whole reply: status, body, and whether the connection stays. _Half if more is to come, ValueError if it is none."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > HEAD_MOST:
            raise ValueError("a reply without an end of its head")
        raise _Half
    head = data[:end].lower()
    status = int(head[9:12])
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        size = int(head[at + 17:].split(b"\r\n", 1)[0])
        if size > REPLY_MOST:
            raise ValueError(f"a reply of {size} bytes")
        if len(data) < end + 4 + size:
            raise _Half
        body = data[end + 4:end + 4 + size]
    elif b"\r\ntransfer-encoding: chunked" in head:
        body = _chunks(data, end + 4)[0]
    else:
        body = b""
    return status, body, b"\r\nconnection: close" not in head


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time. Opened at its first request, and again after it was closed."""

    def __init__(self, load: _Load):
        self.load = load
        self.transport: Optional[asyncio.Transport] = None
        self.shot: Optional[Shot] = None
        self.sent = 0.0
        self.received = bytearray()

    def start(self, shot: Shot) -> None:
        """Send a request, or open a connection for it first."""
        self.shot, self.sent = shot, time.perf_counter()
        self.received.clear()
        if self.transport is None:
            self.load.opening.add(task := asyncio.ensure_future(self._open()))
            task.add_done_callback(self.load.opening.discard)
        else:
            self.transport.write(shot.data)

    async def _open(self) -> None:
        try:
            await asyncio.wait_for(self.load.target.open(lambda: self), self.load.timeout)
        except (OSError, asyncio.TimeoutError) as error:
            self.fail(error)
        else:
            if self.shot is not None and self.transport is not None:
                self.transport.write(self.shot.data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Some bytes of a reply."""
        if self.shot is None:
            return
        self.received += data
        try:
            status, body, stays = parse(bytes(self.received))
        except _Half:
            return
        except ValueError as error:
            self.fail(error)
            return
        if not stays:
            self.close()
        self.load.done(self, status, str(status), body)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """The server has closed it, unless close() has: that comes here before a new transport does."""
        if self.transport is None:
            return
        self.transport = None
        if self.shot is not None:
            self.fail(exc or EOFError())

    def fail(self, error: BaseException) -> None:
        """The request has no reply."""
        self.close()
        if self.shot is not None:
            self.load.done(self, 0, type(error).__name__, b"")

    def close(self) -> None:
        """A later request opens it again."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()


class _Load:
    """One run: connections that are free, and requests that are due and wait for one."""

    def __init__(self, target: Target, replied: Optional[Replied], timeout: float, is_open: bool):
        self.target, self.replied, self.timeout, self.is_open = target, replied, timeout, is_open
        self.measured = Measured()
        self.began = 0.0
        self.busy = 0
        self.free: list[_Connection] = []
        self.waiting: collections.deque[Shot] = collections.deque()
        self.opening: set[asyncio.Future[None]] = set()
        self.moved = asyncio.Event()

    def done(self, connection: _Connection, status: int, outcome: str, body: bytes) -> None:
        """A request has ended; its connection takes the next one."""
        shot, now = connection.shot, time.perf_counter()
        assert shot is not None
        due = self.began + shot.due if self.is_open else connection.sent
        self.measured.latencies.append(now - due)
        self.measured.late.append(max(0.0, connection.sent - due))
        self.measured.statuses[outcome] += 1
        connection.shot = None
        if self.waiting:
            connection.start(self.waiting.popleft())
        else:
            self.busy -= 1
            self.free.append(connection)
        self.moved.set()
        if self.replied is not None:
            self.replied(shot.key, status, body)

    def give(self, shot: Shot) -> None:
        """A request is due."""
        if self.free:
            self.busy += 1
            self.free.pop().start(shot)
        else:
            self.waiting.append(shot)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.moved.clear()
            await self.moved.wait()

    async def _end_late_ones(self, connections: list[_Connection]) -> None:
        while True:
            await asyncio.sleep(min(1.0, self.timeout))
            limit = time.perf_counter() - self.timeout
            for each in connections:
                if each.shot is not None and each.sent < limit and each.transport is not None:
                    each.fail(asyncio.TimeoutError())

    async def run(self, shots: Iterable[Shot], count: int) -> Measured:
        """Send them all, and wait for the last reply."""
        connections = [_Connection(self) for _ in range(count)]
        self.free = connections[::-1]
        sweeper = asyncio.ensure_future(self._end_late_ones(connections))
        most = WAITING * count if self.is_open else 1
        self.began = time.perf_counter()
        try:
            for number, shot in enumerate(shots):
                ahead = self.began + shot.due - time.perf_counter() if self.is_open else 0.0
                if ahead > 0 or number % BURST == 0:  # replies are read in between, though the schedule is behind
                    await asyncio.sleep(max(0.0, ahead))
                await self._until(lambda: len(self.waiting) < most)
                self.give(shot)
            await self._until(lambda: self.busy == 0)
        finally:
            sweeper.cancel()
            for each in connections:
                each.close()
        self.measured.seconds = time.perf_counter() - self.began
        return self.measured


async def _run(target: Target, shots: Iterable[Shot], connections: int, replied: Optional[Replied], timeout: float,
               is_open: bool) -> Measured:
    return await _Load(target, replied, timeout, is_open).run(shots, connections)


def open_loop(target: Target, shots: Iterable[Shot], connections: int, replied: Optional[Replied] = None,
              timeout: float = 60.0) -> Measured:
    """Each at its time, in ascending order. A request that is due while all connections are busy waits, and it counts."""
    return asyncio.run(_run(target, shots, connections, replied, timeout, True))


def closed_loop(target: Target, shots: Iterable[Shot], connections: int, replied: Optional[Replied] = None,
                timeout: float = 60.0) -> Measured:
    """As fast as it goes: each connection sends its next request when it has its reply."""
    return asyncio.run(_run(target, shots, connections, replied, timeout, False))
