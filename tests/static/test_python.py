"""Python that flake8 and mypy are content with: Debian's versions, and .flake8 at the top.
"""

import os
import subprocess

import pytest

from support import builds

TOP = builds.TOP
# Files of model/export import one another as plain modules, so mypy runs in their folder.
# Other folders are checked from the top. Files of one name in two folders are checked apart.
TYPED = [("model/export", ["."]), ("", ["deploy"]), ("", ["tests/bench"]), ("", ["tests/export"]),
         ("", ["tests/support", "tests/static"]), ("", ["tests/mutation"]), ("", ["tests/faults"])]


def run(command, folder=""):
    ran = subprocess.run(command, cwd=TOP / folder, capture_output=True, check=False, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr


def test_flake8():
    run(["flake8", "model/export", "tests", "deploy"])


@pytest.mark.parametrize(("folder", "paths"), TYPED, ids=lambda value: "-".join(value) if isinstance(value, list) else value)
def test_types(folder, paths):
    """Each run has a cache of its own under build/, because two runs at once would spoil a shared one."""
    cache = TOP / "build" / "mypy" / "-".join([folder, *paths]).replace(os.sep, "-")
    strict = ["--disallow-untyped-defs", "--warn-unused-ignores"] if folder else []
    run(["mypy", "--ignore-missing-imports", "--no-site-packages", "--explicit-package-bases", "--namespace-packages",
         *strict, f"--cache-dir={cache}", *paths], folder)
