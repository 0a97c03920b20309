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

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path, limit=HEAD_MOST)
        return await asyncio.open_connection(self.host, self.port, limit=HEAD_MOST)

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


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """One reply: status, body, and whether the connection stays."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    status = int(head[0].split()[1])
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        size = int(headers.get("content-length", 0))
        if size > REPLY_MOST:
            raise ValueError(f"a reply of {size} bytes")
        body = await reader.readexactly(size)
    return status, body, headers.get("connection", "").lower() != "close"


class _Load:
    """One run: a queue of what is due, and a task for each connection."""

    def __init__(self, target: Target, replied: Optional[Replied], timeout: float):
        self.target, self.replied, self.timeout = target, replied, timeout
        self.measured = Measured()
        self.began = 0.0

    async def _serve(self, queue: asyncio.Queue[Optional[Shot]], is_open: bool) -> None:
        connection: Optional[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = None
        while (shot := await queue.get()) is not None:
            sent = time.perf_counter()
            due = self.began + shot.due if is_open else sent
            try:
                if connection is None:
                    connection = await asyncio.wait_for(self.target.open(), self.timeout)
                reader, writer = connection
                writer.write(shot.data)
                status, body, stays = await asyncio.wait_for(_read(reader), self.timeout)
            except (OSError, EOFError, ValueError, IndexError, asyncio.TimeoutError, asyncio.LimitOverrunError) as error:
                self.measured.statuses[type(error).__name__] += 1
                stays, status, body = False, 0, b""
            else:
                self.measured.statuses[str(status)] += 1
            self.measured.latencies.append(time.perf_counter() - due)
            self.measured.late.append(max(0.0, sent - due))
            if not stays and connection is not None:
                connection[1].close()
                connection = None
            if self.replied is not None:
                self.replied(shot.key, status, body)
        if connection is not None:
            connection[1].close()

    async def run(self, shots: Iterable[Shot], connections: int, is_open: bool) -> Measured:
        """Send them all, and wait for the last reply."""
        queue: asyncio.Queue[Optional[Shot]] = asyncio.Queue(WAITING * connections)
        self.began = time.perf_counter()
        tasks = [asyncio.ensure_future(self._serve(queue, is_open)) for _ in range(connections)]
        try:
            for shot in shots:
                ahead = self.began + shot.due - time.perf_counter() if is_open else 0
                if ahead > 0:
                    await asyncio.sleep(ahead)
                await queue.put(shot)
            for _ in tasks:
                await queue.put(None)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        self.measured.seconds = time.perf_counter() - self.began
        return self.measured


def open_loop(target: Target, shots: Iterable[Shot], connections: int, replied: Optional[Replied] = None,
              timeout: float = 60.0) -> Measured:
    """Each at its time, in ascending order. A request that is due while all connections are busy waits, and it counts."""
    return asyncio.run(_Load(target, replied, timeout).run(shots, connections, True))


def closed_loop(target: Target, shots: Iterable[Shot], connections: int, replied: Optional[Replied] = None,
                timeout: float = 60.0) -> Measured:
    """As fast as it goes: each connection sends its next request when it has its reply."""
    return asyncio.run(_Load(target, replied, timeout).run(shots, connections, False))
