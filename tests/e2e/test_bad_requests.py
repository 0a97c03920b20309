"""Bad bodies: each with its own status, type and JSON pointer; the connection and the neighbours unharmed."""

import copy
import json
import random

import pytest

# One request at a time: ThreadSanitizer sees as much in test_http.py.
pytestmark = pytest.mark.only_on("release", "asan")

INVALID_JSON = (400, "invalid-json", "")


def invalid(pointer):
    return (400, "invalid-request", pointer)


@pytest.fixture(scope="module")
def good(demo):
    """A request that is right; each case spoils one thing."""
    return demo.request(random.Random(3), history=4, candidates=3)


@pytest.fixture(scope="module")
def names(demo):
    """Fields of the demo model, by what they can go wrong in."""
    index = [(group, name) for group in ("user", "context") for name in demo.group(group)
             if demo.fields[name].get("ids") == "index"]
    strings = [name for name in demo.group("candidate") if isinstance(demo.known_ids(name)[0], str)]
    attributes = [name for name in demo.config["groups"]["behaviour"] if "attribute_of" in demo.fields[name]]
    return {"single": index[0], "string": strings[0], "attribute": attributes[0]}


def expect(server, client, body, status, slug, pointer, good):
    """The problem as RFC 9457 wants it; then the same connection, unless the server says it closes it, still works."""
    reply = client.post(body)
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert problem["type"].rstrip("/").endswith(slug)
    assert problem["title"] and problem["detail"]
    if pointer is not None:
        assert problem["pointer"] == pointer, problem
    assert reply.headers["X-Request-Id"]
    assert not reply.closes, "nothing is wrong with the connection"
    assert client.post(good).status == 200
    return problem


