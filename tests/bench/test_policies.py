"""The simulator of eviction policies against itself; its figures are worth no more than this."""

import csv
import subprocess


def test_hand_made_traces_and_exhaustive_search(build):
    ran = subprocess.run([build.directory / "bench" / "policies", "--check"], check=False, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    assert ran.returncode == 0 and ran.stdout.endswith("\npolicies: all checks passed\n"), ran.stdout


def simulate(build, path, seed):
    requests = 50_000 if build.sanitized else 200_000  # a sanitizer sees the same code in either
    subprocess.run([build.directory / "bench" / "policies", "--requests", str(requests), "--workload", "sessions-2k", "--seed",
                    str(seed), "--csv", path], check=True, stdout=subprocess.DEVNULL)
    return path.read_text()


def simulated(text):
    """Without the server's own cache, whose hashes are seeded anew at every run."""
    return [row for row in csv.DictReader(text.splitlines()) if row["policy"] != "server"]


def test_a_seed_repeats_a_run_and_nothing_beats_the_optimum(build, tmp_path):
    first = simulate(build, tmp_path / "first.csv", 1)
    assert simulated(simulate(build, tmp_path / "again.csv", 1)) == simulated(first)
    assert simulated(simulate(build, tmp_path / "other.csv", 2)) != simulated(first)
    rows = list(csv.DictReader(first.splitlines()))
    assert len(rows) == 4 * (2 * 5 + 2)
    best = {row["percent_of_users"]: float(row["object_hit_ratio"]) for row in rows if row["policy"] == "optimum"}
    room = {"server": 0.002}  # its budget is in bytes: a few users more than the others hold
    assert all(0 < float(row["object_hit_ratio"]) <= best[row["percent_of_users"]] + room.get(row["policy"], 0)
               for row in rows)
