"""What can be seen without running anything: format, clang-tidy, the tree's entries, words that do not belong in it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from support import builds

TOP = builds.TOP
ROOMS = ("server", "model", "proto", "tests", "deploy")
C_FILES = sorted(path.relative_to(TOP) for room in ROOMS for path in (TOP / room).rglob("*.[ch]"))


# Compilers' friends.

@pytest.mark.parametrize("path", C_FILES, ids=str)
def test_format(path):
    ran = subprocess.run(["clang-format", "--dry-run", "-Werror", path], cwd=TOP, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, check=False, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:]


# What is empty on this machine's processor is looked at for its own.
OTHER_TARGET = ["--target=aarch64-linux-gnu", "--sysroot=build/tools/aarch64"] if os.uname().machine != "aarch64" else []


@pytest.mark.parametrize("path", [path for path in C_FILES if path.suffix == ".c"], ids=str)
def test_clang_tidy(path):
    """The static analyzer walks the shipped code alone: it takes a hundred times as long as all other checks."""
    target = OTHER_TARGET if path.name == "neon.c" else []
    checks = ["--checks=-clang-analyzer-*"] if path.parts[0] == "tests" else []
    ran = subprocess.run(["clang-tidy", "--quiet", *checks, path, "--", "-std=c17", "-D_GNU_SOURCE", "-I.",
                          "-isystem", "build/release/generated", *target], cwd=TOP, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, check=False, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:]


def test_every_c_file_says_what_it_is():
    for path in C_FILES:
        text = (TOP / path).read_text()
        assert text.startswith(f"/* {path.name}:"), f"{path} does not open with its job"


# The tree.

def tracked():
    """The tree's files: git's, or in an unpacked archive all but what .gitignore keeps out."""
    if shutil.which("git"):
        ran = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=TOP, check=False,
                             capture_output=True, text=True)
        if ran.returncode == 0:
            return [pathlib.Path(line) for line in ran.stdout.splitlines() if (TOP / line).is_file()]
    kept_out = {"build", "__pycache__", ".pytest_cache", "node_modules", ".git"}
    return [path.relative_to(TOP) for path in TOP.rglob("*")
            if path.is_file() and not kept_out & set(path.relative_to(TOP).parts)]


def test_top_level_entries():
    allowed = {*ROOMS, "CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "README.md"}
    hidden = {".ci", ".clang-format", ".clang-tidy", ".dockerignore", ".editorconfig", ".flake8", ".github",
              ".gitignore"}
    top = {path.parts[0] for path in tracked()}
    assert top <= allowed | hidden


# Spelled in two parts, so that this file is not its own first finding.
ABSENT = ["/wor" + "k/main", "/wor" + "k/shared", "/ro" + "ot/", "registry." + "npmjs", "TO" + "DO", "FIX" + "ME"]


def test_nothing_of_one_machine_and_nothing_left_to_do():
    found = []
    for path in tracked():
        if path.suffix in (".safetensors", ".pt", ".gz"):
            continue
        text = (TOP / path).read_text(errors="replace")
        found += [f"{path}: {word}" for word in ABSENT if word in text]
    assert not found, found


def test_no_large_file():
    large = [f"{path}: {(TOP / path).stat().st_size}" for path in tracked() if (TOP / path).stat().st_size > 4_000_000]
    assert not large, large


def test_continuous_integration_runs_the_readme_commands():
    text = (TOP / ".ci" / "run").read_text()
    readme = (TOP / "README.md").read_text()
    assert os.access(TOP / ".ci" / "run", os.X_OK)
    for command in ("make test", "make check"):
        assert command in text and command in readme, command
    assert "make demo" in readme


def test_the_changelog_is_of_this_version():
    version = re.search(r'"(\d+\.\d+\.\d+)"', (TOP / "server" / "base" / "version.h").read_text())[1]
    found = re.findall(r"^## \[?v?(\d+\.\d+\.\d+)", (TOP / "CHANGELOG.md").read_text(), re.M)
    assert found[:1] == [version]


def test_the_table_of_mutants_is_of_this_tree():
    ran = subprocess.run([sys.executable, "tests/mutation/mutation.py", "--check"], cwd=TOP,
                         capture_output=True, check=False, text=True)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.split()[0]) >= 100
