"""A fixed corpus of requests, and the replies of a running server to it, for comparing two builds.

    python3 tests/support/corpus.py 127.0.0.1:8080 before.jsonl
    python3 tests/support/corpus.py 127.0.0.1:8081 after.jsonl
    diff before.jsonl after.jsonl

Start each server anew with the same model and options, and send nothing else to it. The requests depend only on the
seed and on GET /model, so two builds without a change of behaviour write identical files. Each line is one reply:
status, headers, and the body with `detail`, tokens, request ids and times masked. Problems that need time or load (408,
504, and 503 for a full queue) are not in the corpus.
"""

import argparse
import hashlib
import json
import pathlib
import random
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support import messages, service  # noqa: E402

SEED = 14
RANDOM_REQUESTS = 1400
USERS = 60
BODY_SHOWN = 4000  # bytes; a longer body is shown by its start and its hash
JSON = "application/json"

TOKEN = re.compile(rb'(?:"token":"|"\x20)([0-9a-f]{32})')  # in JSON, or as field 4 of a message
MASKS = (
    (re.compile(rb"[0-9a-f]{32}"), b"*"),  # a token or a request id
    (re.compile(rb'"detail":"(?:[^"\\]|\\.)*"'), b'"detail":"*"'),
    (re.compile(rb'"(uptime|age|idle)_seconds":[-+0-9.e]+'), rb'"\1_seconds":"*"'),
)


class Step:
    """One request. The body is made from the tokens that earlier replies gave, by user."""

    def __init__(self, name, method, path, make_body=None, headers=(), user=None):
        self.name = name
        self.method = method
        self.path = path
        self.make_body = make_body or (lambda tokens: None)
        self.headers = dict(headers)
        self.user = user  # whose token the reply gives


class Maker:
    """Random values and requests for the fields of a model."""

    def __init__(self, model, compiled, rng):
        self.rng = rng
        self.limits = model["limits"]
        self.groups = model["groups"]
        self.interests = model["interests"]
        self.compiled = compiled

    def value(self, field):
        if "values" in field:
            single = {name: value for name, value in field.items() if name != "values"}
            return [self.value(single) for _ in range(self.rng.randrange(field["values"] + 1))]
        if field["kind"] == "string":
            return f"{self.rng.choice('ABCPX')}{self.rng.randrange(1, 90)}"
        if field["kind"] == "dense":
            numbers = [round(self.rng.uniform(-2, 2), 3) for _ in range(field["width"])]
            return numbers if field["width"] > 1 else numbers[0]
        return self.rng.randrange(field["rows"] + (2 if field["kind"] == "integer" else 0))

    def fields(self, group):
        """The required fields, and each attribute with probability 1/2."""
        return [field for field in self.groups.get(group, []) if field["required"] or self.rng.random() < 0.5]

    def columns(self, group, count):
        return {field["name"]: [self.value(field) for _ in range(count)] for field in self.fields(group)}

    def rows(self, group, count):
        columns = self.columns(group, count)
        return [{name: values[i] for name, values in columns.items()} for i in range(count)]

    def behaviours(self, count, rows=False):
        group = "history" if "history" in self.groups else "behaviour"
        return self.rows(group, count) if rows else self.columns(group, count)

    def singles(self, group):
        return {field["name"]: self.value(field) for field in self.fields(group)}

    def request(self, rows=False, candidates=None, history=None, **members):
        rng = self.rng
        candidates = rng.choice((1, 2, 3, 10, 40)) if candidates is None else candidates
        history = rng.choice((0, 1, 2, 5, 20, 50, 70)) if history is None else history
        body = {"user": self.singles("user"), "context": self.singles("context"),
                "history": self.behaviours(history, rows),
                "candidates": self.rows("candidate", candidates) if rows else self.columns("candidate", candidates)}
        return {**{name: value for name, value in body.items() if value}, **members}


def post(name, body, path="/score", user=None, **headers):
    """A JSON body: an object, a text, bytes, or a function of the tokens."""
    def make(tokens):
        made = body(tokens) if callable(body) else body
        made = made if isinstance(made, (str, bytes)) else json.dumps(made)
        return made.encode() if isinstance(made, str) else made
    return Step(name, "POST", path, make, {"Content-Type": JSON, **headers}, user)


