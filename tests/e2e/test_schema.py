"""Server and OpenAPI document agree: of random documents, valid and nearly valid, the server takes those that are valid.

The schema is that of proto/openapi.json with the values of each field narrowed to its kind by GET /model. Two rules are
beyond a schema, so this file has them: columns have one length, and an integer as a string fits in 64 bits.
"""

import copy
import json
import math
import random

import jsonschema
import pytest

from support import builds
from support.modelfile import ModelDirectory
from support.service import Service

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release", "asan")]

SCHEMAS = json.loads((builds.TOP / "proto" / "openapi.json").read_text())["components"]["schemas"]
DOCUMENTS = 700  # for each model and route
FLOAT_END = (2 - 2**-24) * 2.0**127  # from here on a double rounds to an infinite float
NUL_FREE = {"type": "string", "pattern": "^[^\\u0000]*$"}
WHOLE = {"type": "integer", "maximum": 2**64 - 1}
FLOAT = {"type": "number", "exclusiveMinimum": -FLOAT_END, "exclusiveMaximum": FLOAT_END}


def models():
    paths = [builds.TOP / "model" / "demo", *sorted((builds.TOP / "build" / "models").glob("random-0[0-9]"))]
    return [path for path in paths if path.is_dir()][:6]


@pytest.fixture(scope="module", params=models(), ids=lambda path: path.name)
def judged(request, build):
    """A server, and the judge of its requests."""
    with Service(build, request.param) as running:
        with running.client() as client:
            yield running, Judge(client.get("/model").json()), ModelDirectory(request.param)


# The schema of one model.

def kind_schema(field):
    if "values" in field:
        least = 0 if field["kind"] == "index" else 1 - 2**53
        kinds = [NUL_FREE] if field["kind"] == "string" else [
            {"type": "integer", "minimum": least, "maximum": 2**53 - 1},
            {"type": "string", "format": "unsigned-64" if least == 0 else "integer-64"}]
        return {"anyOf": [{"type": "array", "maxItems": field["values"], "items": items} for items in kinds]}
    if field["kind"] == "string":
        return NUL_FREE
    if field["kind"] == "dense":
        return FLOAT if field["width"] == 1 else {"type": "array", "minItems": field["width"], "maxItems": field["width"],
                                                  "items": FLOAT}
    least = 0 if field["kind"] == "index" else -2**63
    return {"anyOf": [{**WHOLE, "minimum": least}, {"type": "string", "format": "unsigned-64" if least == 0 else "integer-64"}]}


def or_null(schema):
    return {"anyOf": [schema, {"type": "null"}]}


