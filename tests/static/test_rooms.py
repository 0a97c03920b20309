"""The rooms of the C code: the table in rooms.py holds, no room and no file stands on itself, libraries have their doors."""

import copy
import pathlib
import re

import pytest

import rooms
from support import builds

TREE = rooms.read_tree(builds.TOP)

# Includes that the table forbids and that are still there. This list may only shrink: an entry that is mended must go.
KNOWN: set[str] = set()
KNOWN_CIRCLES: list[list[str]] = []

# Pairs of NAME.c and NAME.h that need each other: a part of a job in a file of its own, which reads the job's types.
KNOWN_PARTNERS = [
    ["model/network/extractor", "model/network/user"],
    ["server/api/admin_calls", "server/api/api", "server/api/history_calls", "server/api/model_slots"],
    ["server/histories/history_engine", "server/histories/history_store"],
    ["server/scoring/request", "server/scoring/resolve"],
    ["server/users/eviction", "server/users/user_cache", "server/users/user_entry"],
]
HTTP_REACH = 11  # own headers that http.h includes, and those that they include

# The one place for each library. Another file that needs one is an entry here, and a sentence in its review.
ENTRANCES = {
    "microhttpd.h": {"server/http/http.c"},
    "uv.h": {"server/base/loop.c", "server/histories/loop_handles.c"},
    "jansson.h": {"proto/json_decode.c", "model/format/config.c", "model/format/safetensors.c"},
    "score.pb-c.h": {"proto/protobuf.c"},
    "history.pb-c.h": {"proto/history_record.c"},
    "cblas.h": {"model/kernels/openblas.c"},
    "async.h": {"server/histories/redis_node.c"},
    "hiredis.h": {"server/histories/redis_engine.c", "server/histories/redis_node.c", "server/histories/redis_transfer.c"},
    "lmdb.h": {"server/histories/lmdb_engine.c"},
    "zlib.h": {"proto/content_coding.c"},
    "xxhash.h": {"server/scoring/rollout.c", "server/users/user_cache.c"},
    "zstd.h": {"server/base/record_files.c"},
}


def planted(path, include):
    """The tree with one more include."""
    tree = copy.deepcopy(TREE)
    tree[path].append(include)
    return tree


def test_there_is_something_to_look_at():
    assert len(TREE) > 100
    assert sum(map(len, TREE.values())) > 500


def test_every_include_is_in_the_table():
    assert sorted(set(rooms.violations(TREE)) - KNOWN) == []


def test_known_violations_are_still_there():
    assert sorted(KNOWN - set(rooms.violations(TREE))) == [], "mended: strike it from KNOWN"


@pytest.mark.parametrize(("path", "include"), [
    ("server/http/http.c", "server/scoring/job_queue.h"), ("server/http/connections.h", "server/users/user_cache.h"),
    ("server/http/routes.c", "model/dien.h"), ("server/http/http.c", "proto/json_decode.h"),
    ("server/base/log.c", "proto/arena.h"),
    ("server/users/eviction.c", "server/scoring/job_queue.h"), ("server/users/user_state.c", "proto/json_encode.h"),
    ("server/histories/history_store.c", "server/http/http.h"), ("server/histories/history_store.h", "model/dien.h"),
    ("server/scoring/request.c", "server/http/http.h"), ("server/scoring/request.c", "model/format/bind.h"),
    ("server/models/model_loader.c", "server/api/model_page.h"), ("server/api/user_page.c", "server/service.h"),
    ("model/score.c", "proto/score.h"), ("model/kernels/ref.c", "model/format/config.h"),
    ("model/format/config.c", "model/network/scratch.h"), ("proto/arena.c", "server/base/clock.h"),
    ("model/network/mlp.c", "server/base/clock.h")])
def test_a_planted_include_is_found(path, include):
    assert f"{path} includes {include}" in rooms.violations(planted(path, include))


def test_a_file_in_no_room_is_found():
    assert "server/fleet/fleet.c is in no room" in rooms.violations({**TREE, "server/fleet/fleet.c": []})


def test_the_table_has_no_circle():
    graph = {room: {rooms.room_of(each) if each.endswith(".h") else each for each in allowed}
             for room, allowed in rooms.ROOMS.items()}
    assert set().union(*graph.values()) <= set(graph), "a room that is no room"
    assert rooms.circles(graph) == []


def test_no_room_stands_on_itself():
    assert [group for group in rooms.circles(rooms.room_graph(TREE)) if group not in KNOWN_CIRCLES] == []


def test_no_file_includes_itself_in_a_circle():
    assert rooms.circles({path: rooms.own_includes(TREE, path) for path in TREE}) == []


def test_files_that_need_each_other_are_known():
    assert [group for group in rooms.circles(rooms.unit_graph(TREE)) if group not in KNOWN_PARTNERS] == []


def test_a_planted_circle_is_found():
    top = "server/http/http.h"
    below = rooms.own_includes(TREE, top)[0]
    tree = planted(below, top)
    assert any({top, below} <= set(group) for group in rooms.circles({path: rooms.own_includes(tree, path) for path in tree}))
    assert any({"proto", "server/http"} <= set(group)
               for group in rooms.circles(rooms.room_graph(planted("proto/arena.c", top))))


def test_the_readme_repeats_the_table():
    """Each row of the README names the rooms that the table allows, or says "every room below"."""
    text = (builds.TOP / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(server/\w+)/` \| .*? \| (.*) \|$", text, re.M))
    assert set(rows) == {room for room in rooms.ROOMS if room.startswith("server/")}
    for room, said in rows.items():
        allowed = {name.removeprefix("server/") for name in rooms.ROOMS[room]}
        if said.startswith("every room below"):
            below = {name.removeprefix("server/") for name in rooms.ROOMS if name.startswith("server/")} - {"api"}
            assert below | {"proto"} <= allowed, room
            continue
        said = re.sub(r"`proto/\{([\w,]+)\}\.h`", lambda m: ", ".join(f"proto/{name}.h" for name in m[1].split(",")), said)
        said = said.replace("`model/dien.h`", "model door").replace("`", "").replace(", for log lines", "")
        assert set(said.split(", ")) == allowed, room


def test_how_far_http_reaches():
    reached = rooms.reached(TREE, "server/http/http.h")
    assert len(reached) <= HTTP_REACH, sorted(reached)


@pytest.mark.parametrize("header", ENTRANCES)
def test_a_library_enters_by_its_own_doors(header):
    entered = {path for path, names in TREE.items() if header in map(lambda name: pathlib.PurePath(name).name, names)}
    assert entered, f"nothing includes {header}"
    assert entered <= ENTRANCES[header]


def banned(room, headers):
    return [f"{path} includes {name}" for path, names in TREE.items() if path.startswith(room) for name in names
            if name in headers]


def test_model_knows_no_threads():
    """But for the lock that Debian's OpenBLAS lacks."""
    found = banned("model/", {"pthread.h", "threads.h", "uv.h", "sys/socket.h", "microhttpd.h"})
    assert [each for each in found if "model/kernels/openblas.c" not in str(each)] == []
    assert len(found) == 1


def test_kernels_know_no_files():
    assert not banned("model/kernels/", {"stdio.h", "fcntl.h", "sys/mman.h", "jansson.h"})