def post_message(name, compiled, body, path="/score", user=None):
    """The request as a message of score.proto."""
    def make(tokens):
        kind = "ScoreRequest" if path == "/score" else "HistoryRequest"
        made = body(tokens) if callable(body) else body
        return messages.message_of(compiled, made, kind).SerializeToString(deterministic=True)
    return Step(name, "POST", path, make, {"Content-Type": messages.MEDIA_TYPE}, user)


def random_steps(maker):
    """Valid requests in each form, and users that return with a whole history, a token or an append."""
    rng = maker.rng
    histories = {}
    for i in range(RANDOM_REQUESTS):
        form = rng.choice(("columns", "rows", "protobuf"))
        members = {}
        if rng.random() < 0.2:
            members["explain"] = True
        if rng.random() < 0.3:
            members["top_k"] = rng.choice((1, 2, 5, 100))
        user = f"user {rng.randrange(USERS)}" if rng.random() < 0.6 else None
        body = maker.request(form == "rows", **members)
        name = f"random {form}"
        path = "/score"
        if user is not None:
            body["user_id"] = user
            way = rng.choice(("new", "again", "token", "append", "update", "update append"))
            name += f", {way}"
            if way == "again" and isinstance(histories.get(user), dict) and form != "rows":
                body["history"] = histories[user]
            if "history" in body and way in ("new", "again"):
                histories[user] = body["history"]
            if way in ("token", "append", "update append"):
                body.pop("history", None)
                body["history_token"] = None  # the user's last
            if way in ("append", "update append"):
                body["history_append"] = maker.behaviours(rng.randrange(1, 4), form == "rows")
            if way.startswith("update"):
                path = f"/users/{user.replace(' ', '%20')}/history"
                body = {key: body[key] for key in ("history", "history_token", "history_append") if key in body}

        def made(tokens, body=body, user=user):
            if "history_token" not in body:
                return body
            return {**body, "history_token": tokens.get(user, "0" * 32)}

        make = post_message if form == "protobuf" else post
        arguments = (maker.compiled, made) if form == "protobuf" else (made,)
        yield make(f"{name} {i}", *arguments, path=path, user=user)
        if user is not None and rng.random() < 0.1:
            yield Step("a user", rng.choice(("GET", "GET", "DELETE")), f"/users/{user.replace(' ', '%20')}")


