"""Write what a running server answers to the examples of proto/openapi.json, and of GET /model, into the document.

    python3 tests/openapi/refresh_examples.py http://127.0.0.1:8080

Tokens are random: the document has ones of its own in their place, each example's request with that of the reply before.
"""

import json
import pathlib
import re
import sys
import urllib.request

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "proto" / "openapi.json"
TOKEN = re.compile("[0-9a-f]{32}")
TOKENS = ("7d1c3e60b2f84a5996e0d4c7a81b35f2", "c05e19a7d38b4f6201f4a6be97d2380d", "41f8b6d2907e4c1da5731e9b0c62fd84")
USER = "/users/u42"
LOADED_AT = "2026-11-28T01:00:00Z"
CONVERSATIONS = ("/score", "/users/{id}/history")


def content(node):
    return node["content"]["application/json"]


def conversation(operation, ask):
    """Its request examples, one after the other: (name, request as documented, reply with the document's tokens).

    `ask(body)` posts and gives the reply. A request's token becomes that of the reply before, as a client does it.
    """
    last, given = None, iter(TOKENS)
    documented = None
    for name, example in content(operation["requestBody"])["examples"].items():
        request = dict(example["value"])
        sent = dict(request)
        if "history_token" in request:
            request["history_token"], sent["history_token"] = documented, last
        reply = ask(sent)
        if "token" in reply["history"]:
            last, documented = reply["history"]["token"], next(given)
            assert TOKEN.fullmatch(last)
            reply["history"]["token"] = documented
        yield name, request, reply


def connect(url, method=None, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        text = reply.read()
    return json.loads(text) if text else None


def main(server):
    document = json.loads(DOCUMENT.read_text())
    for path in CONVERSATIONS:
        connect(server + USER, "DELETE")
        operation = document["paths"][path]["post"]
        replies = content(operation["responses"]["200"])["examples"] = {}
        url = server + path.replace("/users/{id}", USER)
        for name, request, reply in conversation(operation, lambda body, url=url: connect(url, body=body)):
            content(operation["requestBody"])["examples"][name]["value"] = request
            replies[name] = {"value": reply}
    held = connect(server + USER)
    held["age_seconds"], held["idle_seconds"] = 12.5, 0.25
    content(document["paths"]["/users/{id}"]["get"]["responses"]["200"])["examples"] = {"demo": {"value": held}}
    model = content(document["paths"]["/model"]["get"]["responses"]["200"])
    model["examples"] = {"demo": {"value": connect(server + "/model") | {"loaded_at": LOADED_AT}}}
    DOCUMENT.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
