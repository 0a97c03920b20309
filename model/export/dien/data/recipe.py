"""A recipe: the TOML page that says which files to train on, which columns they have, and which network to train.

RECIPES.md documents every key. A fault is an error that names the file, the line and the key.
"""
from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any, Callable, NamedTuple, Optional, Union

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FORMATS = ("csv", "jsonl", "parquet")
SAMPLED = ("mixed", "uniform", "popularity", "in-batch")
CELLS = ("augru-and", "augru-or", "agru", "aigru", "augru-keep", "gru", "gru+pooling")
ATTENTION_QUERY = "prelu"  # of the layer that gives an MLP or a dot product its query
REQUIRED = object()

Check = Callable[[Any], bool]


class Key(NamedTuple):
    """One key: its check, the words for values that pass it, and the value of a recipe that lacks it."""

    check: Check
    words: str
    default: Any = REQUIRED


def _natural(low: int, high: int, default: Any = REQUIRED) -> Key:
    return Key(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}", default)


def _number(low: float, high: float, default: Any = REQUIRED) -> Key:
    return Key(lambda value: type(value) in (int, float) and low <= value <= high, f"a number from {low:g} to {high:g}", default)


def _choice(*names: str, default: Any = REQUIRED) -> Key:
    return Key(lambda value: value in names, f"one of {', '.join(names)}", default)


def _text(default: Any = REQUIRED) -> Key:
    return Key(lambda value: isinstance(value, str) and value != "", "a text", default)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(each, str) and each for each in value)


def _texts(default: Any = REQUIRED) -> Key:
    return Key(lambda value: (isinstance(value, str) and value != "") or _is_texts(value), "a text or a list of texts", default)


def _name(default: Any = REQUIRED) -> Key:
    return Key(lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None,
               "1 to 64 letters, digits, _ or -", default)


def _boolean(default: bool) -> Key:
    return Key(lambda value: type(value) is bool, "true or false", default)


def _units(default: Any) -> Key:
    return Key(lambda value: isinstance(value, list) and len(value) > 0
               and all(type(each) is int and 1 <= each <= 65536 for each in value), "a list of whole numbers, 1 to 65536",
               default)


_SEPARATOR = Key(lambda value: isinstance(value, str) and len(value) == 1, "one character", ",")

KEYS: dict[str, dict[str, Key]] = {
    "": {"name": _name(), "version": _text("1"), "seed": _natural(0, 2**31, 1), "attribution": _text("")},
    "data": {
        "files": _texts(), "format": _choice(*FORMATS, default=""), "separator": _SEPARATOR,
        "form": _choice("clicks", "impressions", default="clicks"), "user": _text(""), "session": _text(""),
        "item": _text("item"),
        "time": _texts(""), "order": _text(""), "event": _text(""), "targets": _texts([]), "label": _text(""),
        "label_from": _number(-1e30, 1e30, 1), "bad_rows": _choice("refuse", "skip", default="refuse")},
    "item": {"name": _name("item"), "kind": _choice("string", "integer", default="string"), "width": _natural(1, 4096, 16),
             "min_count": _natural(1, 2**31, 1)},
    "items": {"files": _texts(), "format": _choice(*FORMATS, default=""), "separator": _SEPARATOR, "id": _text("")},
    "split": {"validation": _number(0.001, 0.9, 0.1), "test": _number(0.001, 0.9, 0.1),
              "examples": _natural(1, 10**9, 50_000)},
    "negatives": {"kind": _choice(*SAMPLED, default="mixed"), "count": _natural(1, 1000, 8), "logq": _boolean(False)},
    "network": {
        "units": _natural(1, 4096, 0), "attention": _choice("bilinear", "dot", "mlp", default="bilinear"),
        "attention_hidden": _units([80, 40]), "cell": _choice(*CELLS, default="augru-and"),
        "reset": _choice("before", "after", default="after"), "hidden": _units([200, 80]),
        "activation": _choice("prelu", "dice", "relu", "sigmoid", "tanh", "silu", default="prelu"), "pooled": _boolean(True)},
    "training": {
        "epochs": _natural(1, 10**6, 16), "patience": _natural(1, 10**6, 3), "batch": _natural(1, 2**20, 256),
        "rate": _number(1e-9, 10, 2e-3), "decay": _number(1e-3, 1, 0.87), "weight_decay": _number(0, 1, 1e-5),
        "auxiliary": _choice("inner", "mlp", "none", default="inner"), "alpha": _number(0, 1000, 0.2),
        "unknown": _number(0, 0.5, 0.02)},
}
FIELD = {"column": _texts(""), "kind": _choice("string", "integer", "dense", "bands", "multi", default="string"),
         "width": _natural(1, 4096, 4), "min_count": _natural(1, 2**31, 1),
         "split": Key(_SEPARATOR.check, "one character", "|"), "pool": _choice("mean", "sum", default="mean"),
         "bands": _natural(2, 1000, 5)}
