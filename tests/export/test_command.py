"""The command `dien`: help, exit statuses, errors of one line; from the tree and installed."""

import re
import subprocess
import sys

import pytest

from dien import __version__, cli
from support.dien_command import PACKAGE, TOP, run_dien


def test_help_lists_every_command():
    run = run_dien("--help")
    assert run.returncode == 0
    for name, (_, purpose) in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{purpose}$", run.stdout, re.M), name


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_help_with_an_example(name):
    text = cli.parser_of(name).format_help()
    assert text.startswith(f"usage: dien {name} ") and re.search(rf"^    dien {name} ", text, re.M)


@pytest.mark.parametrize("words", [[], ["convertt"], ["--nothing"], ["freeze"], ["train", "--data", "x"], ["inspect"]])
def test_wrong_words_are_status_2(words):
    run = run_dien(*words)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "usage: dien" in run.stderr + run.stdout


def test_a_near_word_is_proposed():
    assert "is 'convert' meant?" in run_dien("convrt").stderr


@pytest.mark.parametrize("words", [
    ["freeze", "--checkpoint", "none.pt", "--output", "out"], ["evaluate", "--data", "none.csv", "--output", "o", "none.pt"],
    ["train", "--data", "none.csv", "--checkpoint", "nowhere/a.pt"], ["inspect", "nowhere"],
    ["train", "--data", "none.csv", "--checkpoint", "a.pt"], ["verify", "--model", "nowhere", "--url", "http://127.0.0.1:1"]],
    ids=lambda words: "-".join(words[:2]))
def test_a_missing_file_is_one_line_that_names_it(words):
    run = run_dien(*words)
    assert run.returncode == 1 and len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert run.stderr.startswith(f"dien {words[0]}: ") and re.search("none|nowhere", run.stderr)


def test_the_version_is_the_servers():
    header = (TOP / "server" / "base" / "version.h").read_text()
    assert f'"{__version__}"' in header
    assert run_dien("--version").stdout == f"dien {__version__}\n"


@pytest.mark.parametrize("name", ["train", "evaluate", "ablate", "freeze", "convert", "verify"])
def test_the_scripts_of_version_0_1_still_run(name):
    run = subprocess.run([sys.executable, PACKAGE / f"{name}.py", "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0 and f"usage: dien {name}" in run.stdout


def test_installed_without_a_network(tmp_path):
    """A virtual environment that sees the system's packages; pip builds with the system's setuptools."""
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", tmp_path / "venv"], check=True)
    copy = tmp_path / "source"
    subprocess.run(["cp", "-r", PACKAGE, copy], check=True)
    pip = subprocess.run([tmp_path / "venv/bin/pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps",
                          copy], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert pip.returncode == 0, pip.stderr
    run = subprocess.run([tmp_path / "venv/bin/dien", "inspect", TOP / "model/demo"], capture_output=True, text=True,
                         check=False, cwd=tmp_path)
    assert run.returncode == 0 and "eshop" in run.stdout, run.stderr
    listed = subprocess.run([tmp_path / "venv/bin/python", "-c", "import dien, pkgutil; print(dien.__file__, "
                             "*[m.name for m in pkgutil.walk_packages(dien.__path__, 'dien.')])"], capture_output=True,
                            text=True, check=True, cwd=tmp_path).stdout
    assert str(tmp_path / "venv") in listed
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in (PACKAGE / "dien").rglob("*.py")}
    assert {name for name in modules if not name.endswith("__init__")} <= set(listed.split())
