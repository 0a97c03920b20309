"""--histories-export and --histories-import: lines of JSON between engines; what comes back is what was there."""

import json
import pathlib
import random
import subprocess

import pytest

from support.histories import bits, part, path_of, split
from support.redis_server import Redis
from support.service import Service

PATIENT = ("--histories-timeout", "60")


def transfer(build, *arguments, text=None):
    ran = subprocess.run([str(build.server), *map(str, arguments)], input=text, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, check=False, timeout=180)
    return ran.returncode, ran.stdout, ran.stderr


def export(build, store, *more):
    status, text, said = transfer(build, "--histories", store, "--histories-export", "-", *more)
    assert status == 0, said
    return text


def bring(build, store, text, *more):
    return transfer(build, "--histories", store, "--histories-import", "-", *more, text=text)


@pytest.fixture(name="filled", scope="module")
def filled_fixture(build, demo, tmp_path_factory):
    """A store with some users, the export of it, and a request with its scores for each user."""
    rng = random.Random(16)
    store = f"lmdb:{tmp_path_factory.mktemp('filled')}/h"
    request, history = split(demo, rng)
    scores = {}
    with Service(build, demo.path, "--histories", store, *PATIENT) as server, server.client() as client:
        for number, user in enumerate(["u", "ü \"2\"\n", "a/b?c", "v"]):
            for event in range(number + 1):
                body = {"history_append": part(history, event, event + 3), "event_id": f"e{event}"}
                assert client.post(body, path_of(user, "/history")).status == 200
            scores[user] = bits(client.post({**request, "user_id": user}))
    return store, export(build, store), request, scores


def look(client, request, scores):
    for user, expected in scores.items():
        reply = client.post({**request, "user_id": user})
        assert bits(reply) == expected and reply.json()["history"]["origin"] == "store"


def test_a_line_says_all(filled, build, demo):
    _, text, _, scores = filled
    lines = {each["user_id"]: each for each in map(json.loads, text.splitlines())}
    assert set(lines) == set(scores)
    line = lines["v"]
    assert line["encoding"] == 1 and line["count"] == 12 and "record" not in line
    assert line["event_ids"] == ["e0", "e1", "e2", "e3"] and line["event_counts"] == [3, 6, 9, 12]
    columns = line["lists"][0]["columns"]
    assert line["lists"][0]["length"] == 12 and all(len(values) == 12 for values in columns.values())


def test_from_lmdb_to_redis_and_back(filled, build, demo, tmp_path):
    _, text, request, scores = filled
    file = tmp_path / "histories.jsonl"
    file.write_text(text)
    with Redis() as redis:
        for _ in range(2):  # it can be repeated
            status, _, said = transfer(build, "--histories", redis.where, "--histories-import", file)
            assert status == 0 and "4 users were imported" in said
        with Service(build, demo.path, "--histories", redis.where, *PATIENT) as server, server.client() as client:
            look(client, request, scores)
            # Events that were applied before the export are known after it.
            columns = json.loads(text.splitlines()[0])["lists"][0]["columns"]
            body = {"history_append": part(columns, 0, 1), "event_id": "e0"}
            again = client.post(body, path_of("u", "/history"))
            assert again.status == 200 and again.json()["history"]["count"] == 3
        back = export(build, redis.where)
        assert sorted(back.splitlines()) == sorted(text.splitlines())
    other = f"lmdb:{tmp_path}/other"
    assert bring(build, other, back, "--histories-prefix", "p:")[0] == 0
    assert export(build, other, "--histories-prefix", "p:") == text and export(build, other) != text
    with Service(build, demo.path, "--histories", other, "--histories-prefix", "p:", *PATIENT) as server, \
            server.client() as client:
        look(client, request, scores)


