"""The cache of user states takes the memory that it counts, with fewer users than `make bench-memory` has."""

import csv
import subprocess
import sys

import pytest

from support import builds

BENCH = builds.TOP / "tests" / "bench"

# Under a sanitizer the resident set says nothing; tests/unit tests the cache there.
pytestmark = pytest.mark.only_on("release")


@pytest.fixture(scope="session")
def reference_shape(tmp_path_factory):
    output = tmp_path_factory.mktemp("bench") / "reference-shape"
    subprocess.run([sys.executable, BENCH / "reference_shape.py", "--output", output], check=True)
    return output


@pytest.fixture
def measure(build, reference_shape, tmp_path):
    """measure(program, *options): its output, and the rows of its CSV."""
    def run(program, *options):
        path = tmp_path / f"{program}.csv"
        ran = subprocess.run([build.directory / "bench" / program, reference_shape, "--csv", path, *options],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
        assert ran.returncode == 0, ran.stdout
        return ran.stdout, list(csv.DictReader(path.read_text().splitlines()))
    return run


def test_memory_is_what_is_counted(measure):
    """The program itself fails when one of its requirements does not hold."""
    output, rows = measure("million", "--users", "40000", "--seconds", "2")
    assert "a quarter full" in output and "after coming and going" in output
    assert [row["phase"] for row in rows].count("fill") == 100
    assert rows[-1]["phase"] == "end" and int(rows[-1]["deleted"]) > 0
