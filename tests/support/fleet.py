"""Servers behind a balancer with a configuration of deploy/, and callers. Addresses are put in; a test may alter the rest."""

import contextlib
import random
import time

from . import builds, proxies, service
from .load import Callers

FILES = {"haproxy": "haproxy/haproxy.cfg", "nginx": "nginx/nginx.conf"}


class Fleet:
    """`balancer(name)` starts one; replies say in X-Served-By which server answered."""

    def __init__(self, build, model, *options, count=3):
        self.build, self.model, self.options = build, model, options
        self.stack = contextlib.ExitStack()
        self.servers = []
        for number in range(count):
            self.servers.append(service.Service(build, model, *options))
            self.stack.callback(self._stop, number)
        self.balancers = contextlib.ExitStack()

    def configuration(self, name, change=lambda text: text):
        text = change((builds.TOP / "deploy" / FILES[name]).read_text())
        self.port, stats = proxies.free_ports(2)
        listening = {"haproxy": ("bind :8000", f"bind 127.0.0.1:{self.port}"),
                     "nginx": ("listen 8000;", f"listen 127.0.0.1:{self.port};")}
        alterations = [listening[name], ("127.0.0.1:8404", f"127.0.0.1:{stats}")]
        alterations += [(f"dien-{number}:8080", "%s:%d" % server.address) for number, server in enumerate(self.servers, start=1)]
        served_by = {"haproxy": ("default_backend dien", "http-response set-header X-Served-By %b/%s\n    default_backend dien"),
                     "nginx": ("server {\n", "server {\n        add_header X-Served-By $upstream_addr always;\n")}
        alterations.append(served_by[name])
        self.stats = ("127.0.0.1", stats)
        for old, new in alterations:
            text = text.replace(old, new)
        return text

    def balancer(self, name, change=lambda text: text):
        """Replaces the last one. Waits until it has found each of the servers."""
        self.balancers.close()
        running = self.balancers.enter_context(proxies.Process(name, self.configuration(name, change), self.port))
        time.sleep(0.1)
        return running

    def _stop(self, number):
        self.servers[number].stop()

    def kill(self, number):
        self.servers[number].kill()

    def start_again(self, number):
        """A server at the address of one that has ended."""
        ended = self.servers[number]
        ended.stop()
        listen = ("--listen", "%s:%d" % ended.address)
        self.servers[number] = service.Service(self.build, self.model, *self.options, *listen)

    def up(self):
        """HAProxy's own view: the server's name and whether it is up."""
        with service.Client(self.stats) as client:
            page = client.get("/;csv").body.decode()
        rows = [line.split(",") for line in page.splitlines() if line.startswith("dien,dien-")]
        return {row[1]: row[17].startswith("UP") for row in rows}

    def close(self):
        self.balancers.close()
        self.stack.close()


class Load(Callers):
    """Callers that score users by header until the block ends; each answer has to be 200."""

    def __init__(self, balancer, demo, callers=8):
        super().__init__(balancer, *(self._call(demo, random.Random(number)) for number in range(callers)))

    @staticmethod
    def _call(demo, rng):
        def call(client):
            user = f"user-{rng.randrange(300)}"
            reply = client.post({**demo.request(rng, history=4, candidates=5), "user_id": user}, **{"X-User-Id": user})
            assert reply.status == 200, reply
        return call
