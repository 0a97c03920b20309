"""Requests that must be refused, for every reader of requests: the server's in C, and the Python tools'.

The model has a field of every kind: text, integers and indices as ids, one number and three, attributes of both kinds.
CASES names, for each request, the JSON pointer that every reader must give; their words are compared with each other.
"""
import copy
import pathlib
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
if str(TOP / "model" / "export") not in sys.path:
    sys.path.insert(0, str(TOP / "model" / "export"))

TABLES = {"item": (6, 3), "category": (4, 2), "shop": (5, 2), "country": (4, 2), "month": (3, 1), "tag": (7, 2),
          "genre": (4, 3), "word": (4, 2)}
CONFIG = {
    "format": "dien/2", "name": "words", "version": "1",
    "vocabularies": {},
    "tables": {name: {"rows": rows, "width": width} for name, (rows, width) in TABLES.items()},
    "fields": [
        {"name": "item", "kind": "categorical", "table": "item", "ids": "vocabulary", "vocabulary": "items", "first_row": 1,
         "unknown_row": 0},
        {"name": "category", "kind": "categorical", "table": "category", "ids": "index", "unknown_row": 0,
         "attribute_of": "item"},
        {"name": "price", "kind": "dense", "width": 1, "attribute_of": "item"},
        {"name": "shop", "kind": "categorical", "table": "shop", "ids": "vocabulary", "vocabulary": "shops", "first_row": 1,
         "unknown_row": 0},
        {"name": "dwell", "kind": "dense", "width": 1},
        {"name": "country", "kind": "categorical", "table": "country", "ids": "index", "first_row": 1, "unknown_row": 0},
        {"name": "place", "kind": "dense", "width": 3},
        {"name": "month", "kind": "categorical", "table": "month", "ids": "index", "unknown_row": 0},
        {"name": "tags", "kind": "categorical", "table": "tag", "ids": "index", "first_row": 1, "unknown_row": 0, "pool": "mean",
         "values": 3},
        {"name": "words", "kind": "categorical", "table": "word", "ids": "vocabulary", "vocabulary": "words", "unknown_row": 0,
         "first_row": 1, "pool": "sum", "values": 2},
        {"name": "genres", "kind": "categorical", "table": "genre", "ids": "vocabulary", "vocabulary": "genres",
         "unknown_row": 3, "pool": "max", "values": 2, "attribute_of": "item"}],
    "groups": {"user": ["country", "place", "tags"], "context": ["month"], "behaviour": ["item", "category", "shop", "dwell"],
               "candidate": ["item", "category", "price", "shop", "genres", "words"]},
    "interests": [
        {"name": "clicks", "history": ["item", "category", "dwell"], "target": ["item"], "max_length": 5, "keep": "last",
         "extractor": {"cell": "gru", "units": 3, "reset": "after"},
         "attention": {"kind": "dot", "normalise": "softmax"},
         "evolution": {"cell": "augru-and", "units": 2, "reset": "after"}},
        {"name": "shops", "history": ["shop"], "target": ["shop"], "max_length": 3, "keep": "first",
         "extractor": {"cell": "gru", "units": 2, "reset": "before"},
         "attention": {"kind": "dot", "normalise": "softmax"},
         "evolution": {"cell": "augru-or", "units": 2, "reset": "before"}}],
    "mlp": {"inputs": ["user.country", "user.place", "user.tags", "context.month", "candidate.item", "candidate.price",
                       "candidate.genres", "candidate.words", "interest.clicks", "interest.shops"],
            "layers": [{"units": 1, "activation": "linear"}]},
    "output": {"kind": "sigmoid"},
}
GOOD = {
    "user": {"country": 2, "place": [0.5, -1, 2], "tags": [5, 0, 5]}, "context": {"month": 1},
    "history": {"item": ["a", "zzz", "c"], "category": [0, 3, 99], "shop": [-7, 2**64 - 1], "dwell": [1, 2.5, 0]},
    "candidates": {"item": ["b", "c"], "price": [1.5, 2], "shop": [2**40, 5], "words": [["x", "y"], []]},
}
DEEP = {"a": 1}


def model():
    """The config and the tensors of the model."""
    import numpy as np
    from dien.model.config import weight_shapes
    from dien.model.vocabulary import Vocabulary
    random, config = np.random.default_rng(5), copy.deepcopy(CONFIG)
    vocabularies = {"items": Vocabulary.of_strings(["a", "b", "c", "é漢", "beyond"]),
                    "shops": Vocabulary.of_integers([-7, 5, 2**40, 0]), "genres": Vocabulary.of_integers([-3, 2**52, 8]),
                    "words": Vocabulary.of_strings(["x", "y", ""])}
    config["vocabularies"] = {name: vocabulary.config() for name, vocabulary in vocabularies.items()}
    tensors = {name: random.normal(0, 0.7, shape).astype(np.float32) for name, shape in weight_shapes(config).items()}
    tensors["attributes.category"] = np.array([0, 1, 2, 3, 1, 0], np.int32)
    tensors["attributes.genres"] = np.array([[-1, -1], [0, 1], [2, -1], [-1, 3], [3, 3], [0, 0]], np.int32)
    tensors["attributes.price"] = random.normal(0, 1, (6, 1)).astype(np.float32)
    for name, vocabulary in vocabularies.items():
        tensors.update({f"vocabularies.{name}.{part}": tensor for part, tensor in vocabulary.tensors.items()})
    return config, tensors