def test_an_import_takes_the_place_of_what_is_there(filled, build, demo, tmp_path):
    _, text, request, scores = filled
    store = f"lmdb:{tmp_path}/h"
    with Service(build, demo.path, "--histories", store, *PATIENT) as server, server.client() as client:
        body = {"history_append": part(json.loads(text.splitlines()[0])["lists"][0]["columns"], 0, 1), "event_id": "x"}
        for user in ("u", "other"):
            assert client.post(body, path_of(user, "/history")).status == 200
    assert bring(build, store, text)[0] == 0
    with Service(build, demo.path, "--histories", store, *PATIENT) as server, server.client() as client:
        look(client, request, scores)
        assert client.get(path_of("other")).json()["stored"]["count"] == 1


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda line: "{", "Line 2"),
    (lambda line: json.dumps({**json.loads(line), "encoding": 2}), "Line 2, /encoding"),
    (lambda line: json.dumps({**json.loads(line), "event_counts": []}), "Line 2, /event_ids"),
    (lambda line: json.dumps({**json.loads(line), "user_id": ""}), "Line 2, /user_id"),
    (lambda line: json.dumps({**json.loads(line), "count": -1}), "Line 2, /count"),
    (lambda line: json.dumps({**json.loads(line), "more": 1}), "Line 2"),
    (lambda line: line.replace('"length":', '"length":1'), "Line 2, /lists/0/columns"),
    (lambda line: json.dumps({**json.loads(line), "record": "00"}), "Line 2, /record"),
])
def test_a_line_that_is_wrong(filled, build, tmp_path, spoil, said):
    """It is named, the import ends with 1, and the lines before it are stored."""
    _, text, _, _ = filled
    lines = text.splitlines()
    store = f"lmdb:{tmp_path}/h"
    status, _, error = bring(build, store, "\n".join([lines[0], spoil(lines[1]), lines[2]]))
    assert status == 1 and said in error and "1 users were imported" in error, error
    assert export(build, store).splitlines() == lines[:1]
    assert bring(build, store, text)[0] == 0 and export(build, store) == text


def test_a_record_with_parts_of_a_later_version(build, demo, rng):
    """They come back byte for byte, but for the revision."""
    with Redis() as redis:
        request, history = split(demo, rng)
        with Service(build, demo.path, "--histories", redis.where, *PATIENT) as server, server.client() as client:
            body = {"history_append": part(history, 0, 3), "event_id": "e"}
            assert client.post(body, path_of("u", "/history")).status == 200
        later = redis.ask("GET", "u") + b"\xfa\x07\x03new"  # field 127
        redis.ask("SET", "u", later)
        text = export(build, redis.where)
        assert json.loads(text)["record"] == later.hex()
        redis.ask("DEL", "u")
        assert bring(build, redis.where, text)[0] == 0
        back = redis.ask("GET", "u")
        assert back[9:] == later[9:] and back[:9] != later[:9]


def test_stores_that_cannot_be_used(filled, build, demo, tmp_path):
    store, text, _, _ = filled
    assert transfer(build, "--histories-export", "-")[0] == 2, "it says nothing of --histories"
    status, _, said = transfer(build, "--histories", f"lmdb:{tmp_path}/none", "--histories-export", "-")
    assert status == 1 and "No such file" in said and not (tmp_path / "none").exists()
    status, _, said = transfer(build, "--histories", f"unix:{tmp_path}/no.sock", "--histories-export", "-")
    assert status == 1 and "Redis" in said
    status, _, said = transfer(build, "--histories", store, "--histories-export", tmp_path / "no" / "file")
    assert status == 1 and "No such file" in said
    status, _, said = transfer(build, "--histories", store, "--histories-export", "/dev/full")
    assert status == 1 and "cannot be written" in said
    with Service(build, demo.path, "--histories", store):
        status, _, said = transfer(build, "--histories", store, "--histories-export", "-")
        assert status == 1 and "another process" in said


def test_logins_are_in_no_process_list(build, demo):
    secret = "v3ry-s3cret"
    address = f"redis://name:{secret}@127.0.0.1:1"
    for arguments, variables in ((("--histories", address), {}), ((f"--histories={address}",), {}),
                                 ((), {"DIEN_HISTORIES": address})):
        with Service(build, demo.path, *arguments, **variables) as server:
            process = pathlib.Path("/proc") / str(server.process.pid)
            for file in ("cmdline", "environ"):
                shown = (process / file).read_bytes()
                assert secret.encode() not in shown
            assert b"127.0.0.1:1" in (process / "cmdline").read_bytes() or not arguments
            with server.client() as client:
                for page in ("/metrics", "/model"):
                    assert secret.encode() not in client.get(page).body
            assert secret not in server.output_file.read_text()
