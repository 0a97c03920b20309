"""pytest items for C unit tests: one item for each cmocka case of each build.

A test program runs once; its cases take their results from that run, and so stay in one process of pytest's. The names
come from the source, so a case that the program never ran is seen.
"""

import re
import subprocess

import pytest

from . import builds

CASE = re.compile(r"\bcmocka_unit_test(?:_\w+)?\(\s*(\w+)")
RAN = re.compile(r"^\[ +RUN +\] (\w+)$", re.M)
ENDED = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (\w+)$", re.M)
TIMEOUT_SECONDS = 1200  # ends what hangs
# What runs in an emulator, and what its output must show: that these kernels were the ones tested.
EMULATED = {
    "test_kernels": [rf"^neon {kernel}: largest difference" for kernel in
                     ("linear", "gemv", "activate", "extract", "evolve", "pool", "attend", "dot", "softmax")],
    "test_exponentials": [rf"^neon {function}: largest difference" for function in ("sigmoid", "tanh", "softmax", "update gate")],
    "test_model": [r"^\d+ models, neon kernels: largest difference"],
}


class Run:
    """One run of a test program, made when its first case is asked for."""

    def __init__(self, build, program):
        self.build = build
        self.program = program
        self.done = False

    def ensure(self):
        if self.done:
            return
        self.done = True
        if not self.program.exists():
            self.output, self.status = f"{self.program} is not built", None
            self.outcomes = {}
            return
        ran = subprocess.run(self.build.command(self.program), cwd=builds.TOP, env=builds.environment(), stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=TIMEOUT_SECONDS, check=False)
        self.output = ran.stdout.decode(errors="replace")
        self.status = ran.returncode
        # The summary names failed cases again; the first word on a case counts.
        self.outcomes = {}
        for outcome, name in ENDED.findall(self.output):
            self.outcomes.setdefault(name, outcome)

    def passage(self, case):
        """What the program printed from the start of a case to the start of the next."""
        starts = [found for found in RAN.finditer(self.output)]
        for place, found in enumerate(starts):
            if found[1] == case:
                end = starts[place + 1].start() if place + 1 < len(starts) else found.start() + 8000
                return self.output[found.start():end]
        return self.output[-8000:]


class Failure(Exception):
    """A C test failed; its text is the report."""


class Item(pytest.Item):
    def __init__(self, *, run, **arguments):
        super().__init__(**arguments)
        self.run = run
        self.add_marker(pytest.mark.xdist_group(f"{run.program.stem}-{run.build}"))  # xdist looks for "]" as the end of a name

    def repr_failure(self, excinfo, style=None):
        return str(excinfo.value) if isinstance(excinfo.value, Failure) else super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, self.name


class CaseItem(Item):
    def __init__(self, *, case, **arguments):
        super().__init__(**arguments)
        self.case = case

    def runtest(self):
        self.run.ensure()
        outcome = self.run.outcomes.get(self.case)
        if outcome == "SKIPPED":
            pytest.skip(self.run.passage(self.case))
        if outcome != "OK":
            raise Failure(f"{outcome or 'did not end'}:\n{self.run.passage(self.case)}")


class ProgramItem(Item):
    """The program as a whole: exit status, sanitizers, and no case that the source does not show."""

    def __init__(self, *, cases, **arguments):
        super().__init__(**arguments)
        self.cases = cases

    def runtest(self):
        self.run.ensure()
        report = builds.sanitizer_report(self.run.output)
        if report:
            raise Failure(report)
        if self.run.status != 0:
            raise Failure(f"exit status {self.run.status}:\n{self.run.output[-8000:]}")
        if set(self.run.outcomes) != set(self.cases):
            raise Failure(f"the source names {sorted(self.cases)}, the program ran {sorted(self.run.outcomes)}")


class KernelsItem(Item):
    """An emulated run is there for its kernels: that they ran is a test of its own."""

    def runtest(self):
        self.run.ensure()
        absent = [line for line in EMULATED[self.path.stem] if not re.search(line, self.run.output, re.M)]
        if absent:
            raise Failure(f"no line {absent}:\n{self.run.output[-8000:]}")


class File(pytest.File):
    def collect(self):
        cases = list(dict.fromkeys(CASE.findall(self.path.read_text())))
        for build in self.config.dien_builds:
            if build.emulated and self.path.stem not in EMULATED:
                continue
            run = Run(build, build.directory / "unit" / self.path.stem)
            if build.emulated:
                yield KernelsItem.from_parent(self, name=f"kernels[{build}]", run=run)
            for case in cases:
                yield CaseItem.from_parent(self, name=f"{case}[{build}]", run=run, case=case)
            yield ProgramItem.from_parent(self, name=f"program[{build}]", run=run, cases=cases)