TEXTS = {
    "empty body": "",
    "spaces": "   ",
    "cut short": '{"candidates": {"item": ["B1"',
    "half a string": '{"candidates": {"item": ["B1',
    "trailing text": '{"candidates": {"item": ["B1"]}} x',
    "two documents": '{"candidates": {"item": ["B1"]}}{}',
    "trailing comma": '{"candidates": {"item": ["B1"],}}',
    "single quotes": "{'candidates': {'item': ['B1']}}",
    "bare word": "nul",
    "comment": '{"top_k": 1 /* one */}',
    "NaN": '{"candidates": {"item": [NaN]}}',
    "Infinity": '{"candidates": {"item": [Infinity]}}',
    "minus Infinity": '{"candidates": {"item": [-Infinity]}}',
    "NUL after a number": '{"top_k": 1\0}',
    "NUL after a fraction": '{"top_k": 1.5\0}',
    "NUL between values": '{"candidates": {"item": [1\0, 2]}}',
    "NUL at the end": '{"top_k": 1}\0',
    "leading zero": '{"top_k": 01}',
    "hexadecimal": '{"top_k": 0x10}',
    "key twice": '{"top_k": 1, "top_k": 2}',
    "key twice inside": '{"candidates": {"item": ["B1"], "item": ["B2"]}}',
    "key twice by escape": '{"top_k": 1, "\\u0074op_k": 2}',
    "U+0000 in a name": '{"a\\u0000b": 1}',
    "lone surrogate": '{"candidates": {"item": ["\\ud800"]}}',
    "control character": '{"user_id": "a\nb"}',
    "byte order mark twice": "\ufeff\ufeff{}",
    "byte order mark at the end": "{}\ufeff",
    "depth bomb of arrays": "[" * 100_000,
    "depth bomb, closed": "[" * 5000 + "]" * 5000,
    "depth bomb of objects": '{"a":' * 20_000,
    "depth bomb in a known place": '{"candidates": {"item": ' + "[" * 3000 + "]" * 3000 + "}}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_not_json(server, neighbour, good, text):
    with server.client() as client:
        expect(server, client, text, *INVALID_JSON, good)


BYTES = {
    "stray continuation": b"\x80",
    "cut sequence": b"\xc3",
    "overlong slash": b"\xc0\xaf",
    "overlong three": b"\xe0\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "Latin-1": b"caf\xe9",
    "NUL": b"\x00",
}


@pytest.mark.parametrize("wrong", BYTES.values(), ids=BYTES.keys())
def test_not_utf8(server, neighbour, good, wrong):
    with server.client() as client:
        expect(server, client, b'{"candidates": {"item": ["' + wrong + b'"]}}', *INVALID_JSON, good)
        expect(server, client, b'{"' + wrong + b'": 1}', *INVALID_JSON, good)


def test_utf16(server, neighbour, good):
    with server.client() as client:
        expect(server, client, json.dumps(good).encode("utf-16"), *INVALID_JSON, good)


@pytest.mark.parametrize("document", [[], 5, "x", None, True, [{}]], ids=repr)
def test_not_an_object(server, neighbour, good, document):
    with server.client() as client:
        expect(server, client, json.dumps(document).encode(), *invalid(""), good)


MEMBERS = {
    "unknown member": ("histroy", {}, "/histroy"),
    "unknown member to be escaped": ("a/b~c", {}, "/a~1b~0c"),
    "history token, which is for later": ("history_token", "x", "/history_token"),
    "candidates null": ("candidates", None, "/candidates"),
    "candidates a number": ("candidates", 5, "/candidates"),
    "candidates a string": ("candidates", "B1", "/candidates"),
    "candidates true": ("candidates", True, "/candidates"),
    "candidates empty rows": ("candidates", [], "/candidates"),
    "candidates rows of numbers": ("candidates", [5], "/candidates/0"),
    "candidates rows of null": ("candidates", [None], "/candidates/0"),
    "history a string": ("history", "A1", "/history"),
    "history rows of strings": ("history", ["A1"], "/history/0"),
    "user an array": ("user", [], "/user"),
    "user a number": ("user", 29, "/user"),
    "context an array": ("context", [8], "/context"),
    "top_k zero": ("top_k", 0, "/top_k"),
    "top_k negative": ("top_k", -1, "/top_k"),
    "top_k a fraction": ("top_k", 1.5, "/top_k"),
    "top_k a string": ("top_k", "3", "/top_k"),
    "top_k beyond 64 bits": ("top_k", 2**63, "/top_k"),
    "top_k beyond doubles": ("top_k", 10**400, "/top_k"),
    "explain a string": ("explain", "yes", "/explain"),
    "explain a number": ("explain", 1, "/explain"),
    "user_id a number": ("user_id", 42, "/user_id"),
    "unknown member null": ("histroy", None, "/histroy"),
}

USER_IDS = {
    "empty": b"", "too long": b"u" * 257, "very long": b"u" * 100_000, "too wide": "用".encode() * 134, "U+0000": b"a\\u0000b",
    "lone surrogate": b"\\ud800", "two high surrogates": b"\\ud800\\ud800", "Latin-1": b"Zo\xeb", "overlong": b"\xc0\x80",
    "surrogate in bytes": b"\xed\xa0\x80", "cut sequence": b"\xc3",
}


@pytest.mark.parametrize("user", USER_IDS.values(), ids=USER_IDS.keys())
def test_wrong_user_id(server, neighbour, good, user):
    body = json.dumps({**good, "user_id": ""}).encode()
    with server.client() as client:
        for text in (body, b'{"user_id": "", ' + json.dumps(good).encode()[1:]):
            spoiled = text.replace(b'"user_id": "', b'"user_id": "' + user)
            expect(server, client, spoiled, 400, "invalid-user-id", "/user_id", good)


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1e300", "1e999", "-1e999", "1e20",
                                    "9" * 400])
def test_numbers_out_of_range_point_at_their_place(server, neighbour, good, names, number):
    """No integer of 64 bits: said at its place, as a request's mistake; in a string's place as well."""
    group, field = names["single"]
    with server.client() as client:
        for where, body, pointer in ((group, {**good, group: {**good[group], field: "#"}}, f"/{group}/{field}"),
                                     ("candidates", {**good, "candidates": {**good["candidates"], names["string"]: ["#"] * 3}},
                                      f"/candidates/{names['string']}/0")):
            text = json.dumps(body).replace('"#"', number)
            problem = expect(server, client, text, *invalid(pointer), good)
            assert ("integer" if where == group else "string") in problem["detail"], problem


@pytest.mark.parametrize("member, value, pointer", MEMBERS.values(), ids=MEMBERS.keys())
def test_wrong_member(server, neighbour, good, member, value, pointer):
    with server.client() as client:
        expect(server, client, {**good, member: value}, *invalid(pointer), good)


@pytest.mark.parametrize("member", ["candidates", "user", "context"])
def test_missing_member(server, neighbour, good, demo, member):
    if member in good:
        body = {name: value for name, value in good.items() if name != member}
        with server.client() as client:
            problem = expect(server, client, body, 400, "invalid-request", None, good)
            assert problem["pointer"] in ("", f"/{member}") or problem["pointer"].startswith(f"/{member}/")


