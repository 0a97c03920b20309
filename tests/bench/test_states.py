"""The measurements of user states run, find their own conditions met, and write what they should. Their figures are for
quiet machines: nothing here looks at a time."""

import csv
import subprocess
import sys

import pytest

from support import builds

BENCH = builds.TOP / "tests" / "bench"

# The programs do not measure anything under a sanitizer; what they call is tested there by tests/unit.
pytestmark = pytest.mark.only_on("release")


@pytest.fixture(scope="session")
def reference_shape(tmp_path_factory):
    output = tmp_path_factory.mktemp("bench") / "reference-shape"
    subprocess.run([sys.executable, BENCH / "reference_shape.py", "--output", output], check=True)
    return output


@pytest.fixture
def measure(build, reference_shape, tmp_path):
    """measure(program, *options): what it printed, and the rows of its CSV."""
    def run(program, *options):
        path = tmp_path / f"{program}.csv"
        ran = subprocess.run([build.directory / "bench" / program, reference_shape, "--csv", path, *options],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
        assert ran.returncode == 0, ran.stdout
        return ran.stdout, list(csv.DictReader(path.read_text().splitlines()))
    return run


LENGTHS, CANDIDATES = ("50", "100", "1000"), ("1", "10", "100")


def test_what_to_keep(measure):
    _, rows = measure("states", "--repeats", "1")
    seen = {(row["behaviours"], row["candidates"]) for row in rows}
    assert seen == {(length, count) for length in LENGTHS for count in ("0", *CANDIDATES)}
    kept = {(row["behaviours"], row["state"]): int(row["bytes_kept"]) for row in rows}
    assert all(0 < kept[length, "restored far"] < kept[length, "whole copied far"] for length in LENGTHS)
    assert all(float(row["median_us"]) > 0 for row in rows)


def test_what_a_hit_saves(measure):
    _, rows = measure("hits", "--repeats", "1")
    assert [(row["behaviours"], row["candidates"], row["state"]) for row in rows] == [
        (length, count, state) for length in LENGTHS for count in CANDIDATES
        for state in ("uncached", "held", "held, by token", "one appended, by token")]
    assert all(float(row["ratio_to_uncached"]) == 1 for row in rows if row["state"] == "uncached")


def test_the_parts_of_a_hit(measure):
    _, rows = measure("user_cache", "--calls", "1000", "--bytes", str(4 << 20))
    reads = [(row["behaviours"], row["users"], row["threads"]) for row in rows if row["part"] == "read"]
    assert reads == [(length, users, threads) for length in ("0", *LENGTHS) for users in ("few", "many")
                     for threads in ("1", "8")]
    assert all(float(row["nanoseconds"]) > 0 for row in rows)
    assert {row["part"] for row in rows} == {"read", "compare", "restore"}


def test_memory_is_what_is_counted(measure):
    """All that the million must show, with fewer users: the program fails where one of it is not so."""
    output, rows = measure("million", "--users", "40000", "--seconds", "2")
    assert "a quarter full" in output and "after coming and going" in output
    assert [row["phase"] for row in rows].count("fill") == 100
    assert rows[-1]["phase"] == "end" and int(rows[-1]["deleted"]) > 0
