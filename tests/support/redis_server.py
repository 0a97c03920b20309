"""Debian's redis-server as a process of a test's own: alone, as a cluster, or behind a proxy that delays its answers."""

import asyncio
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time

from . import proxies
from .service import START_SECONDS

SLOTS = 16384


class Refused(Exception):
    """Redis answered with an error."""


class Connection:
    """As much of Redis's protocol as the tests say: one command at a time."""

    def __init__(self, address, timeout=START_SECONDS):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stream.close()
        self.socket.close()

    def ask(self, *words):
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        return self._reply()

    def _reply(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(rest.decode())
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b"$":
            return self.stream.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        return int(rest) if kind == b":" else rest


class Redis:
    """On a port of 127.0.0.1, or on a unix socket. With `durable` each write is in its append-only file."""

    def __init__(self, *options, port=None, durable=False):
        self.temporary = tempfile.TemporaryDirectory(prefix="dien-redis-")
        self.directory = pathlib.Path(self.temporary.name)
        self.options = list(options)
        self.port = port
        if port:
            self.address = ("127.0.0.1", port)
            self.where = f"redis://127.0.0.1:{port}"
            self.options += ["--bind", "127.0.0.1", "--port", str(port)]
        else:
            self.address = str(self.directory / "redis.sock")
            self.where = "unix:" + self.address
            self.options += ["--port", "0", "--unixsocket", self.address]
        if durable:
            self.options += ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = None
        self.start()

    def start(self):
        """Returns when it answers, with what its append-only file has."""
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(["redis-server", "--save", "", "--dir", str(self.directory), *self.options],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < limit, (self.directory / "log").read_text()
            time.sleep(0.01)

    def answers(self):
        try:
            return self.ask("PING") == b"PONG"
        except (OSError, Refused):
            return False

    def ask(self, *words):
        with Connection(self.address) as connection:
            return connection.ask(*words)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        self.kill()
        self.temporary.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()


class Cluster:
    """Masters with a replica each. `masters` and `replicas` are in the order of their slots."""

    def __init__(self, masters=3, node_timeout_ms=1000):
        ports = proxies.free_ports(4 * masters)
        self.nodes = []
        for port, bus in zip(ports[::2], ports[1::2]):
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus),
                       "--cluster-node-timeout", str(node_timeout_ms),
                       "--cluster-replica-validity-factor", "0"]
            self.nodes.append(Redis(*options, port=port))
        self.buses = ports[1::2]
        self.masters, self.replicas = self.nodes[:masters], self.nodes[masters:]
        self.where = f"redis://127.0.0.1:{self.masters[0].port}"
        self._join()

    def _join(self):
        share = -(-SLOTS // len(self.masters))
        for number, master in enumerate(self.masters):
            master.ask("CLUSTER", "ADDSLOTSRANGE", number * share, min(SLOTS, (number + 1) * share) - 1)
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        known = f"cluster_known_nodes:{len(self.nodes)}\r"
        self._until(lambda: all(known in cluster_info(node) for node in self.nodes), self._meet)
        for master, replica in zip(self.masters, self.replicas):
            name = master.ask("CLUSTER", "MYID")
            self._until(lambda: name in replica.ask("CLUSTER", "NODES"))  # noqa: B023: it is called at once
            replica.ask("CLUSTER", "REPLICATE", name)
        self._until(lambda: all("cluster_state:ok" in cluster_info(node) for node in self.nodes))
        self._until(lambda: all(has_its_master(node) for node in self.replicas))

    def _meet(self):
        """On a busy machine a handshake may take too long, and is then forgotten."""
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self.buses[0])

    @staticmethod
    def _until(holds, act=lambda: None):
        limit = time.monotonic() + START_SECONDS
        turn = 0
        while not holds():
            assert time.monotonic() < limit, "the cluster does not form"
            if turn % 100 == 0:
                act()
            turn += 1
            time.sleep(0.02)

    def stop(self):
        for node in self.nodes:
            node.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()


def cluster_info(node):
    return node.ask("CLUSTER", "INFO").decode()


def has_its_master(node):
    return b"master_link_status:up" in node.ask("INFO", "replication")


class Delay:
    """A proxy before a Redis: each byte of an answer comes `seconds` later, which may be changed at any time."""

    def __init__(self, redis, seconds=0.0):
        self.redis, self.seconds = redis, seconds
        self.loop = asyncio.new_event_loop()
        self.tasks = set()
        self.temporary = tempfile.TemporaryDirectory(prefix="dien-delay-")
        self.path = f"{self.temporary.name}/redis.sock"
        self.where = "unix:" + self.path
        self.server = self.loop.run_until_complete(asyncio.start_unix_server(self._serve, self.path))
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def _serve(self, reader, writer):
        to_redis, from_redis = await asyncio.open_unix_connection(self.redis.address)
        ways = [asyncio.create_task(self._carry(reader, from_redis, late=False)),
                asyncio.create_task(self._carry(to_redis, writer, late=True))]
        self.tasks.update(ways)
        for way in ways:
            way.add_done_callback(self.tasks.discard)

    async def _carry(self, reader, writer, late):
        """Bytes keep their order and their distances, as on a long line."""
        line = asyncio.Queue()

        async def deliver():
            while True:
                due, data = await line.get()
                await asyncio.sleep(due - self.loop.time())
                if not data:
                    break
                writer.write(data)
            writer.close()

        delivering = asyncio.create_task(deliver())
        self.tasks.add(delivering)
        delivering.add_done_callback(self.tasks.discard)
        data = b"begin"
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            line.put_nowait((self.loop.time() + (self.seconds if late else 0), data))

    async def _end(self):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.temporary.cleanup()
