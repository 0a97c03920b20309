"""Servers behind a balancer with a configuration of deploy/, and callers. Addresses are put in; a test may alter the rest."""

import contextlib
import http.client
import json
import random
import threading
import time

from . import builds, proxies, service

FILES = {"haproxy": "haproxy/haproxy.cfg", "nginx": "nginx/nginx.conf"}


class Fleet:
    """`balancer(name)` starts one; replies say in X-Served-By which server answered."""

    def __init__(self, build, model, *options, count=3):
        self.build, self.model, self.options = build, model, options
        self.stack = contextlib.ExitStack()
        self.servers = [self.stack.enter_context(service.Service(build, model, *options)) for _ in range(count)]
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

    def kill(self, number):
        self.servers[number].kill()

    def up(self):
        """HAProxy's own view: the server's name and whether it is up."""
        with service.Client(self.stats) as client:
            page = client.get("/;csv").body.decode()
        rows = [line.split(",") for line in page.splitlines() if line.startswith("dien,dien-")]
        return {row[1]: row[17].startswith("UP") for row in rows}

    def close(self):
        self.balancers.close()
        self.stack.close()


class Load:
    """Callers in threads that score users by header until the block ends; `failed` has each answer that is not 200."""

    def __init__(self, balancer, demo, callers=8):
        self.balancer, self.demo = balancer, demo
        self.failed, self.answered = [], 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]

    def _call(self, number):
        rng = random.Random(number)
        while not self.ending.is_set():
            connection = http.client.HTTPConnection(*self.balancer.address, timeout=60)
            try:
                while not self.ending.is_set():
                    user = f"user-{rng.randrange(300)}"
                    body = json.dumps({**self.demo.request(rng, history=4, candidates=5), "user_id": user})
                    connection.request("POST", "/score", body, {"Content-Type": "application/json", "X-User-Id": user})
                    reply = connection.getresponse()
                    reply.read()
                    if reply.status != 200:
                        self.failed.append(reply.status)
                    self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.ending.set()
        for thread in self.threads:
            thread.join()