def changed(path, value):
    """GOOD with one value replaced, added, or (value ...) taken out."""
    request = copy.deepcopy(GOOD)
    *parents, last = path
    node = request
    for name in parents:
        node = node[name]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return request


def rows(group, request=None):
    """A request with one group in the row form, as far as its columns are long."""
    request = copy.deepcopy(request or GOOD)
    columns = request[group]
    count = max(len(column) for column in columns.values())
    request[group] = [{name: column[i] for name, column in columns.items() if i < len(column)} for i in range(count)]
    return request


def in_rows(group, place, field, value):
    request = rows(group, changed(["history", "shop"], [-7, 5, 5]))
    request[group][place][field] = value
    return request


def case(pointer, path, value):
    return pointer, changed(path, value)


CASES = {
    "a history under another column's name": case("/history/hist_item", ["history", "hist_item"], ["a", "b", "c"]),
    "only another column's name": case("/history/goods", ["history"], {"goods": ["a"]}),
    "a history without a field": case("/history", ["history"], {"item": ["a"], "category": [1]}),
    "an unknown candidate field": case("/candidates/sku", ["candidates", "sku"], [1, 2]),
    "an unknown user field": case("/user/age", ["user", "age"], 3),
    "a user field in another group": case("/context/country", ["context", "country"], 3),
    "no user": case("", ["user"], ...),
    "an empty user": case("/user", ["user"], {}),
    "a missing user field": case("/user", ["user", "country"], ...),
    "a null user field": case("/user", ["user", "country"], None),
    "no context": case("", ["context"], ...),
    "a missing candidate field": case("/candidates", ["candidates", "shop"], ...),
    "columns of two lengths": case("/history/dwell", ["history", "dwell"], [1.0]),
    "a longer attribute": case("/candidates/price", ["candidates", "price"], [1.0, 2.0, 3.0]),
    "a number for text": case("/candidates/item/1", ["candidates", "item"], ["a", 3]),
    "null for text": case("/history/item/2", ["history", "item"], ["a", "b", None]),
    "text with U+0000": case("/history/item/0", ["history", "item"], ["a\0b", "b", "c"]),
    "text for an index": case("/context/month", ["context", "month"], "x"),
    "an index with a leading zero": case("/context/month", ["context", "month"], "01"),
    "a negative index": case("/context/month", ["context", "month"], -1),
    "a negative index as text": case("/context/month", ["context", "month"], "-1"),
    "a fraction for an index": case("/context/month", ["context", "month"], 1.5),
    "true for an index": case("/context/month", ["context", "month"], True),
    "an index beyond 64 bits": case("/context/month", ["context", "month"], 2**64),
    "an index beyond doubles": case("/context/month", ["context", "month"], 10**400),
    "text for an integer": case("/history/shop/1", ["history", "shop"], [5, "five"]),
    "an integer below 64 bits": case("/history/shop/0", ["history", "shop"], [-2**63 - 1]),
    "a list for an id": case("/history/shop/0", ["history", "shop"], [[5]]),
    "an object for an id": case("/user/country", ["user", "country"], DEEP),
    "text for a number": case("/candidates/price/0", ["candidates", "price"], ["1.5", 2]),
    "a list for a number": case("/history/dwell/1", ["history", "dwell"], [1, [2], 3]),
    "true for a number": case("/history/dwell/1", ["history", "dwell"], [1, True, 3]),
    "a number beyond float32": case("/history/dwell/2", ["history", "dwell"], [1, 2, 1e39]),
    "a number beyond doubles": case("/history/dwell/2", ["history", "dwell"], [1, 2, 10**400]),
    "two numbers for three": case("/user/place", ["user", "place"], [1, 2]),
    "text among numbers": case("/user/place", ["user", "place"], [1, 2, "3"]),
    "a number for three": case("/user/place", ["user", "place"], 1),
    "one of three beyond float32": case("/user/place", ["user", "place"], [1, -1e39, 2]),
    "an id for several": case("/user/tags", ["user", "tags"], 1),
    "text for several ids": case("/user/tags", ["user", "tags"], "1"),
    "four ids of three": case("/user/tags", ["user", "tags"], [1, 2, 3, 4]),
    "a negative index among several": case("/user/tags", ["user", "tags"], [1, -2]),
    "text among several ids": case("/user/tags", ["user", "tags"], [1, "2"]),
    "a fraction among several ids": case("/user/tags", ["user", "tags"], [1.5]),
    "a fraction's text among several": case("/user/tags", ["user", "tags"], ["1.5"]),
    "a negative index's text among several": case("/user/tags", ["user", "tags"], ["1", "-2"]),
    "a number among several texts": case("/candidates/words/0", ["candidates", "words"], [["x", 1], []]),
    "numbers for several texts": case("/candidates/words/1", ["candidates", "words"], [[], [1]]),
    "U+0000 in one of several texts": case("/candidates/words/1", ["candidates", "words"], [["x"], ["a\0b"]]),
    "three texts of two": case("/candidates/words/0", ["candidates", "words"], [["x", "y", "z"], []]),
    "an id past doubles among several": case("/user/tags", ["user", "tags"], [2**53]),
    "a list among several ids": case("/user/tags", ["user", "tags"], [[1]]),
    "null for several ids": case("/user", ["user", "tags"], None),
    "three ids of two for a candidate": case("/candidates/genres/1", ["candidates", "genres"], [[8], [8, -3, 8]]),
    "an id for several of a candidate": case("/candidates/genres/0", ["candidates", "genres"], [8, 8]),
    "candidates null": case("/candidates", ["candidates"], None),
    "no candidates": case("/candidates", ["candidates"], ...),
    "no candidate": case("/candidates", ["candidates"], []),
    "empty columns": case("/candidates", ["candidates"], {"item": [], "shop": []}),
    "candidates of text": case("/candidates", ["candidates"], "a"),
    "a column that is no list": case("/candidates/item", ["candidates", "item"], "ab"),
    "rows that are no objects": case("/history/1", ["history"], [{"item": "a"}, 5]),
    "history of text": case("/history", ["history"], "abc"),
    "user of a list": case("/user", ["user"], [1]),
    "an unknown member": case("/histroy", ["histroy"], {}),
    "an unknown member, to be escaped": case("/a~1b~0c", ["a/b~c"], 1),
    "top_k of zero": case("/top_k", ["top_k"], 0),
    "top_k of text": case("/top_k", ["top_k"], "3"),
    "explain of a number": case("/explain", ["explain"], 1),
    "timeout of two days": case("/timeout_ms", ["timeout_ms"], 172_800_000),
    "user id of a number": case("/user_id", ["user_id"], 5),
    "an empty user id": case("/user_id", ["user_id"], ""),
    "a user id too wide": case("/user_id", ["user_id"], "用" * 134),
    "a row with an unknown field": ("/candidates/1/sku", in_rows("candidates", 1, "sku", 5)),
    "a row without its id": ("/candidates/1/item", in_rows("candidates", 1, "item", None)),
    "a row's wrong number": ("/history/2/dwell", in_rows("history", 2, "dwell", "x")),
    "rows without fields": case("/history", ["history"], [{}]),
    "not an object": ("", [GOOD]),
}