INTEREST = {"events": _texts([]), "max_length": _natural(1, 65536, 50)}
GROUPS = ("user", "context", "behaviour", "candidate")  # their tables hold fields, as item.attributes does
OPTIONAL_TABLES = ("items",)
NEEDS_KIND = {"bands": ("bands",), "split": ("multi",), "pool": ("multi",), "min_count": ("string", "integer")}


@dataclass(frozen=True)
class Field:
    """One field: the column of its values, and how they become numbers."""

    name: str
    group: str               # item, attribute, user, context, behaviour or candidate
    columns: tuple[str, ...]  # more than one for a dense field of several numbers
    kind: str
    width: int
    min_count: int = 1
    split: str = "|"
    pool: str = "mean"
    bands: int = 5


@dataclass(frozen=True)
class Interest:
    """One sequence of behaviours: the events it holds (none: all), and how many of the last ones are used."""

    name: str
    events: tuple[str, ...]
    max_length: int


@dataclass
class Recipe:
    """A checked recipe. `tables` has every plain key of KEYS with its value or default."""

    path: str
    text: str
    tables: dict[str, dict[str, Any]]
    fields: list[Field]
    interests: list[Interest]
    files: list[str]
    item_files: list[str]
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)

    def __getitem__(self, table: str) -> dict[str, Any]:
        return self.tables[table]

    def group(self, name: str) -> list[Field]:
        """The fields of one group."""
        return [each for each in self.fields if each.group == name]

    @property
    def item(self) -> Field:
        """The item's own field."""
        return self.group("item")[0]

    def error(self, path: tuple[str, ...], fault: str) -> ValueError:
        """The error of one key, with its line."""
        return _error(self.path, self.lines, path, fault)

    def settings(self) -> dict[str, Any]:
        """All that determines the model, for a resumed run to compare: neither paths nor the length of training."""
        tables = {name: dict(table) for name, table in self.tables.items()}
        for table, key in (("data", "files"), ("items", "files"), ("training", "epochs"), ("training", "patience"),
                           ("", "version"), ("", "attribution")):
            tables.get(table, {}).pop(key, None)
        return {**tables, "fields": [vars(each) for each in self.fields], "interests": [vars(each) for each in self.interests]}


def _error(path: str, lines: dict[tuple[str, ...], int], key: tuple[str, ...], fault: str) -> ValueError:
    line = next((lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in lines), 1)
    return ValueError(f"{path}:{line}: {'.'.join(key) or 'the recipe'}: {fault}")


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The line of each table's heading and of each key that begins a line."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        heading = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        key = re.match(r"\s*(\"[^\"]*\"|'[^']*'|[\w.-]+)\s*=", line)
        if heading:
            table = tuple(part.strip(" \"'") for part in heading[1].split("."))
            found.setdefault(table, number)
        elif key:
            parts = [key[1][1:-1]] if key[1][0] in "\"'" else key[1].split(".")
            found.setdefault((*table, *parts), number)
    return found


class _Reader:
    """Checks one parsed page."""

    def __init__(self, path: str, text: str):
        self.path = path
        self.lines = lines_of(text)

    def fail(self, key: tuple[str, ...], fault: str) -> ValueError:
        return _error(self.path, self.lines, key, fault)

    def keys(self, where: tuple[str, ...], given: Any, known: dict[str, Key], more: tuple[str, ...] = ()) -> dict[str, Any]:
        """The values of one table, with defaults."""
        if not isinstance(given, dict):
            raise self.fail(where, "must be a table")
        for name in given:
            if name not in known and name not in more:
                near = difflib.get_close_matches(name, [*known, *more], 1)
                raise self.fail((*where, name), f"there is no such key{f'; is {near[0]} meant?' if near else ''}")
        values = {}
        for name, key in known.items():
            if name in given and not key.check(given[name]):
                raise self.fail((*where, name), f"{given[name]!r} is not {key.words}")
            if name not in given and key.default is REQUIRED:
                raise self.fail((*where, name), f"is missing: {key.words}")
            values[name] = given.get(name, key.default)
        return values

    def fields(self, where: tuple[str, ...], group: str, given: Any) -> list[Field]:
        """The fields of one table."""
        if not isinstance(given, dict):
            raise self.fail(where, "must be a table of fields")
        made = []
        for name, entry in given.items():
            key = (*where, name)
            if not NAME.fullmatch(name):
                raise self.fail(key, "a field's name is 1 to 64 letters, digits, _ or -")
            values = self.keys(key, entry, FIELD)
            for option, kinds in NEEDS_KIND.items():
                if option in entry and values["kind"] not in kinds:
                    raise self.fail((*key, option), f"goes with the kind {' or '.join(kinds)}")
            columns = _listed(values.pop("column")) or (name,)
            if len(columns) > 1 and values["kind"] != "dense":
                raise self.fail((*key, "column"), "several columns make a dense field only")
            made.append(Field(name, group, columns, **values))
        return made

    def interests(self, given: Any) -> list[Interest]:
        """The sequences of behaviours; one of all events where the recipe names none."""
        if given == {}:
            return [Interest("clicks", (), INTEREST["max_length"].default)]
        if not isinstance(given, dict):
            raise self.fail(("interests",), "must be a table of interests")
        made = []
        for name, entry in given.items():
            if not NAME.fullmatch(name):
                raise self.fail(("interests", name), "an interest's name is 1 to 64 letters, digits, _ or -")
            values = self.keys(("interests", name), entry, INTEREST)
            made.append(Interest(name, _listed(values["events"]), values["max_length"]))
        return made


