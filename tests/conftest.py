"""Shared fixtures. Nothing is built here: `make test` builds, the tests use build/release, clang, asan, tsan, fuzz.

By hand: make builds && python3 -m pytest --builds=release tests/e2e
On two processors, as `make test` does: -n 2 --dist loadgroup. Each process of pytest's then has servers of its own.
Time limits only end what hangs, or grow with builds.slowness(): the tests must pass while others use the processors.
"""

import collections
import random
import re
import threading
import time

import pytest

from support import builds, cmocka, dien_command, modelfile, service

# What clang builds is the same program: it compiles with that compiler's warnings and runs the unit tests.
SERVER_BUILDS = ("release", "asan", "tsan")


def pytest_addoption(parser):
    parser.addoption("--build-root", default=str(builds.TOP / "build"), help="where the build directories are")
    parser.addoption("--closing-line", help="a file for the last line")
    parser.addoption("--builds", default="release", help="comma-separated builds to test: release,clang,asan,tsan")


def pytest_configure(config):
    names = config.getoption("--builds").split(",")
    config.dien_builds = [builds.Build(config.getoption("--build-root"), name) for name in names]


def pytest_collect_file(file_path, parent):
    if file_path.parent.name == "unit" and file_path.name.startswith("test_") and file_path.suffix == ".c":
        return cmocka.File.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The longest programs first: with more than one process of pytest's, none waits for them alone at the end."""
    items.sort(key=lambda item: not (isinstance(item, cmocka.Item) and item.run.build.emulated))


def part_of(nodeid):
    """The part of `make check` that a test belongs to: its folder under tests/, and the build if it names one."""
    folder = nodeid.removeprefix("tests/").split("/")[0]
    found = re.search(r"\[(?:.*-)?(release|clang|asan|tsan|aarch64)\b", nodeid)
    return f"{folder}, {found[1]}" if found else folder


def pytest_terminal_summary(terminalreporter):
    """The seconds of each part, as the sum over its tests. `make check` prints those of the builds itself."""
    seconds = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                seconds[part_of(report.nodeid)] += report.duration
    terminalreporter.section("seconds of each part, one process's")
    for part, spent in sorted(seconds.items(), key=lambda each: -each[1]):
        terminalreporter.write_line(f"{spent:8.1f}  {part}")


def pytest_unconfigure(config):
    """The last line, alone: how many passed and failed, for whoever reads only that."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or config.option.collectonly:
        return
    count = {outcome: len(reporter.stats.get(outcome, ())) for outcome in ("passed", "failed", "error", "skipped")}
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    line = f"{count['passed']} passed, {count['failed'] + count['error']} failed{skipped}"
    print(line, flush=True)
    if config.getoption("--closing-line"):
        with open(config.getoption("--closing-line"), "w") as file:
            print(line, file=file)


def pytest_generate_tests(metafunc):
    """Whatever uses a server runs on every build of it, unless it is marked only_on."""
    if "build" not in metafunc.fixturenames:
        return
    chosen = [build for build in metafunc.config.dien_builds if build.name in SERVER_BUILDS]
    only = metafunc.definition.get_closest_marker("only_on")
    if only:
        chosen = [build for build in chosen if build.name in only.args]
    metafunc.parametrize("build", chosen, ids=str, scope="session")


@pytest.fixture(scope="session")
def demo():
    """The model that the repository ships."""
    return modelfile.ModelDirectory(builds.TOP / "model" / "demo")


def convert(case, output):
    """A golden case as a model directory; its samples are the framework's own float64 scores."""
    dien_command.convert_golden(case, output)
    return modelfile.ModelDirectory(output)


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """converted(case): that golden case as a model directory, converted once a session."""
    made = {}

    def convert_once(case):
        if case not in made:
            made[case] = convert(case, tmp_path_factory.mktemp("golden") / case)
        return made[case]

    return convert_once


@pytest.fixture(scope="session")
def golden(converted):
    """The reference TensorFlow model, converted; `requests` are its own, with float64 scores."""
    return converted("reference-tf1-prelu")


@pytest.fixture(scope="session")
def server(build, demo):
    """One server on the demo model for all tests that leave it as they found it."""
    with service.Service(build, demo.path) as running:
        yield running


@pytest.fixture
def start(build, demo):
    """start(*options, model=..., **variables): a server of the test's own, stopped in order at its end."""
    running = []

    def start_service(*options, model=None, **variables):
        running.append(service.Service(build, (model or demo).path, *options, **variables))
        return running[-1]

    yield start_service
    for each in running:
        each.stop()


@pytest.fixture
def rng(request):
    """Random, the same at every run of a test."""
    return random.Random(request.node.nodeid)


class Neighbour:
    """A client with a good request, again and again: whatever a test does, its answers keep their bits.

    A fault is reported once, by the test beside which it came; the client goes on, on a new connection.
    """

    def __init__(self, running, body):
        self.running = running
        self.body = body
        self.expected = running.score(body).scores()
        self.answers = 0
        self.faults = []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._work)

    def _work(self):
        while not self.ending.wait(0.005):
            try:
                with self.running.client() as client:
                    while not self.ending.wait(0.005):
                        reply = client.post(self.body)
                        self.answers += 1
                        if reply.status != 200 or reply.scores() != self.expected:
                            self.faults.append(repr(reply))
            except Exception as error:  # noqa: BLE001: a thread's error is reported by check()
                self.faults.append(repr(error))
                self.ending.wait(0.1)

    def __enter__(self):
        self.thread.start()
        while self.answers == 0 and not self.faults:  # a test may be over before the thread's first turn
            time.sleep(0.001)
        return self

    def __exit__(self, *exception):
        self.ending.set()
        self.thread.join()

    def check(self):
        faults, self.faults = self.faults, []
        assert not faults, faults[:3]
        assert self.thread.is_alive()


@pytest.fixture(scope="session")
def running_neighbour(server, demo):
    with Neighbour(server, demo.request(random.Random(1), history=7, candidates=5)) as neighbour:
        yield neighbour
    assert neighbour.answers > 0


@pytest.fixture
def neighbour(running_neighbour):
    """The test goes on beside a good client, which must not notice."""
    yield running_neighbour
    running_neighbour.check()
