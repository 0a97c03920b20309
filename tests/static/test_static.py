"""What can be seen without running anything: format, clang-tidy, rooms, words that do not belong in the tree."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from support import builds

TOP = builds.TOP
ROOMS = ("server", "model", "proto", "tests", "deploy")
C_FILES = sorted(path.relative_to(TOP) for room in ROOMS for path in (TOP / room).rglob("*.[ch]"))
SHIPPED = [path for path in C_FILES if path.parts[0] in ("server", "model", "proto")]
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def includes(path):
    return INCLUDE.findall((TOP / path).read_text())


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
    target = OTHER_TARGET if path.name == "neon.c" else []
    ran = subprocess.run(["clang-tidy", "--quiet", path, "--", "-std=c17", "-D_GNU_SOURCE", "-I.",
                          "-isystem", "build/release/generated", *target], cwd=TOP, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, check=False, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:]


# Rooms: DESIGN.md part 2, read off the include lists.

def test_there_is_something_to_look_at():
    assert len(SHIPPED) > 20


ENTRANCES = {
    "microhttpd.h": {"server/http/http.c"},
    "uv.h": {"server/base/loop.c", "server/scoring/worker_pool.c", "server/http/http.c"},
    "jansson.h": {"proto/json_decode.c", "proto/json_encode.c", "model/format/config.c", "model/format/safetensors.c"},
    "score.pb-c.h": {"proto/protobuf.c"},
    "cblas.h": {"model/kernels/openblas.c"},
    "xxhash.h": {"server/users/user_cache.c"},
}


@pytest.mark.parametrize("header", ENTRANCES)
def test_a_library_enters_by_its_own_doors(header):
    entered = {str(path) for path in SHIPPED if any(pathlib.PurePath(each).name == header for each in includes(path))}
    assert entered, f"nothing includes {header}"
    assert entered <= ENTRANCES[header]


def room_violations(room, forbidden):
    return [f"{path} includes {each}" for path in SHIPPED if path.parts[0] == room for each in includes(path)
            if each.split("/")[0] in forbidden]


def test_model_knows_no_wire_and_no_server():
    assert not room_violations("model", {"proto", "server"})


def test_proto_knows_no_model_and_no_server():
    assert not room_violations("proto", {"model", "server"})


def test_model_knows_no_threads():
    banned = {"pthread.h", "threads.h", "uv.h", "sys/socket.h", "microhttpd.h"}
    assert not [path for path in SHIPPED if path.parts[0] == "model" and banned & set(includes(path))]


def test_the_server_enters_the_model_by_its_one_door():
    assert {each for path in SHIPPED if path.parts[0] == "server" for each in includes(path)
            if each.startswith("model/")} == {"model/dien.h"}


def test_wire_and_model_meet_in_the_request_only():
    """Where a request becomes table rows and scores become a reply; elsewhere at most one of the two is known."""
    both = {str(path) for path in SHIPPED if path.suffix == ".c"
            and any(each.startswith("model/") for each in includes(path))
            and any(each in ("proto/json_decode.h", "proto/json_encode.h") for each in includes(path))}
    assert "server/scoring/request.c" in both
    assert not {path for path in both if not path.startswith("server/")}


def test_kernels_know_no_files_and_no_models():
    banned = {"stdio.h", "fcntl.h", "sys/mman.h", "jansson.h", "model/dien.h", "model/model.h"}
    assert not [path for path in SHIPPED if path.parts[:2] == ("model", "kernels") and banned & set(includes(path))]


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
    allowed = {*ROOMS, "Dockerfile", "Makefile", "README.md", "LICENSE"}
    top = {path.parts[0] for path in tracked()}
    assert {each for each in top if not each.startswith(".")} <= allowed


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


def test_continuous_integration_runs_the_readme_command():
    text = (TOP / ".ci" / "run").read_text()
    assert "make test" in text and os.access(TOP / ".ci" / "run", os.X_OK)
