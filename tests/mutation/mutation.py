"""Do the tests see a mistake? Change one line, build, test; the change must make a test fail. `make mutation`.

    python3 tests/mutation/mutation.py --only server/users      those of one room
    python3 tests/mutation/mutation.py --check                  only that each line of the table is in the tree

Each mutant is built in a copy of the tree, incrementally, and runs the tests of its entry in mutants.py first, then the
other unit tests, then the end-to-end tests; the first failure ends it. Results are kept in OUTPUT/results.json, so that a
run that was stopped goes on; a mutant whose entry or file has changed is run again.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import time

import mutants

TOP = pathlib.Path(__file__).resolve().parents[2]
COPIED = ("Makefile", "deploy", "model", "proto", "server", "tests")
SECONDS_FOR_A_UNIT_TEST, SECONDS_FOR_THE_END_TO_END = 240, 900
CMOCKA_FAILED = re.compile(r"^\[  FAILED  \] (\w+)$", re.M)


def run(command, directory, seconds):
    """(exit status or None when it took too long, output); all that it started has ended."""
    process = subprocess.Popen(list(map(str, command)), cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]


def find(entry, top=TOP):
    """A fault of the entry, or None: its text must be in its file exactly once, and its tests must exist."""
    path = top / entry.file
    if not path.is_file():
        return f"{entry.file}: no such file"
    absent = [name for name in entry.tests.split() if name != "e2e" and not (top / "tests" / "unit" / f"{name}.c").is_file()]
    if absent:
        return f"{entry.file}: no tests {absent}"
    count = path.read_text().count(entry.old)
    return None if count == 1 else f"{entry.file}: {entry.old!r} is there {count} times"


def key_of(entry):
    """Changes when the entry does, or its file."""
    text = json.dumps([entry.file, entry.old, entry.new, entry.tests]) + (TOP / entry.file).read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Copy:
    """A tree with a build of its own."""

    def __init__(self, directory):
        self.directory = directory

    def make(self):
        """As the tree is now; the build that is there stays where it fits."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in COPIED:
            run(["cp", "-R", "-u", "--preserve=timestamps", "--no-target-directory", TOP / name, self.directory / name], TOP, 600)
        for name in COPIED:
            for path in sorted((self.directory / name).rglob("*")):
                if path.is_file() and not (TOP / path.relative_to(self.directory)).exists():
                    path.unlink()
        for name in ("models", "tools"):
            (self.directory / "build").mkdir(exist_ok=True)
            link = self.directory / "build" / name
            if not link.exists():
                link.symlink_to(TOP / "build" / name)
        if not (self.directory / "build" / "release").exists() and (TOP / "build" / "release").exists():
            run(["cp", "-R", "--preserve=timestamps", TOP / "build" / "release", self.directory / "build" / "release"], TOP, 600)
        status, output = self.build([])
        if status != 0:
            sys.exit(f"the tree without a mutation does not build:\n{output[-3000:]}")

    def build(self, programs):
        wanted = [f"build/release/unit/{name}" for name in programs] or ["build", "unit"]
        return run(["make", "--no-print-directory", *wanted], self.directory, 900)

    def unit(self, name):
        """None when it passes, else who failed."""
        status, output = run([self.directory / "build" / "release" / "unit" / name], self.directory, SECONDS_FOR_A_UNIT_TEST)
        if status == 0:
            return None
        failed = CMOCKA_FAILED.findall(output)
        return f"{name}: {failed[0] if failed else 'too long' if status is None else f'ended with {status}'}"

    def end_to_end(self):
        status, output = run([sys.executable, "-m", "pytest", "--build-root=build", "--builds=release", "-x", "-q", "-m",
                              "not check_only", "tests/e2e"], self.directory, SECONDS_FOR_THE_END_TO_END)
        if status == 0:
            return None
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.M)
        return failed[1] if failed else "tests/e2e: too long" if status is None else f"tests/e2e: {output[-300:]}"


def judge(copy, entry):
    """Who caught it, or None. The entry's own tests, the other unit tests, the end-to-end tests."""
    path = copy.directory / entry.file
    right = path.read_text()
    try:
        path.write_text(right.replace(entry.old, entry.new))
        named = [name for name in entry.tests.split() if not name.startswith("e2e")]
        if named:
            status, output = copy.build(named)
            if status != 0:
                return "the compiler: " + next((line for line in output.splitlines() if "error:" in line), output[-200:])
            for name in named:
                caught = copy.unit(name)
                if caught:
                    return caught
        status, output = copy.build([])
        if status != 0:
            return "the compiler: " + next((line for line in output.splitlines() if "error:" in line), output[-200:])
        others = sorted(each.stem for each in (copy.directory / "tests" / "unit").glob("test_*.c") if each.stem not in named)
        if "e2e" in entry.tests:
            return copy.end_to_end() or next(filter(None, map(copy.unit, others)), None)
        return next(filter(None, map(copy.unit, others)), None) or copy.end_to_end()
    finally:
        path.write_text(right)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=pathlib.Path, default=TOP / "build" / "mutation")
    parser.add_argument("--only", default="", help="mutants of files whose path starts so")
    parser.add_argument("--check", action="store_true", help="look for each entry in the tree, and do no more")
    parser.add_argument("--minutes", type=float, default=75, help="begin no mutant after so long; run again to go on")
    return parser.parse_args()


def main():
    options = arguments()
    options.output = options.output.resolve()  # programs are run from other directories
    chosen = [entry for entry in mutants.TABLE if entry.file.startswith(options.only)]
    wrong = list(filter(None, map(find, chosen)))
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(chosen)} mutants of {len({entry.file for entry in chosen})} files", flush=True)
    if options.check:
        return
    limit = time.monotonic() + 60 * options.minutes
    results_file = options.output / "results.json"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    free = queue.Queue()
    for number in range(options.jobs):
        copy = Copy(options.output / f"copy-{number}")
        copy.make()
        free.put(copy)

    def one(entry):
        key = key_of(entry)
        if key in results:
            return entry, results[key]
        if time.monotonic() > limit:
            return entry, "not run"
        copy = free.get()
        try:
            return entry, judge(copy, entry)
        finally:
            free.put(copy)

    survivors, unrun, explained = [], 0, 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for future in concurrent.futures.as_completed([pool.submit(one, entry) for entry in chosen]):
            entry, caught = future.result()
            line = f"{entry.file}: {entry.old.strip()!r} -> {entry.new.strip()!r}"
            if caught == "not run":
                unrun += 1
                continue
            results[key_of(entry)] = caught
            temporary = results_file.with_suffix(".new")
            temporary.write_text(json.dumps(results, indent=1))
            temporary.replace(results_file)
            if caught is None and entry.why:
                explained += 1
                print(f"survived  {line} (known: {entry.why})", flush=True)
            elif caught is None:
                survivors.append(line)
                print(f"SURVIVED  {line}", flush=True)
            else:
                print(f"caught    {line}\n          by {caught}", flush=True)
    caught = len(chosen) - len(survivors) - explained - unrun
    print(f"{caught} caught, {explained} explained, {len(survivors)} survived, {unrun} not run")
    sys.exit(1 if survivors or unrun else 0)


if __name__ == "__main__":
    main()
