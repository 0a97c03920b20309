"""`make fleet` in its short form: the whole scene on real processes, and what its table would say of a fault."""

import importlib.util
import subprocess
import sys

import pytest

from support import builds

FLEET = builds.TOP / "deploy" / "fleet.py"
PHASES = ["all is well", "kill -9 of one", "rolling restart", "a new model", "and back", "Redis away, and back",
          "all is well again"]


@pytest.mark.check_only
@pytest.mark.only_on("release")
@pytest.mark.xdist_group("balancers")
def test_the_scene(build):
    ran = subprocess.run([sys.executable, FLEET, "--build", build.directory, "--seconds", "1"], cwd=builds.TOP,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:]
    table = ran.stdout.partition("\n\n")[2].splitlines()
    assert [row.split("  ")[0] for row in table[1:1 + len(PHASES)]] == PHASES
    assert "each of which counts once" in ran.stdout


@pytest.fixture(scope="module")
def fleet():
    spec = importlib.util.spec_from_file_location("fleet_scene", FLEET)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def phase(fleet, name="p", allows=False, **members):
    made = fleet.Phase(name, allows)
    made.requests = 5
    for member, value in members.items():
        setattr(made, member, value)
    return made


def test_the_verdict(fleet):
    assert list(fleet.verdict([phase(fleet), phase(fleet, allows=True, unavailable=3), phase(fleet, hasty_failed=1)])) == []
    faults = [phase(fleet, requests=0), phase(fleet, failed=1, faults=["502"]), phase(fleet, unavailable=1),
              phase(fleet, seen="nothing of: it was down")]
    assert len(list(fleet.verdict(faults))) == len(faults)


def test_a_row_has_a_cell_for_each_heading(fleet):
    shown = phase(fleet, seconds=[0.001, 0.002, 0.003])
    shown.states.update({"cached": 2, "extended": 1, "computed": 1, "absent": 7})
    row = shown.row()
    assert len(row) == len(fleet.HEAD) == len(fleet.WIDTHS)
    assert row[fleet.HEAD.index("hit ratio")] == "75%" and row[fleet.HEAD.index("p50 ms")] == "2.0"
