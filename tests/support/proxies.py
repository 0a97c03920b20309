"""HAProxy and nginx in front of a server, as processes on ports of their own. Both keep connections to the server and
share them among clients, so that a client would see the remains of another's request."""

import pathlib
import socket
import subprocess
import tempfile
import time

from . import service

HAPROXY = """
global
  log stderr format raw local0 emerg
defaults
  mode http
  timeout connect 60s
  timeout client 180s
  timeout server 180s
  http-reuse always
frontend plain
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{http2} proto h2
  default_backend servers
backend servers
  server one {server}
"""
NGINX = """
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream servers {{
    server {server};
    keepalive 8;
  }}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{http2} http2;
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      client_max_body_size 64m;
    }}
  }}
}}
"""
NAMES = ("haproxy", "nginx")


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Process:
    """A proxy; ready when `port` takes connections. `{directory}` in its configuration is its own one."""

    def __init__(self, name, config, port):
        self.temporary = tempfile.TemporaryDirectory(prefix="dien-proxy-")
        self.directory = pathlib.Path(self.temporary.name)
        file = self.directory / "config"
        file.write_text(config.replace("{directory}", str(self.directory)))
        nginx = ["nginx", "-e", self.directory / "error.log", "-g", f"pid {self.directory}/nginx.pid; daemon off;", "-c", file]
        command = {"haproxy": ["haproxy", "-db", "-f", file], "nginx": nginx}[name]
        self.address = ("127.0.0.1", port)
        log = self.directory / "log"
        with open(log, "wb") as output:
            self.process = subprocess.Popen([str(each) for each in command], stdout=output, stderr=output)
        limit = time.monotonic() + service.START_SECONDS
        while True:
            try:
                socket.create_connection(self.address).close()
                break
            except ConnectionRefusedError:
                assert self.process.poll() is None and time.monotonic() < limit, log.read_text()
                time.sleep(0.01)

    def client(self):
        return service.Client(self.address)

    def raw(self):
        return service.Raw(self.address)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.temporary.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()


class Proxy(Process):
    """`address` takes HTTP/1.1, `http2` HTTP/2 without TLS."""

    def __init__(self, name, server):
        plain, http2 = free_ports(2)
        self.http2 = ("127.0.0.1", http2)
        template = HAPROXY if name == "haproxy" else NGINX
        config = template.format(plain=plain, http2=http2, directory="{directory}", server="%s:%d" % server.address)
        super().__init__(name, config, plain)
