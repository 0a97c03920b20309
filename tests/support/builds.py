"""The builds that `make` made, and how their sanitizers are asked and read."""

import os
import pathlib
import re
import time

TOP = pathlib.Path(__file__).resolve().parents[2]

# exitcode differs from the server's own 1, so a report can never pass for a refusal.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=98:second_deadlock_stack=1",
}
REPORT = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error:")


class Build:
    """One build directory, such as build/asan."""

    def __init__(self, root, name):
        self.name = name
        self.directory = pathlib.Path(root).resolve() / name
        self.server = self.directory / "dien-server"

    def __repr__(self):
        return self.name

    @property
    def sanitized(self):
        return self.name in ("asan", "tsan", "fuzz")

    @property
    def patience(self):
        """How many times slower than the release build on a quiet machine it may be now; for time limits only."""
        return (10 if self.sanitized else 1) * slowness()

    @property
    def emulated(self):
        """Built for another processor than this machine's."""
        return self.name == "aarch64"

    def command(self, program):
        """How to run one of the build's programs here."""
        return ["qemu-aarch64", "-L", TOP / "build" / "tools" / "aarch64", program] if self.emulated else [program]


def slowness(seconds=0.02):
    """How many times longer than on a quiet machine work takes now: wall time by processor time of a loop, at least 1.

    Twice that, and 8 at most: one look of 20 ms may fall into a quiet moment of a machine that is not.
    """
    wall, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < seconds:
        pass
    measured = (time.perf_counter() - wall) / (time.process_time() - used)
    return 1.0 if measured < 1.1 else min(8.0, 2 * measured)


def environment(**more):
    """The environment for a program under test: nothing of ours that changes the server, the sanitizers' options."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIEN_", "OPENBLAS_"))}
    return {**kept, **SANITIZER_OPTIONS, **{name: str(value) for name, value in more.items()}}


def sanitizer_report(text):
    """The part of a program's output where a sanitizer speaks, or None."""
    found = REPORT.search(text)
    return text[max(0, found.start() - 300):found.start() + 6000] if found else None