def mistakes(maker):
    """Bodies of each kind of mistake, beside the boundaries that are still valid."""
    good = maker.request(history=3, candidates=3)
    rows = maker.request(rows=True, history=3, candidates=3)
    text = json.dumps(good)
    for cut in range(0, len(text), max(1, len(text) // 40)):
        yield post("cut", text[:cut])
    for damaged in (b"\xff", b"{}{}", b'{"a":1,"a":2}', b'{"candidates":{"x":["\\u0000"]}}',
                    b'{"candidates":{"x":[1e400]}}', b'{"candidates":{"x":[01]}}', b"[]", b"null", b"7", b'"text"',
                    b"{}", b"{'a':1}", b'{"a":NaN}', b'{"candidates":{"x":["\xc0\xaf"]}}', b"\xef\xbb\xbf{}",
                    b'{"\\u0000":1}'):
        yield post("not a request", damaged)
    for depth in (12, 13, 14, 15, 100000):
        yield post(f"depth {depth}", '{"candidates":{"item":[' + "[" * depth + "]" * depth + "]}}")
    for member in ("user", "context", "history", "candidates", "top_k", "explain", "user_id", "history_token",
                   "history_append", "unknown", ""):
        for value in (None, True, 0, -1, 1.5, "", "text", [], [1], [{}], [[]], {}, {"a": 1}, {"a": []},
                      {"item": [None]}, {"item": {}}, {"item": [["a"]]}):
            yield post(f"{member}: {json.dumps(value)}", {**good, member: value})
    for value in (-2**63, -2**63 - 1, 2**63 - 1, 2**63, 0, 1, 2.0, 1e15, -0.0, 0.1, 1e-7, 123456789.123456789):
        yield post("a number", {**good, "top_k": value})
        yield post("a number in a field", {**good, "candidates": {**good["candidates"], "extra": [value] * 3}})
    for group in ("history", "candidates"):
        for name in list(good[group]):
            for value in (None, True, {}, [], [1, 2], [None], -1, 10**9, 2.5, "?", "", "é", "a" * 300):
                yield post(f"{group}/{name}: {json.dumps(value)[:20]}",
                           {**good, group: {**good[group], name: [*good[group][name][:2], value]}})
                yield post(f"{group} rows {name}: {json.dumps(value)[:20]}",
                           {**rows, group: [*rows[group][:2], {**rows[group][2], name: value}]})
            yield post(f"{group}/{name} missing", {**good, group: {k: v for k, v in good[group].items() if k != name}})
            yield post(f"{group}/{name} shorter", {**good, group: {**good[group], name: good[group][name][:2]}})
            yield post(f"{group} rows {name} missing",
                       {**rows, group: [*rows[group][:2], {k: v for k, v in rows[group][2].items() if k != name}]})
    for name in ("index", "score", "attention", "a/b~c", "é", '"', "extra"):
        yield post("a field beside the model's", {**good, "candidates": {**good["candidates"], name: [1, "b", None]}})
    for length in (1, 255, 256, 257):
        yield post("user_id", {**good, "user_id": "u" * length})
        yield post("history_token", {"candidates": good["candidates"], "user_id": "u", "history_token": "f" * length})
    yield post("a token without a user", {"candidates": good["candidates"], "history_token": "f" * 32})
    yield post("a token beside a history", {**good, "user_id": "u", "history_token": "f" * 32})
    yield post("an append without a token", {"candidates": good["candidates"], "user_id": "u",
                                             "history_append": good["history"]})
    for fields in (256, 257):
        extra = {f"f{i}": [1, 2, 3] for i in range(fields - len(good["candidates"]))}
        yield post(f"{fields} fields", {**good, "candidates": {**good["candidates"], **extra}, "top_k": 1})
        yield post(f"{fields} fields in rows", {**good, "top_k": 1, "candidates": [
            {name: values[i] for name, values in {**good["candidates"], **extra}.items()} for i in range(3)]})
        yield post_message(f"{fields} fields in a message", maker.compiled,
                           {**good, "candidates": {**good["candidates"], **extra}, "top_k": 1})
    for over in (0, 1):
        count = maker.limits["max_candidates"] + over
        yield post("max_candidates", {**good, "candidates": maker.columns("candidate", count), "top_k": 3})
        count = maker.limits["max_history"] + over
        yield post("max_history", {**good, "history": {name: (values * count)[:count]
                                                       for name, values in good["history"].items()}})
    wide = {f"f{i}": 1 for i in range(256)}
    yield post("more memory than a request may have", {"candidates": [wide, *[{}] * 80000]})
    message = messages.message_of(maker.compiled, good).SerializeToString(deterministic=True)
    for cut in range(0, len(message), max(1, len(message) // 30)):
        yield Step("a cut message", "POST", "/score", lambda tokens, cut=cut: message[:cut],
                   {"Content-Type": messages.MEDIA_TYPE})
    yield Step("no message", "POST", "/score", lambda tokens: b"\xff\xff", {"Content-Type": messages.MEDIA_TYPE})
    for body in ({}, {"history": {}}, {"history": good["history"], "history_append": good["history"]},
                 {"history_token": "0" * 32, "history_append": good["history"]}, {"history_append": good["history"]},
                 {"history": good["history"], "history_token": "0" * 32}, good, {"history": 7}):
        yield post("an update", body, path="/users/nobody/history")
        yield Step("forget", "DELETE", "/users/nobody")


def routes(maker):
    """Each route with each method, targets that are no route, and header fields."""
    good = maker.request(history=3, candidates=3)
    for path in ("/", "/score", "/score/", "/score?a=b", "/users", "/users/", "/users/u", "/users/u/history",
                 "/users/u/x", "/users//history", "/users/%2F", "/users/%zz", "/users/%4", "/users/%00",
                 "/users/%C3%A9", "/users/" + "a" * 256, "/users/" + "a" * 257, "/model", "/health",
                 "/health/ready", "/health/live",
                 "/metrics", "/metrics/", "/SCORE", "/%73core", "http://test/health", "/" + "x" * 2000):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"):
            if method == "POST":
                yield post("a route", good, path=path)
            else:
                yield Step("a route", method, path)
    for kind in (JSON, "application/JSON; charset=utf-8", "text/plain", "", "application/jsonx",
                 messages.MEDIA_TYPE):
        yield post("a media type", good, **{"Content-Type": kind})
    for request_id in ("abc-123", "", " ", "a" * 64, "a" * 65, "a" * 200, "a b", 'a"b', "é",
                       "00-4bf92f35-00f067aa-01"):
        yield post("a request id", good, **{"X-Request-Id": request_id})
        yield post("a request id and a mistake", "{", **{"X-Request-Id": request_id})


def raw_requests(maker):
    """Bytes on a connection of their own: (name, bytes)."""
    body = json.dumps(maker.request(history=3, candidates=3)).encode()
    head = service.head
    yield "no length", head(None) + body
    yield "chunked", head(None, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    yield "length and chunked", head(len(body), "Transfer-Encoding: chunked") + body
    yield "two lengths", head(len(body), f"Content-Length: {len(body)}") + body
    for length in ("-1", "+5", "5x", "0x5", "", "99999999999999999999"):
        yield f"length {length}", head(length) + body
    yield "larger than max_body", head(maker.limits["max_body_bytes"] + 1)
    yield "HTTP/1.0", head(len(body), version="1.0") + body
    yield "no host", head(len(body)).replace(b"Host: test\r\n", b"") + body
    yield "large headers", head(len(body), "X-Large: " + "x" * 20000) + body
    yield "connection close", head(len(body), "Connection: close") + body
    yield "two hosts", head(len(body), "Host: other") + body


def mask(body):
    for pattern, replacement in MASKS:
        body = pattern.sub(replacement, body)
    return body


def series(body):
    """Names, labels and types of the metrics, without values and help."""
    lines = (line for line in body.decode().splitlines() if not line.startswith("# HELP"))
    return "\n".join(line if line.startswith("#") else line.rsplit(" ", 1)[0] for line in lines).encode()


def line(number, step_name, path, reply):
    """One line of the output."""
    headers = {name.lower(): mask(value.encode("latin-1")).decode() for name, value in reply.headers.items()
               if name.lower() not in ("date", "content-length")}
    metrics = path == "/metrics" and reply.status == 200
    masked = series(reply.body) if metrics else mask(reply.body)
    shown = masked.decode("utf-8", "backslashreplace")
    if len(shown) > BODY_SHOWN and not metrics:
        shown = shown[:BODY_SHOWN] + "... sha256 " + hashlib.sha256(masked).hexdigest()
    return json.dumps({"n": number, "name": step_name, "status": reply.status, "headers": dict(sorted(headers.items())),
                       "body": shown}, ensure_ascii=False)


def record(address, output):
    """Sends the corpus and writes a line for each reply. Returns how many replies there were of each status."""
    tokens, statuses, number = {}, {}, 0

    def write(name, path, reply):
        nonlocal number
        number += 1
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        print(line(number, name, path, reply), file=output)

    with service.Client(address) as client, tempfile.TemporaryDirectory() as directory:
        maker = Maker(client.get("/model").json(), messages.compiled(directory), random.Random(SEED))
        for make_steps in (routes, mistakes, random_steps, routes):
            for step in make_steps(maker):
                headers = {name: value.encode("utf-8") for name, value in step.headers.items()}
                reply = client.ask(step.method, step.path, step.make_body(tokens), headers)
                found = TOKEN.search(reply.body)
                if step.user is not None and found:
                    tokens[step.user] = found.group(1).decode()
                write(step.name, step.path, reply)
        for name, data in raw_requests(maker):
            with service.Raw(address) as raw:
                raw.send(data)
                write(name, None, raw.reply())
    return statuses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="HOST:PORT of a running server")
    parser.add_argument("output", type=pathlib.Path, help="file for the replies, one JSON line each")
    arguments = parser.parse_args()
    host, port = arguments.address.rsplit(":", 1)
    with arguments.output.open("w", encoding="utf-8") as output:
        statuses = record((host, int(port)), output)
    print(", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))


if __name__ == "__main__":
    main()
