"""Model directories as model/FORMAT.md has them, with the standard library alone: read, alter, make requests for."""

import json
import math
import os
import pathlib
import shutil
import struct

ELEMENT = {"F32": ("f", 4), "F16": ("e", 2), "I8": ("b", 1), "U8": ("B", 1), "I32": ("i", 4), "I64": ("q", 8)}


def read_safetensors(path):
    """(header, data): the JSON header without its metadata, and the bytes after it."""
    raw = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    return header, bytearray(raw[8 + length:])


def write_safetensors(path, header, data):
    """`header` is a dict, or text for a header that json would not write."""
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    encoded = text.encode()
    encoded += b" " * (-len(encoded) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(data))


def tensor(header, data, name):
    """A tensor's values as a flat tuple."""
    entry = header[name]
    letter, size = ELEMENT[entry["dtype"]]
    begin, end = entry["data_offsets"]
    return struct.unpack(f"<{(end - begin) // size}{letter}", bytes(data[begin:end]))


class ModelDirectory:
    """A model directory; makes valid requests for it from a seeded random.Random."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config = json.loads((self.path / "config.json").read_text())
        self.fields = {field["name"]: field for field in self.config["fields"]}
        self.header, self.data = read_safetensors(self.path / "model.safetensors")
        self.ids = {}

    def __repr__(self):
        return self.path.name

    @property
    def samples(self):
        return json.loads((self.path / "samples.json").read_text())["samples"]

    def group(self, name):
        """The fields that a request must send in a group: all but attributes."""
        return [field for field in self.config["groups"].get(name, ()) if "attribute_of" not in self.fields[field]]

    def known_ids(self, name):
        """Every id of a categorical field that is not unknown."""
        if name not in self.ids:
            field = self.fields[name]
            first = field.get("first_row", 0)
            rows = self.config["tables"][field["table"]]["rows"]
            if field["ids"] == "index":
                self.ids[name] = list(range(rows - first))
            else:
                self.ids[name] = self._vocabulary(field["vocabulary"])
        return self.ids[name]

    def _vocabulary(self, name):
        if self.config["vocabularies"][name]["type"] == "integer":
            return list(tensor(self.header, self.data, f"vocabularies.{name}.keys"))
        offsets = tensor(self.header, self.data, f"vocabularies.{name}.offsets")
        text = bytes(tensor(self.header, self.data, f"vocabularies.{name}.bytes"))
        return [text[begin:end].decode() for begin, end in zip(offsets, offsets[1:])]

    def unknown_id(self, name):
        """An id that the model does not know."""
        field = self.fields[name]
        if field["ids"] == "index":
            return 2**31 - 1
        known = self.known_ids(name)
        if isinstance(known[0], str):
            return "no such id"
        return next(value for value in range(-1, -len(known) - 3, -1) if value not in set(known))

    def value(self, random, name):
        field = self.fields[name]
        if "pool" in field:
            ids = [random.choice(self.known_ids(name)) for _ in range(random.randint(0, field["values"]))]
            return ids if all(isinstance(each, str) or abs(each) < 2**53 for each in ids) else list(map(str, ids))
        if field["kind"] == "categorical":
            return random.choice(self.known_ids(name))
        numbers = [round(random.uniform(-2, 2), 3) for _ in range(field["width"])]
        return numbers[0] if field["width"] == 1 else numbers

    def unknown_value(self, random, name):
        if self.fields[name]["kind"] != "categorical":
            return self.value(random, name)
        return [self.unknown_id(name)] if "pool" in self.fields[name] else self.unknown_id(name)

    def request(self, random, history=10, candidates=10, unknown=False, **more):
        """A valid request in column form."""
        value = self.unknown_value if unknown else self.value
        made = {
            "history": {name: [value(random, name) for _ in range(history)] for name in self.group("behaviour")},
            "candidates": {name: [value(random, name) for _ in range(candidates)] for name in self.group("candidate")},
        }
        for group in ("user", "context"):
            if self.group(group):
                made[group] = {name: value(random, name) for name in self.group(group)}
        return {**made, **more}

    def copy(self, to):
        """A private copy that a test may spoil."""
        to = pathlib.Path(to)
        shutil.copytree(self.path, to)
        return ModelDirectory(to)

    def write_config(self):
        (self.path / "config.json").write_text(json.dumps(self.config))

    def write_tensors(self):
        write_safetensors(self.path / "model.safetensors", self.header, self.data)


class Link:
    """A symbolic link as an operator's script sets it: `current` names one version after another, by a rename."""

    def __init__(self, path, target):
        self.path = pathlib.Path(path)
        self.set(target)

    def set(self, target):
        new = self.path.with_name(self.path.name + ".new")
        new.symlink_to(target)
        os.replace(new, self.path)


def rows(columns):
    """Columns as rows."""
    names = list(columns)
    return [dict(zip(names, values)) for values in zip(*columns.values())]


def take(columns, places):
    """The given places of each column, in the given order."""
    return {name: [values[place] for place in places] for name, values in columns.items()}


def finite(scores):
    return all(math.isfinite(score) and 0 <= score <= 1 for score in scores)