ACCEPTED = {
    "as it is": GOOD, "rows": rows("candidates"), "no history": changed(["history"], ...),
    "an empty history": changed(["history"], {}), "no rows of history": changed(["history"], []),
    "no ids": changed(["user", "tags"], []), "unknown ids": changed(["user", "tags"], [10**9, 2.0]),
    "several ids as texts": changed(["user", "tags"], ["1", "5", "18446744073709551615"]),
    "no texts": changed(["candidates", "words"], [[], []]),
    "unknown texts": changed(["candidates", "words"], [["zzz"], ["x", ""]]),
    "several ids of candidates": changed(["candidates", "genres"], [[], [2**52, 77]]),
    "several ids of one candidate": changed(["candidates", "genres"], [None, [-3]]),
    "a null history": changed(["history"], None), "columns of null": changed(["history"], {"item": None, "shop": None}),
    "an index as text": changed(["context", "month"], "1"), "a whole number": changed(["context", "month"], 1.0),
    "an index past the table": changed(["context", "month"], 2**64 - 1),
    "an id as text": changed(["history", "shop"], ["-7", "18446744073709551615"]),
    "a large whole number": changed(["history", "shop"], [1e15]),
    "attributes of null": changed(["candidates", "price"], [None, 2]),
    "an attribute's column of null": changed(["history", "category"], None),
    "all members": {**GOOD, "user_id": "u", "top_k": 1.0, "explain": False, "timeout_ms": 10_000, "partial": True},
}

VALUES: tuple = (None, True, 0, -1, 1, 2**63, 2**64, 1.5, 1e39, "a", "1", "", [], [1], [1, 2, 3], {}, {"item": ["a"]},
                 [{"item": "a"}], ["a", "b"], [1, None])


def mutated(random):
    """GOOD with one or two random changes: a value, a member more or less, a group in rows. Some stay right."""
    request = copy.deepcopy(GOOD)
    if random.random() < 0.3:
        request = rows("candidates", request)
    for _ in range(random.choice((1, 1, 2))):
        node = request
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = random.choice(keys)
            if isinstance(node[key], (dict, list)) and node[key] and random.random() < 0.75:
                node = node[key]
                continue
            if random.random() < 0.25 and isinstance(node, dict):
                del node[key]
            elif random.random() < 0.2 and isinstance(node, list):
                node.append(copy.deepcopy(random.choice(VALUES)))
            elif random.random() < 0.1 and isinstance(node, dict):
                node["surprise"] = copy.deepcopy(random.choice(VALUES))
            else:
                node[key] = copy.deepcopy(random.choice(VALUES))
            break
    return request
