"""The simulator of eviction policies against itself, and the server's cache against the simulator."""

import csv
import subprocess

import pytest

pytestmark = pytest.mark.only_on("release", "asan")  # one thread


def test_traces_worked_by_hand_and_the_cache_against_the_simulator(build):
    ran = subprocess.run([build.directory / "bench" / "policies", "--check"], check=False, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    assert ran.returncode == 0 and ran.stdout.endswith("\npolicies: all checks passed\n"), ran.stdout


def simulate(build, path, seed):
    requests = 50_000 if build.sanitized else 200_000  # a sanitizer sees the same code in either
    subprocess.run([build.directory / "bench" / "policies", "--requests", str(requests), "--workload", "sessions-2k",
                    "--seed", str(seed), "--csv", path], check=True, stdout=subprocess.DEVNULL)
    return list(csv.DictReader(path.read_text().splitlines()))


def simulated(rows):
    """Without the server's own cache, whose hashes are seeded anew at every run."""
    return [row for row in rows if row["policy"] != "server"]


def test_a_seed_repeats_a_run(build, tmp_path):
    first = simulate(build, tmp_path / "first.csv", 1)
    assert simulated(simulate(build, tmp_path / "again.csv", 1)) == simulated(first)
    assert simulated(simulate(build, tmp_path / "other.csv", 2)) != simulated(first)
    assert len(first) == 4 * 3 and all(0 < float(row["hit_ratio"]) < 1 for row in first)