class Judge:
    def __init__(self, model):
        self.groups, self.interests = model["groups"], model["interests"]
        formats = jsonschema.FormatChecker()
        formats.checks("integer-64")(lambda text: is_decimal(text, -2**63))
        formats.checks("unsigned-64")(lambda text: is_decimal(text, 0))
        self.validators = {name: jsonschema.Draft202012Validator(self.narrowed(SCHEMAS[name]), format_checker=formats)
                           for name in ("ScoreRequest", "HistoryRequest")}

    def narrowed(self, schema):
        schema = copy.deepcopy(schema)
        for name, group in (("user", "user"), ("context", "context"), ("history", "behaviour"), ("history_append", "behaviour"),
                            ("candidates", "candidate")):
            if name in schema["properties"]:
                fields = self.groups[group]
                if name == "history_append":
                    fields = [{**field, "may_lack": True} for field in fields]
                rule = self.group(fields, name in ("user", "context"), name == "candidates")
                schema["properties"][name] = {"allOf": [without_references(schema["properties"][name]), rule]}
        if "user" in schema["properties"]:  # a group of required fields cannot be left out
            needed = [name for name in ("user", "context") if any(field["required"] for field in self.groups[name])]
            schema["allOf"] += [{"required": [name], "properties": {name: {"type": "object"}}} for name in needed]
        return schema

    @staticmethod
    def group(fields, single, needed):
        """A field that `may_lack` may be left out with all others of its list, see has_whole_lists()."""
        needed_fields = [field for field in fields if field["required"] and not field.get("may_lack")]
        required = [field["name"] for field in needed_fields]
        one = {"type": "object", "additionalProperties": {"type": "null"}, "required": required, "properties": {
            field["name"]: kind_schema(field) if field in needed_fields else or_null(kind_schema(field)) for field in fields}}
        if single:
            return or_null(one)
        columns = {"type": "object", "additionalProperties": {"type": "null"}, "required": required, "properties": {
            field["name"]: {"type": "array" if field in needed_fields else ["array", "null"], "items": (
                kind_schema(field) if field["required"] else or_null(kind_schema(field)))} for field in fields}}
        nothing = {"type": "object", "additionalProperties": {"type": "null"}}
        rows = {"type": "array", "items": one, "minItems": int(needed)}
        return {"anyOf": [columns, rows, *([] if needed else [nothing, {"type": "null"}])]}

    def count(self, table, fields, field):
        """The values that a column has: as many as were sent, else as its parent."""
        for name in (field["name"], field.get("attribute_of")):
            if name is not None and table.get(name) is not None:
                return len(table[name])
            if name is not None and all(each["name"] != name for each in fields):
                break
        return 0

    def aligned(self, body):
        """Whether the columns that go together have one length, and there is a candidate."""
        for name, group in (("history", "behaviour"), ("history_append", "behaviour"), ("candidates", "candidate")):
            table, fields = body.get(name), {field["name"]: field for field in self.groups[group]}
            if not isinstance(table, dict):
                continue
            together = [interest["history"] for interest in self.interests] if group == "behaviour" else [list(fields)]
            for names in together:
                if len({self.count(table, fields.values(), fields[each]) for each in names}) > 1:
                    return False
            if name == "candidates" and not any(table.values()):
                return False
        return True

    def lists(self):
        """Names of fields that are appended together: those of interests that share one."""
        lists = []
        for names in (set(interest["history"]) for interest in self.interests):
            shared = [each for each in lists if each & names]
            lists = [each for each in lists if not each & names] + [names.union(*shared)]
        return lists

    def has_whole_lists(self, table):
        """Whether an append has all fields of a list, or none; and of one list at least."""
        rows = [table] if isinstance(table, dict) else table or []
        present = {name for row in rows for name, value in row.items() if value is not None}
        if not present:
            return not isinstance(table, list) or not table
        needed = {field["name"] for field in self.groups["behaviour"] if field["required"]}
        return all(row.get(name) is not None for names in self.lists() if names & present for name in names & needed
                   for row in rows)

    def accepts(self, schema, body):
        return self.validators[schema].is_valid(body) and self.aligned(body) and \
            self.has_whole_lists(body.get("history_append"))


def without_references(schema):
    """The document's own rule for a group, references resolved."""
    if isinstance(schema, dict) and "$ref" in schema:
        return without_references(SCHEMAS[schema["$ref"].rsplit("/", 1)[1]])
    if isinstance(schema, dict):
        return {name: without_references(value) for name, value in schema.items()}
    return [without_references(value) for value in schema] if isinstance(schema, list) else schema


def is_decimal(text, least):
    """A format does not apply to other types than strings."""
    if not isinstance(text, str):
        return True
    digits = text.removeprefix("-")
    plain = digits.isascii() and digits.isdecimal() and (digits == "0" or digits[0] != "0") and text != "-0"
    return plain and least <= int(text) < 2**64


# Documents: valid ones from the model's fields, and some spoiled at one or two places.

STRINGS = ["", "a", "A13", "用户", "🙂" * 101, "é" * 201, "u" * 256, "u" * 257, "用" * 100, "x\0", "0", "-0", "007", "12",
           "-5", "1.0", str(2**63), str(2**64 - 1), str(2**64), str(-2**63), str(-2**63 - 1), "tab\t", "\uffff",
           "\u07ff" * 200, "f" * 32]
NUMBERS = [0, 1, -1, 2, 29, 10.0, 1.5, -0.0, 1e1, 2**53, 2**53 + 1, 2.0**53, 1e17, -1e18, 2**63 - 1, 2**63, 2**64 - 1, 2**64,
           1e19, -2**63, -2**63 - 1, 1e300, 3.4e38, 3.5e38, -4e38, 1e-320, 10**400]


def other_value(rng):
    return rng.choice([None, True, False, [], {}, [1], [1, 2.5], [[1]], ["a"], [None], {"a": 1}, *rng.sample(STRINGS, 4),
                       *rng.sample(NUMBERS, 8)])