WRONG_STRINGS = {"integer": 5, "fraction": 1.5, "null": None, "true": True, "array": ["B1"], "object": {}}


@pytest.mark.parametrize("group", ["history", "candidates"])
@pytest.mark.parametrize("value", WRONG_STRINGS.values(), ids=WRONG_STRINGS.keys())
def test_wrong_type_where_a_string_belongs(server, neighbour, good, names, group, value):
    """In columns and in rows, each with its own pointer."""
    field = names["string"]
    columns = copy.deepcopy(good)
    columns[group][field][1] = value
    as_rows = {**columns, group: [dict(zip(columns[group], row)) for row in zip(*columns[group].values())]}
    with server.client() as client:
        expect(server, client, columns, *invalid(f"/{group}/{field}/1"), good)
        expect(server, client, as_rows, *invalid(f"/{group}/1/{field}"), good)


WRONG_INDICES = {"string": "29.0", "fraction": 2.5, "negative": -1, "negative real": -1.0, "smallest": -2**63,
                 "leading zero": "029", "false": False, "array": [1], "object": {}}


@pytest.mark.parametrize("value", WRONG_INDICES.values(), ids=WRONG_INDICES.keys())
def test_wrong_index(server, neighbour, good, names, value):
    group, field = names["single"]
    with server.client() as client:
        expect(server, client, {**good, group: {**good[group], field: value}}, *invalid(f"/{group}/{field}"), good)


def test_a_required_field_is_not_null(server, neighbour, good, names):
    """Null is absence: the field is missing, and the problem names it."""
    group, field = names["single"]
    with server.client() as client:
        problem = expect(server, client, {**good, group: {**good[group], field: None}}, *invalid(f"/{group}"), good)
        assert f'"{field}"' in problem["detail"]


NULLS = ("user_id", "top_k", "explain", "history_token", "history_append")


@pytest.mark.parametrize("name", NULLS)
def test_null_members_are_absent(server, good, name):
    assert server.score({**good, name: None}).scores() == server.score(good).scores()


def test_null_history_and_attributes(server, good, names):
    """Null in each place where a member or an attribute may be left out, and a byte order mark before it all."""
    absent = {name: value for name, value in good.items() if name != "history"}
    assert server.score({**absent, "history": None}).scores() == server.score(absent).scores()
    field, plain = names["attribute"], server.score(good).scores()
    as_rows = {**good, "candidates": [dict(zip(good["candidates"], row)) for row in zip(*good["candidates"].values())]}
    as_rows["candidates"][1][field] = None
    for body in ({**good, "history": {**good["history"], field: None}},
                 {**good, "history": {**good["history"], field: [None] * 4}},
                 as_rows, dict.fromkeys(NULLS) | good):
        assert server.score(body).scores() == plain
        assert server.score(b"\xef\xbb\xbf" + json.dumps(body).encode()).scores() == plain


FORMS = [29, 29.0, "29", b"2.9e1", b"290e-1", b"29.000000000000000000"]


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_forms_of_an_integer(server, good, form):
    body = {**good, "user": {**good["user"], "country": "#"}}
    text = json.dumps(body).replace('"#"', form.decode() if isinstance(form, bytes) else json.dumps(form))
    reply = server.score(text)
    assert reply.scores() == server.score({**good, "user": {**good["user"], "country": 29}}).scores()
    assert server.score({**good, "top_k": 1.0}).body == server.score({**good, "top_k": 1}).body


def test_wrong_attribute(server, neighbour, good, names):
    """An attribute may be left out, but not be wrong."""
    field = names["attribute"]
    body = {**good, "history": {**good["history"], field: [1, 1, "x", 1]}}
    with server.client() as client:
        expect(server, client, body, *invalid(f"/history/{field}/2"), good)


@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, str(2**64 - 1), 1e19, 1e17])
def test_huge_index_is_unknown(server, neighbour, good, names, value):
    """Past the table's end is an unknown id, not an error; and never a row of another table."""
    group, field = names["single"]
    reply = server.score({**good, group: {**good[group], field: value}})
    assert reply.status == 200 and reply.json()["unknown"][field] == 1


