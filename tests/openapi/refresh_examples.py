"""Write what a running server answers to the examples of proto/openapi.json, and of GET /model, into the document.

    python3 tests/openapi/refresh_examples.py http://127.0.0.1:8080
"""

import json
import pathlib
import sys
import urllib.request

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "proto" / "openapi.json"


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def main(server):
    document = json.loads(DOCUMENT.read_text())
    score = document["paths"]["/score"]["post"]
    requests = score["requestBody"]["content"]["application/json"]["examples"]
    score["responses"]["200"]["content"]["application/json"]["examples"] = {
        name: {"value": ask(server + "/score", example["value"])} for name, example in requests.items()}
    model = document["paths"]["/model"]["get"]["responses"]["200"]["content"]["application/json"]
    model["examples"] = {"demo": {"value": ask(server + "/model")}}
    DOCUMENT.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
