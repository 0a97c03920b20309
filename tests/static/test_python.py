"""Python that flake8 and mypy are content with: Debian's versions, and .flake8 at the top.
"""

import os
import re
import subprocess

import pytest

from support import builds

TOP = builds.TOP
# mypy finds the package `dien` from its own folder.
# Other folders are checked from the top. Files of one name in two folders are checked apart.
TYPED = [("model/export", ["."]), ("", ["deploy"]), ("", ["tests/bench"]), ("", ["tests/export"]),
         ("", ["tests/support", "tests/static"]), ("", ["tests/mutation"]), ("", ["tests/faults"]), ("", ["tests/clients"]),
         ("", ["tests/deploy"])]


# The rooms of the package `dien`; each imports only those before it.
PACKAGE_ROOMS = ["client", "request_log", "model", "data", "training", "sources", "serving"]


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


def package_imports():
    """(file, room, imported room) of every import within the package."""
    package = TOP / "model" / "export" / "dien"
    for path in sorted(package.rglob("*.py")):
        for line in path.read_text().splitlines():
            found = re.match(r"\s*(?:from|import) dien\.(\w+)", line)
            if found and len(path.relative_to(package).parts) == 2:
                yield path.name, path.parent.name, found[1]


def test_rooms_of_the_package():
    seen = list(package_imports())
    assert len(seen) > 50
    wrong = [each for each in seen
             if each[2] not in PACKAGE_ROOMS or PACKAGE_ROOMS.index(each[2]) > PACKAGE_ROOMS.index(each[1])]
    assert not wrong
    assert not [each for each in seen if each[1:] == ("sources", "training")]
