"""Debian's Prometheus as a process, and promtool."""

import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from . import builds, proxies, service


def tool(name):
    """The path of prometheus or promtool: installed, or where `make tools` put it."""
    return shutil.which(name) or str(builds.TOP / "build" / "tools" / name)


def promtool(*arguments, **keywords):
    """(exit status, output)."""
    command = [tool("promtool"), *map(str, arguments)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **keywords)
    return ran.returncode, ran.stdout.decode()


class Prometheus:
    """With a configuration directory of its own; rules in files beside it are found."""

    def __init__(self, files):
        self.temporary = tempfile.TemporaryDirectory(prefix="dien-prometheus-")
        directory = pathlib.Path(self.temporary.name)
        for name, text in files.items():
            (directory / name).write_text(text)
        (port,) = proxies.free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        command = [tool("prometheus"), f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
                   f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        self.process = subprocess.Popen(command)
        limit = time.monotonic() + service.START_SECONDS
        while True:
            try:
                urllib.request.urlopen(self.url + "/-/ready", timeout=10).close()
                break
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None and time.monotonic() < limit
                time.sleep(0.05)

    def get(self, path, **arguments):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(arguments)}", timeout=60) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """The vector's elements."""
        return self.get("/api/v1/query", query=expression)["result"]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(60)
        self.temporary.cleanup()