@pytest.mark.parametrize("group", ["history", "candidates"])
def test_unknown_field(server, neighbour, good, names, group):
    body = {**good, group: {**good[group], "nosuch": good[group][names["string"]]}}
    as_rows = {**good, group: [{names["string"]: value} for value in good[group][names["string"]]]}
    as_rows[group][2]["nosuch"] = 1
    with server.client() as client:
        expect(server, client, body, *invalid(f"/{group}/nosuch"), good)
        expect(server, client, as_rows, *invalid(f"/{group}/2/nosuch"), good)


def test_unknown_single_field(server, neighbour, good, names):
    group, _ = names["single"]
    with server.client() as client:
        expect(server, client, {**good, group: {**good[group], "nosuch": 1}}, *invalid(f"/{group}/nosuch"), good)


def test_a_field_of_another_group(server, neighbour, good, names):
    """Known to the model, but not here."""
    group, field = names["single"]
    body = {**good, "candidates": {**good["candidates"], field: [1] * 3}}
    with server.client() as client:
        expect(server, client, body, *invalid(f"/candidates/{field}"), good)


def test_missing_field(server, neighbour, good, names):
    group, _ = names["single"]
    field = names["string"]
    with server.client() as client:
        for where, body in (("candidates", {**good, "candidates": {}}), (group, {**good, group: {}}),
                            ("history", {**good, "history": {names["attribute"]: [1, 2]}})):
            problem = expect(server, client, body, 400, "invalid-request", None, good)
            assert problem["pointer"] in (f"/{where}", f"/{where}/{field}", f"/{where}/{names['single'][1]}")
        as_rows = {**good, "candidates": [{field: good["candidates"][field][0]}, {}]}
        problem = expect(server, client, as_rows, 400, "invalid-request", None, good)
        assert problem["pointer"] in ("/candidates/1", f"/candidates/1/{field}")


@pytest.mark.parametrize("group", ["history", "candidates"])
def test_columns_of_unequal_length(server, neighbour, good, names, group):
    field = names["attribute"]
    for length in (0, 1, 2, 50):
        body = {**good, group: {**good[group], field: [1] * length}}
        with server.client() as client:
            problem = expect(server, client, body, 400, "invalid-request", None, good)
            assert problem["pointer"] in (f"/{group}/{field}", f"/{group}/{names['string']}")


def test_empty_candidates(server, neighbour, good, names):
    with server.client() as client:
        for candidates in ({names["string"]: []}, {}, []):
            body = {**good, "candidates": candidates}
            problem = expect(server, client, body, 400, "invalid-request", None, good)
            assert problem["pointer"] in ("/candidates", f"/candidates/{names['string']}")


def test_too_many_fields(server, neighbour, good):
    """Thousands of columns, or rows that each bring a field of their own, cost no more than a look."""
    columns = {**good, "candidates": {f"f{i}": ["x"] for i in range(5000)}}
    as_rows = {**good, "candidates": [{f"f{i}": "x"} for i in range(5000)]}
    with server.client() as client:
        for body in (columns, as_rows):
            problem = expect(server, client, body, 400, "invalid-request", None, good)
            assert problem["pointer"].startswith("/candidates")


def test_very_long_names(server, neighbour, good):
    """A pointer is cut at whole characters; the problem stays JSON."""
    with server.client() as client:
        for name in ("x" * 50_000, "ü" * 20_000, "/" * 5000, "~" * 5000, "\U0001f600" * 5000):
            problem = expect(server, client, {**good, name: 1}, 400, "invalid-request", None, good)
            assert problem["pointer"].startswith("/")


def test_every_bad_request_is_counted(server, good):
    before = server.metrics()
    with server.client() as client:
        client.post("{")
        client.post({**good, "top_k": 0})
        client.post({**good, "top_k": 0})
    after = server.metrics()
    grown = {name: after[name] - before[name] for name in after
             if name.startswith("dien_requests_total") and after[name] != before[name]}
    assert {value for name, value in grown.items() if "invalid-json" in name} == {1}
    assert {value for name, value in grown.items() if "invalid-request" in name} == {2}


# Cuts and flips of a good request: 400 or 200, never a crash, never an answer to another question.

def test_cut_at_every_byte(server, neighbour, good):
    body = json.dumps(good).encode()
    with server.client() as client:
        for length in range(len(body)):
            assert client.post(body[:length]).status == 400
        assert client.post(body).status == 200


def test_bytes_replaced(server, neighbour, good, rng):
    body = json.dumps(good).encode()
    with server.client() as client:
        for _ in range(400):
            spoiled = bytearray(body)
            for _ in range(rng.randint(1, 3)):
                spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
            assert client.post(bytes(spoiled)).status in (200, 400)
