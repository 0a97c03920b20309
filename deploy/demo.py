#!/usr/bin/env python3
"""Show the server at work: start it on a model, post the model's session.json, print the ranking, ask again as the same
user, whose states are held by then, stop it.

    python3 deploy/demo.py --server build/release/dien-server --model model/demo

Standard library only. Exit status 0 when the whole round went well.
"""

import argparse
import json
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

START_SECONDS = 30
BAR_WIDTH = 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the dien-server program")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a model directory with a session.json")
    return parser.parse_args()


class Running:
    """The server on a free port of this machine, as a context."""

    def __init__(self, program, model):
        self.directory = tempfile.TemporaryDirectory(prefix="dien-demo-")
        self.address_file = pathlib.Path(self.directory.name) / "address"
        self.log = open(pathlib.Path(self.directory.name) / "log", "w+b")
        self.process = subprocess.Popen(
            [str(program), "--model", str(model), "--listen", "127.0.0.1:0", "--address-file", str(self.address_file),
             "--drain-delay", "0"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)

    @staticmethod
    def ready(address):
        """It listens before its model is proved; then readiness says so."""
        try:
            with urllib.request.urlopen(f"http://{address}/health/ready", timeout=10):
                return True
        except urllib.error.HTTPError:
            return False

    def failed(self, what):
        self.log.seek(0)
        sys.exit(f"{what}\n{self.log.read().decode(errors='replace')}")

    def __enter__(self):
        limit = time.monotonic() + START_SECONDS
        while True:
            text = self.address_file.read_text() if self.address_file.exists() else ""
            if text.endswith("\n") and self.ready(text.strip()):
                self.address = text.strip()
                return self
            if self.process.poll() is not None:
                self.failed(f"the server ended with exit status {self.process.returncode}")
            if time.monotonic() > limit:
                self.process.kill()
                self.failed(f"the server was not up after {START_SECONDS} s")
            time.sleep(0.01)

    def __exit__(self, kind, *exception):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(START_SECONDS)
        if status != 0 and kind is None:
            self.failed(f"the server ended with exit status {status}")
        self.log.close()
        self.directory.cleanup()


def post(address, body):
    """The answer of POST /score, and how long it took in seconds."""
    request = urllib.request.Request(f"http://{address}/score", body, {"Content-Type": "application/json"})
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer), time.monotonic() - began


class Labels:
    """Names for the attributes of items, as far as the model's metadata holds labels for them."""

    def __init__(self, model):
        self.config = json.loads((model / "config.json").read_text())
        self.labels = self.config.get("metadata", {}).get("labels", {})
        self.fields = {field["name"]: field for field in self.config["fields"]}
        raw = (model / "model.safetensors").read_bytes()
        (length,) = struct.unpack_from("<Q", raw)
        self.header, self.data = json.loads(raw[8:8 + length]), raw[8 + length:]

    def _tensor(self, name, letter, size):
        begin, end = self.header[name]["data_offsets"]
        return struct.unpack(f"<{(end - begin) // size}{letter}", self.data[begin:end])

    def of(self, attribute):
        """{item: label} from the model's own map; empty when the model has none."""
        field = self.fields.get(attribute, {})
        parent = self.fields.get(field.get("attribute_of"), {})
        if attribute not in self.labels or "vocabulary" not in parent:
            return {}
        vocabulary = parent["vocabulary"]
        offsets = self._tensor(f"vocabularies.{vocabulary}.offsets", "q", 8)
        text = self._tensor(f"vocabularies.{vocabulary}.bytes", "B", 1)
        items = [bytes(text[begin:end]).decode() for begin, end in zip(offsets, offsets[1:])]
        rows = self._tensor(f"attributes.{attribute}", "i", 4)
        first, own = parent.get("first_row", 0), field.get("first_row", 0)
        return {item: self.labels[attribute].get(str(rows[first + i] - own), "") for i, item in enumerate(items)}


def columns(table):
    """History or candidates as columns, whichever form they have."""
    if isinstance(table, dict):
        return table
    return {name: [row.get(name) for row in table] for name in table[0]} if table else {}


def described(items, categories):
    return ", ".join(f"{item} ({categories[item]})" if categories.get(item) else str(item) for item in items)


def bar(score):
    full, empty = ("█", "·") if (sys.stdout.encoding or "").lower().startswith("utf") else ("#", ".")
    filled = round(score * BAR_WIDTH)
    return full * filled + empty * (BAR_WIDTH - filled)


def candidates_of(session):
    return len(next(iter(columns(session["candidates"]).values())))


def show(session, answer, seconds, labels):
    categories = labels.of("category")
    history = columns(session["history"])
    print(f"model     {answer['model']}, version {answer['version']}")
    shopper = ", ".join(f"{name} {value}" for group in ("user", "context") for name, value in session.get(group, {}).items())
    print(f"shopper   {shopper}")
    print(f"looked at {described(history.get('item', []), categories)}")
    print(f"answer    in {1000 * seconds:.1f} ms, {len(answer['results'])} of {candidates_of(session)} candidates, "
          f"user state {answer['user_state']}\n")
    print(f"  {'rank':>4}  {'item':<8}  {'category':<10}  {'score':<6}")
    for rank, result in enumerate(answer["results"], 1):
        item = str(result.get("item", result["index"]))
        print(f"  {rank:>4}  {item:<8}  {categories.get(item, ''):<10}  {result['score']:.4f}  {bar(result['score'])}")


def main():
    options = arguments()
    session = {"user_id": "shopper", **json.loads((options.model / "session.json").read_bytes())}
    body = json.dumps(session).encode()
    with Running(options.server, options.model) as running:
        answer, seconds = post(running.address, body)
        again, _ = post(running.address, body)
    show(session, answer, seconds, Labels(options.model))
    if again["user_state"] != "cached" or again["results"] != answer["results"]:
        sys.exit("asked again, the server does not answer the same from what it holds")
    print(f"\nagain     user state {again['user_state']}, the same scores")


if __name__ == "__main__":
    main()
