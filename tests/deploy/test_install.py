"""`make install`: the files, the manual page against --help, the systemd unit, and the Debian package's directory."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess

import pytest

from support import builds
from support.service import Service

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release"), pytest.mark.xdist_group("install")]
EXPOSURE_MOST = 1.5


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `make install DESTDIR=... PREFIX=/opt/dien` leaves, and its output."""
    root = tmp_path_factory.mktemp("install")
    made = subprocess.run(["make", "-s", "install", f"DESTDIR={root}", "PREFIX=/opt/dien"], cwd=builds.TOP, timeout=600,
                          capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return root


def test_every_file_is_where_it_belongs(installed):
    found = {str(path.relative_to(installed)): path.stat().st_mode & 0o777 for path in installed.rglob("*") if path.is_file()}
    modes = {"opt/dien/bin/dien-server": 0o755, "opt/dien/share/man/man8/dien-server.8": 0o644,
             "opt/dien/lib/systemd/system/dien-server.service": 0o644, "opt/dien/share/doc/dien-server/LICENSE": 0o644,
             "opt/dien/share/doc/dien-server/CHANGELOG.md": 0o644}
    demo = {f"opt/dien/share/dien-server/demo/{name}": 0o644 for name in ("config.json", "model.safetensors", "samples.json")}
    for path, mode in {**modes, **demo}.items():
        assert found.pop(path) == mode, path
    assert all(path.startswith("opt/dien/share/dien-server/demo/") for path in found), found


def test_uninstall_leaves_nothing(installed, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(installed, copy)
    subprocess.run(["make", "-s", "uninstall", f"DESTDIR={copy}", "PREFIX=/opt/dien"], cwd=builds.TOP, timeout=60, check=True)
    assert not [path for path in copy.rglob("*") if path.is_file()]


def test_the_installed_server_scores_the_demo(installed, demo):
    directory = installed / "opt/dien/share/dien-server/demo"

    class Installed:
        server = installed / "opt/dien/bin/dien-server"
        sanitized = False
    with Service(Installed, directory) as running:
        assert running.score(json.dumps(demo.request(random.Random(1), history=3, candidates=3))).status == 200


@pytest.fixture(scope="module")
def page(installed):
    """The manual page as plain text, without a warning of its formatter."""
    source = installed / "opt/dien/share/man/man8/dien-server.8"
    ran = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-P-cbou", str(source)], capture_output=True, text=True,
                         timeout=60, check=True)
    assert not ran.stderr, ran.stderr
    return ran.stdout


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff")
def test_the_manual_has_each_option(build, page):
    text = subprocess.run([str(build.server), "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    entries = re.findall(r"^  (--[a-z0-9-]+)(?: ([A-Z]+|\S*\|\S*))? +(\S[^\n]*)\n +\[default ([^;\]]*); (DIEN_[A-Z0-9_]+)\]",
                         text, re.M)
    plain = " ".join(re.sub(r"-\n +", "-", page).split())
    assert len(entries) == text.count("[default ")
    for name, value, words, default, variable in entries:
        assert f"{name} {value}".strip() in plain, name
        assert " ".join(words.split()) in plain, words
        assert f"Default {default}; environment: {variable}." in plain, variable
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "EXIT STATUS", "SIGNALS"):
        assert re.search(f"^{title}$", page, re.M), title


@pytest.fixture
def unit(installed):
    return installed / "opt/dien/lib/systemd/system/dien-server.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_unit_is_sandboxed(unit):
    ran = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)], capture_output=True,
                         text=True, timeout=60, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    exposure = re.search(r"Overall exposure level for dien-server.service: ([0-9.]+)", ran.stdout)
    assert exposure and float(exposure[1]) <= EXPOSURE_MOST, ran.stdout + ran.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_unit_is_valid(installed, unit, tmp_path):
    """With the paths as they would be there; verify wants the program to exist."""
    here = tmp_path / "dien-server.service"
    text = unit.read_text()
    assert not re.search("@[A-Z]+@", text)
    here.write_text(text.replace("/opt/dien", str(installed / "opt/dien")))
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True, timeout=60,
                         check=False)
    assert "dien-server" not in ran.stderr, ran.stderr