def _listed(value: Union[str, list[str]]) -> tuple[str, ...]:
    """A text or a list of texts as a tuple."""
    return tuple([value] if isinstance(value, str) and value else value)


def _check(recipe: Recipe, given: dict[str, Any]) -> None:
    """The rules between keys."""
    data = recipe["data"]
    for word, needed, key in (("impressions", True, "label"), ("clicks", False, "label")):
        if data["form"] == word and bool(data["label"]) is not needed:
            raise recipe.error(("data", key), f"form = \"{word}\" {'needs' if needed else 'has no'} column of labels")
    if not data["user"] and not data["session"]:
        raise recipe.error(("data", "user"), "is missing: the column of the user, or `session`")
    if data["form"] == "impressions" and "negatives" in given:
        raise recipe.error(("negatives",), "are given by the labels, where form = \"impressions\"")
    if data["form"] == "clicks" and recipe.group("candidate"):
        raise recipe.error(("candidate",), "a sampled negative has no values of a click's own; use item.attributes")
    named = [each for each in recipe.interests if each.events]
    if (named or data["targets"]) and not data["event"]:
        raise recipe.error(("data", "event"), "is missing: the column that `events` and `targets` choose by")
    names = [each.name for each in recipe.fields]
    for name in names:
        if names.count(name) > 1:
            raise recipe.error((name,), "is the name of two fields")
    if recipe["split"]["validation"] + recipe["split"]["test"] >= 1:
        raise recipe.error(("split", "test"), "with `validation` it leaves nothing to train on")
    if recipe["network"]["cell"] == "gru" and "attention" in given.get("network", {}):
        raise recipe.error(("network", "attention"), "the cell gru has none")
    if "units" in given.get("network", {}) and recipe["training"]["auxiliary"] == "inner":
        raise recipe.error(("network", "units"), "auxiliary = \"inner\" sets them to a behaviour's width; give mlp or none")
    if "items" in given and not recipe.group("attribute"):
        raise recipe.error(("items",), "a table of items serves item.attributes, which are missing")


def parse(path: str, text: str) -> Recipe:
    """The recipe of a page. ValueError names the file, the line and the key at fault."""
    try:
        import tomllib
    except ImportError as error:
        raise ValueError("recipes need Python 3.11 or later, for its tomllib") from error
    try:
        page = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        place = f"{found[1]}:{found[2]}" if found else str(len(text.splitlines()))
        raise ValueError(f"{path}:{place}: {str(error).partition(' (at')[0]}") from error
    reader = _Reader(path, text)
    tables = ("data", "item", "items", "split", "negatives", "network", "training")
    top = {key: value for key, value in page.items() if key not in (*tables, *GROUPS, "interests")}
    values = {"": reader.keys((), top, KEYS[""], (*tables, *GROUPS, "interests"))}
    for name in tables:
        if name not in page and name in OPTIONAL_TABLES:
            values[name] = {}
            continue
        values[name] = reader.keys((name,), page.get(name, {}), KEYS[name], ("attributes",) if name == "item" else ())
    item = values["item"]
    fields = [Field(item["name"], "item", (values["data"]["item"],), item["kind"], item["width"], item["min_count"]),
              *reader.fields(("item", "attributes"), "attribute", page.get("item", {}).get("attributes", {}))]
    for group in GROUPS:
        fields += reader.fields((group,), group, page.get(group, {}))
    folder = os.path.dirname(path)

    def paths(table: dict[str, Any]) -> list[str]:
        return [os.path.join(folder, os.path.expanduser(each)) for each in _listed(table.get("files", ()))]

    recipe = Recipe(path, text, values, fields, reader.interests(page.get("interests", {})), paths(values["data"]),
                    paths(values["items"]), reader.lines)
    _check(recipe, page)
    return recipe


def read(path: str, files: Optional[list[str]] = None) -> Recipe:
    """The recipe of a file; `files` take the place of its data.files."""
    try:
        with open(path, encoding="utf-8") as file:
            recipe = parse(path, file.read())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}") from error
    return replace(recipe, files=files) if files else recipe
