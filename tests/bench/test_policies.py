"""The simulator of eviction policies against itself; its figures are worth no more than this."""

import csv
import subprocess


def test_hand_made_traces_and_exhaustive_search(build):
    ran = subprocess.run([build.directory / "bench" / "policies", "--check"], check=False, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    assert (ran.returncode, ran.stdout) == (0, "policies: all checks passed\n")


def simulate(build, path, seed):
    subprocess.run([build.directory / "bench" / "policies", "--requests", "200000", "--workload", "sessions-2k", "--seed",
                    str(seed), "--csv", path], check=True, stdout=subprocess.DEVNULL)
    return path.read_text()


def test_a_seed_repeats_a_run_and_nothing_beats_the_optimum(build, tmp_path):
    first = simulate(build, tmp_path / "first.csv", 1)
    assert simulate(build, tmp_path / "again.csv", 1) == first
    assert simulate(build, tmp_path / "other.csv", 2) != first
    rows = list(csv.DictReader(first.splitlines()))
    assert len(rows) == 4 * (2 * 5 + 1)
    best = {row["percent_of_users"]: float(row["object_hit_ratio"]) for row in rows if row["policy"] == "optimum"}
    assert all(0 < float(row["object_hit_ratio"]) <= best[row["percent_of_users"]] for row in rows)