def test_the_units_variables_are_options(build, unit):
    text = subprocess.run([str(build.server), "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    for variable in re.findall(r"DIEN_[A-Z_]+(?==)", unit.read_text()):
        assert variable in text
    defaults = {name: float(value) for name, value in re.findall(r"--(drain-[a-z]+) SECONDS.*\n +\[default ([0-9.]+);", text)}
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.M)
    assert sum(defaults.values()) < int(stop[1])


def test_systemd_is_told_when_the_model_is_proved(build, demo, tmp_path):
    """READY=1 once, not before readiness, and STOPPING=1 with SIGTERM; a socket that is not there harms nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        running = Service(build, demo.path, wait_ready=False, NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert systemd.recv(4096) == b"READY=1"
        with running.client() as client:
            assert client.get("/health/ready").status == 200
        running.terminate()
        assert systemd.recv(4096) == b"STOPPING=1"
        running.stop()
    for name in ("/no/such/socket", "", "x", "/" + "y" * 200):
        with Service(build, demo.path, NOTIFY_SOCKET=name) as running:
            assert running.score(demo.request(random.Random(2), history=2, candidates=2)).status == 200


def test_the_debian_package_is_of_this_version(build):
    """Its parts that a build would trip over only later."""
    control = (builds.TOP / "deploy/debian/control").read_text()
    assert "debhelper-compat (= 13)" in control
    makefile = (builds.TOP / "Makefile").read_text()
    depends = re.search(r"Build-Depends:.*?\nStandards", control, re.S)[0]
    wanted = set(re.findall(r"(?:lib[a-z0-9-]+-dev|zlib1g-dev|protobuf-c-compiler)", depends))
    demo_packages = re.search(r"^DEMO_PACKAGES := (.*)$", makefile, re.M)[1].split()
    assert wanted == {package for package in demo_packages if package.endswith("-dev") or package == "protobuf-c-compiler"}
    ran = subprocess.run(["dpkg-parsechangelog", "-l", "-", "-S", "Version"], timeout=60, check=True, capture_output=True,
                         input=subprocess.run(["make", "-s", "debian-changelog"], cwd=builds.TOP, timeout=60, check=True,
                                              capture_output=True).stdout)
    shown = subprocess.run([str(build.server), "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert ran.stdout.decode().strip() == shown.split()[1]


def members(name):
    """The system calls of one of systemd's sets."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, timeout=60,
                          check=True).stdout
    words = [line.strip() for line in text.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return {call for word in words for call in (members(word) if word.startswith("@") else {word})}


@pytest.mark.skipif(not (shutil.which("systemd-analyze") and shutil.which("strace")), reason="no systemd-analyze or strace")
def test_the_unit_allows_each_system_call(build, demo, unit, tmp_path):
    """A life of the server, traced: start, scores, a user, metrics, SIGTERM. None of its calls is refused by the filter."""
    allowed = members("@default")
    for rule in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), re.M):
        for word in rule.removeprefix("~").split():
            calls = members(word) if word.startswith("@") else {word}
            allowed = allowed - calls if rule.startswith("~") else allowed | calls
    trace = tmp_path / "trace"
    script = tmp_path / "dien-server"
    script.write_text(f'#!/bin/sh\nexec strace -f -qq -o {trace} {build.server} "$@"\n')
    script.chmod(0o755)

    class Traced:
        server = script
        sanitized = False
    with Service(Traced, demo.path, "--listen", f"unix:{tmp_path}/socket") as running:
        body = demo.request(random.Random(3), history=50, candidates=2000) | {"user_id": "u"}
        assert running.score(body).status == 200
        assert running.metrics()["dien_connections"] == 1
        os.kill(running.logged_line(event="listening")["pid"], signal.SIGTERM)
        running.terminated = True
    calls = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", trace.read_text(), re.M))
    assert "recvfrom" in calls and "futex" in calls
    assert calls - {"execve"} <= allowed, calls - allowed
