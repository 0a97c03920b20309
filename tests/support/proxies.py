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
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
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


class Proxy:
    """`address` takes HTTP/1.1, `http2` HTTP/2 without TLS."""

    def __init__(self, name, server):
        self.temporary = tempfile.TemporaryDirectory(prefix="dien-proxy-")
        directory = pathlib.Path(self.temporary.name)
        plain, http2 = free_ports(2)
        config = directory / "config"
        config.write_text((HAPROXY if name == "haproxy" else NGINX).format(
            plain=plain, http2=http2, directory=directory, server="%s:%d" % server.address))
        command = {"haproxy": ["haproxy", "-db", "-f", config], "nginx": ["nginx", "-e", directory / "error.log", "-c", config]}
        self.address, self.http2 = ("127.0.0.1", plain), ("127.0.0.1", http2)
        self.process = subprocess.Popen([str(each) for each in command[name]])
        limit = time.monotonic() + service.START_SECONDS
        while True:
            try:
                socket.create_connection(self.address).close()
                break
            except ConnectionRefusedError:
                assert self.process.poll() is None and time.monotonic() < limit
                time.sleep(0.01)

    def client(self):
        return service.Client(self.address)

    def raw(self):
        return service.Raw(self.address)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(60)
        self.temporary.cleanup()