def places(node, path=()):
    """Paths to all nodes of a document but the document itself."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in items:
        yield (*path, name)
        yield from places(child, (*path, name))


def spoil(rng, body):
    """Changes one place of a document: another value, no value, a value more, another name, null."""
    *path, last = rng.choice(list(places(body)))
    parent = body
    for name in path:
        parent = parent[name]
    change = rng.randrange(6)
    if change == 0:
        del parent[last]
    elif change == 1 and isinstance(parent, dict):
        parent[rng.choice(["nosuch", "", "item", "user_id", "category"])] = parent.pop(last)
    elif change == 1 or (change == 2 and isinstance(parent, list)):
        parent.append(copy.deepcopy(parent[last]))
    elif change == 2:
        parent[rng.choice(["nosuch", "explain", "top_k", "history"])] = other_value(rng)
    elif change == 3:
        parent[last] = None
    else:
        parent[last] = other_value(rng)


def as_rows(columns):
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def other_forms(rng, table, fields):
    """Whole numbers of some columns in another form, and some attributes left out or null."""
    for field in fields:
        name, values = field["name"], table.get(field["name"])
        if field["kind"] in ("index", "integer") and isinstance(values, list) and rng.random() < 0.3:
            table[name] = [value if isinstance(value, list) else rng.choice([int, float, str])(int(value)) for value in values]
        if not field["required"] and values is not None and rng.random() < 0.4:
            table[name] = rng.choice([None, [None] * len(values)])
            if rng.random() < 0.5:
                del table[name]


def random_request(rng, model, groups):
    body = model.request(rng, history=rng.randrange(3), candidates=1 + rng.randrange(3))
    for name, group in (("history", "behaviour"), ("candidates", "candidate")):
        other_forms(rng, body[name], groups[group])
        if rng.random() < 0.3 and all(isinstance(column, list) for column in body[name].values()):
            body[name] = as_rows(body[name])
    for name, values in (("user_id", STRINGS), ("top_k", [1, 10, 10.0, 1e1, None]), ("explain", [True, False, None]),
                         ("history", [None, [], {}])):
        if rng.random() < 0.4:
            body[name] = rng.choice(values)
    if rng.random() < 0.2:
        body["history_token"] = rng.choice(["0" * 32, *rng.sample(STRINGS, 3), None])
        body["history_append"] = body.pop("history")
    return json.loads(json.dumps(body, default=float))


def random_update(rng, model, groups):
    request = random_request(rng, model, groups)
    return {name: request[name] for name in ("history", "history_token", "history_append") if name in request}


def compare(judged, schema, path, make):
    running, judge, model = judged
    rng = random.Random(f"{schema} {model.path.name}")
    taken = 0
    with running.client() as client:
        for _ in range(DOCUMENTS):
            body = make(rng, model, judge.groups)
            for _ in range(rng.choice([0, 0, 1, 1, 2])):
                if body:
                    spoil(rng, body)
            expected = judge.accepts(schema, body)
            reply = client.post(body, path)
            # Answers to valid requests: an explained token, an unknown one, nothing to append to, a score beyond floats.
            assert reply.status in ((200, 403, 404, 409, 500) if expected else (400,)), (expected, json.dumps(body), reply)
            assert reply.status != 500 or reply.json()["type"] == "urn:dien:problem:model-fault", reply
            taken += expected
    assert DOCUMENTS / 10 < taken < DOCUMENTS * 9 / 10


def test_scores_are_asked_for_as_documented(judged):
    compare(judged, "ScoreRequest", "/score", random_request)


def test_histories_are_sent_as_documented(judged):
    compare(judged, "HistoryRequest", "/users/of-the-schema/history", random_update)


def test_the_judge_knows_the_edges(judged):
    """Of the two rules that are this file's own."""
    assert is_decimal("18446744073709551615", 0) and not is_decimal("18446744073709551616", 0)
    assert is_decimal("-9223372036854775808", -2**63) and not is_decimal("-9223372036854775809", -2**63)
    assert not any(is_decimal(text, -2**63) for text in ("", "-", "-0", "01", "+1", "1.0", " 1", "١"))
    assert math.isfinite(FLOAT_END)
    assert judged[1].aligned({"candidates": {}}) is False
