"""Hostile model directories: refused with exit status 1 and a message that names the file and the key or tensor.

A directory that was altered where nothing can tell (a bit of a weight that no sample notices) may load; it never
crashes. Every case runs `dien-server --check`, which opens a model as the server does.
"""

import concurrent.futures
import copy
import json
import math
import os
import pathlib
import struct
import subprocess

import pytest

from support import builds, service

# AddressSanitizer sees every read past an end; the release build shows that refusals do not depend on it. Threads play
# no part in opening a model.
pytestmark = pytest.mark.only_on("release", "asan")

REFUSED = 1


@pytest.fixture
def check_all(build):
    """check_all({name: directory}): {name: (status, output)}, on all processors; no sanitizer report in any."""
    def run(directories):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            running = {name: pool.submit(service.check, build, path) for name, path in directories.items()}
        results = {name: each.result() for name, each in running.items()}
        for name, (status, output) in results.items():
            assert builds.sanitizer_report(output) is None, f"{name}:\n{output}"
            assert status in (0, REFUSED), f"{name}: exit status {status}:\n{output}"
        return results
    return run


@pytest.fixture(params=["demo", "golden"])
def model(request):
    """Between them: vocabulary and plain indices, attributes, bilinear and MLP attention, both outputs."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def altered(model, tmp_path):
    """altered(name, change): a copy of the model with change(copy) applied and written, unless change wrote itself."""
    def make(name, change):
        copied = model.copy(tmp_path / name)
        if change(copied) is not WRITTEN:
            copied.write_config()
            copied.write_tensors()
        return copied.path
    return make


WRITTEN = object()


def refusals(results, expected):
    """Each was refused, by a message that holds the expected words."""
    faults = []
    for name, words in expected.items():
        status, output = results[name]
        missing = [word for word in words if word not in output]
        if status != REFUSED or missing:
            faults.append(f"{name}: exit status {status}, lacks {missing}: {output.strip()[-400:]}")
    assert not faults, "\n".join(faults)


def test_unaltered_is_accepted(altered, check_all):
    """Written back as read: what follows is refused for its alteration, not for the way this file writes."""
    status, output = check_all({"same": altered("same", lambda model: None)})["same"]
    assert status == 0, output


def test_no_such_directory(build, tmp_path):
    status, output = service.check(build, tmp_path / "nothing")
    assert status == REFUSED and "nothing" in output


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "samples.json"])
def test_missing_or_strange_files(altered, check_all, name):
    def replace_by(make):
        def change(model):
            (model.path / name).unlink()
            make(model.path / name)
            return WRITTEN
        return change
    ways = {
        "missing": lambda path: None,
        "empty": lambda path: path.write_bytes(b""),
        "a directory": lambda path: path.mkdir(),
        "a dangling link": lambda path: path.symlink_to("nowhere"),
        "zeros": lambda path: path.write_bytes(bytes(5000)),
        "text": lambda path: path.write_text("hello\n" * 100),
        "a pipe": lambda path: os.mkfifo(path),
        "a device": lambda path: path.symlink_to("/dev/zero"),
    }
    results = check_all({way: altered(way, replace_by(make)) for way, make in ways.items()})
    refusals(results, {way: [name] for way in ways})


def cut(name, length):
    def change(model):
        path = model.path / name
        path.write_bytes(path.read_bytes()[:length])
        return WRITTEN
    return change


def test_truncated_config(model, altered, check_all):
    size = len((model.path / "config.json").read_text().rstrip())
    lengths = sorted({*range(0, size, max(1, size // 40)), size - 1})
    results = check_all({str(length): altered(str(length), cut("config.json", length)) for length in lengths})
    refusals(results, {str(length): ["config.json"] for length in lengths})


def test_truncated_samples(model, altered, check_all):
    size = len((model.path / "samples.json").read_text().rstrip())
    lengths = sorted({*range(0, size, max(1, size // 20)), size - 1})
    results = check_all({str(length): altered(str(length), cut("samples.json", length)) for length in lengths})
    refusals(results, {str(length): ["samples.json"] for length in lengths})


def test_truncated_tensors(model, altered, check_all):
    """In the length, in the header, and at both sides of every tensor's ends."""
    raw = (model.path / "model.safetensors").read_bytes()
    start = 8 + struct.unpack_from("<Q", raw)[0]
    ends = {start + offset for entry in model.header.values() for offset in entry["data_offsets"]}
    lengths = {*range(0, 17), *range(17, start, max(1, start // 20)), start - 1, len(raw) - 1}
    lengths |= {end + more for end in list(ends)[::max(1, len(ends) // 20)] for more in (-1, 0, 1)}
    lengths = sorted(length for length in lengths if 0 <= length < len(raw))
    results = check_all({str(length): altered(str(length), cut("model.safetensors", length)) for length in lengths})
    refusals(results, {str(length): ["model.safetensors"] for length in lengths})


# config.json, key by key.

OPTIONAL = {"metadata", "first_row", "scale", "keep", "vocabularies", "user", "context", "width", "attribute_of", "query"}


def paths(node, path=()):
    """Every place in a JSON document but those within metadata."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if (*path, key) != ("metadata",):
            yield (*path, key)
            yield from paths(value, (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


def with_config(path, act):
    """A change that acts on the container of `path` and its key."""
    def change(model):
        act(at(model.config, path[:-1]), path[-1])
    return change


def named(path):
    """The last name on a path: what a message about that place must hold."""
    return next(str(key) for key in reversed(path) if isinstance(key, str))


def thinned(places, most=120):
    """At most so many of a long list, evenly."""
    places = list(places)
    return places[::max(1, math.ceil(len(places) / most))]


def test_config_with_a_key_left_out(model, altered, check_all):
    places = [path for path in paths(model.config) if isinstance(path[-1], str)]
    directories = {"/".join(map(str, path)): altered(f"d{i}", with_config(path, lambda node, key: node.pop(key)))
                   for i, path in enumerate(places)}
    results = check_all(directories)
    refusals({name: results[name] for name in directories},
             {name: [named(path)] for name, path in zip(directories, places) if path[-1] not in OPTIONAL})


def test_config_with_an_unknown_key(model, altered, check_all):
    """A misspelt option is never ignored."""
    places = [(), *(path for path in paths(model.config) if isinstance(at(model.config, path), dict))]

    def add(path):
        def change(model):
            at(model.config, path)["keeep"] = "last"
        return change
    directories = {"/".join(map(str, path)): altered(f"u{i}", add(path)) for i, path in enumerate(places)}
    refusals(check_all(directories), {name: ["keeep"] for name in directories})


def wrong_values(value):
    """Values of other types, and of the same type but out of all range."""
    wrong = [None, True, [], {}, "", "nonsense", -1, 0, 1.5, 2**31, 2**53, 2**63 - 1, 1e308]
    return [each for each in wrong if type(each) is not type(value) or each != value]


def test_config_with_wrong_values(model, altered, check_all, rng):
    """Each place with two values drawn from a list of wrong ones. Some are right by chance of meaning (a name may be any
    name, a larger probe is lawful); so what is asked of every one is no crash, and a refusal where the type is wrong."""
    directories, expected = {}, {}
    for i, path in enumerate(thinned(paths(model.config))):
        value = at(model.config, path)
        for j, wrong in enumerate(rng.sample(wrong_values(value), 2)):
            name = f"{'/'.join(map(str, path))} = {wrong!r}"
            directories[name] = altered(f"w{i}-{j}", with_config(path, lambda node, key, wrong=wrong:
                                                                 node.__setitem__(key, copy.deepcopy(wrong))))
            numbers = isinstance(value, (int, float)) and isinstance(wrong, (int, float))
            if type(wrong) is not type(value) and not (numbers and not isinstance(wrong, bool)):
                expected[name] = ["config.json", named(path)]
    refusals(check_all(directories), expected)


def in_interest(**more):
    return lambda model: model.config["interests"][0].update(more)


CONFIGS = {
    "another format": (lambda model: model.config.update(format="dien/3"), ["format"]),
    "two fields of one name": (lambda model: model.config["fields"].append(dict(model.config["fields"][0])), ["fields"]),
    "two interests of one name": (lambda model: model.config["interests"].append(model.config["interests"][0]),
                                  ["interests"]),
    "no interests": (lambda model: model.config.update(interests=[]), ["interests"]),
    "no fields": (lambda model: model.config.update(fields=[]), ["fields"]),
    "a field of no such table": (lambda model: model.config["fields"][0].update(table="nosuch"), ["nosuch"]),
    "a group of no such field": (lambda model: model.config["groups"]["candidate"].append("nosuch"), ["nosuch"]),
    "a history of no such field": (in_interest(history=["nosuch"]), ["nosuch"]),
    "a target of no such field": (in_interest(target=["nosuch"]), ["nosuch"]),
    "an empty history": (in_interest(history=[]), ["history"]),
    "max_length 0": (in_interest(max_length=0), ["max_length"]),
    "max_length 65537": (in_interest(max_length=65537), ["max_length"]),
    "another end": (in_interest(keep="middle"), ["keep"]),
    "a name with a slash": (in_interest(name="a/b"), ["name"]),
    "a name of 65 bytes": (in_interest(name="x" * 65), ["name"]),
    "an input that is none": (lambda model: model.config["mlp"]["inputs"].append("user.nosuch"), ["user.nosuch"]),
    "an input twice": (lambda model: model.config["mlp"]["inputs"].append(model.config["mlp"]["inputs"][0]), ["inputs"]),
    "another activation": (lambda model: model.config["mlp"]["layers"][0].update(activation="gelu"), ["gelu"]),
    "a last layer that is not linear": (lambda model: model.config["mlp"]["layers"][-1].update(activation="relu"),
                                        ["layers"]),
    "a last layer too wide": (lambda model: model.config["mlp"]["layers"][-1].update(units=7), ["layers"]),
    "another output": (lambda model: model.config["output"].update(kind="argmax"), ["output"]),
    "a positive column that is none": (lambda model: model.config.update(output={"kind": "softmax", "positive": 2}),
                                       ["output"]),
    "more rows than the table": (lambda model: next(iter(model.config["tables"].values())).update(rows=10**6),
                                 ["tables."]),
    "an unknown row past the end": (lambda model: model.config["fields"][0].update(unknown_row=10**6), ["unknown_row"]),
    "units that differ": (lambda model: model.config["interests"][0]["extractor"].update(units=7), ["extractor"]),
}


def test_config_with_wrong_meaning(altered, check_all):
    directories = {name: altered(name, change) for name, (change, _) in CONFIGS.items()}
    refusals(check_all(directories), {name: words for name, (_, words) in CONFIGS.items()})


def test_config_of_hostile_text(altered, check_all):
    def write(text):
        def change(model):
            (model.path / "config.json").write_bytes(text(json.dumps(model.config)))
            return WRITTEN
        return change
    texts = {
        "a key twice": lambda text: ('{"format": "dien/1", ' + text[1:]).encode(),
        "trailing text": lambda text: (text + "x").encode(),
        "Latin-1": lambda text: text.replace("{", '{"caf\xe9": 1, ', 1).encode("latin-1"),
        "UTF-16": lambda text: text.encode("utf-16"),
        "depth bomb": lambda text: b'{"metadata": ' + b"[" * 500_000,
        "an array": lambda text: f"[{text}]".encode(),
        "NUL in a name": lambda text: text.replace('"name": "', '"name": "\\u0000', 1).encode(),
    }
    directories = {name: altered(name, write(text)) for name, text in texts.items()}
    refusals(check_all(directories), {name: ["config.json"] for name in directories})


# model.safetensors: its header.

def with_entry(name, **more):
    def change(model):
        model.header[name] = {**model.header[name], **more}
    return change


def test_each_tensor_left_out(model, altered, check_all):
    """With its bytes removed too, so that no hole is what is noticed."""
    def without(name):
        def change(model):
            begin, end = model.header.pop(name)["data_offsets"]
            del model.data[begin:end]
            for entry in model.header.values():
                entry["data_offsets"] = [offset - (end - begin) if offset >= end else offset
                                         for offset in entry["data_offsets"]]
        return change
    directories = {name: altered(name, without(name)) for name in model.header}
    refusals(check_all(directories), {name: [name] for name in directories})


def wrong_entries(entry):
    """The entry of one tensor, wrong in one way each."""
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    yield "another type of its size", {"dtype": {"F32": "I32", "I32": "F32", "I64": "F64", "U8": "BOOL", "I8": "U8",
                                                 "F16": "I16", "BF16": "I16"}[entry["dtype"]]}
    yield "a type that is none", {"dtype": "F33"}
    yield "a type that is no text", {"dtype": 5}
    yield "no type", {"dtype": None}
    yield "one row more", {"shape": [shape[0] + 1, *shape[1:]]}
    yield "one row less", {"shape": [shape[0] - 1, *shape[1:]]}
    yield "one dimension more", {"shape": [1, *shape]}
    yield "flat", {"shape": [math.prod(shape), 1, 1]}
    yield "no dimensions", {"shape": []}
    yield "a negative dimension", {"shape": [-shape[0], *shape[1:]]}
    yield "a product that overflows", {"shape": [2**32, 2**32]}
    yield "a huge dimension", {"shape": [2**62, *shape[1:]]}
    yield "a dimension that is a fraction", {"shape": [1.5, *shape[1:]]}
    yield "a shape that is no list", {"shape": shape[0]}
    yield "a start past the end", {"data_offsets": [2**40, 2**40 + end - begin]}
    yield "an end past the end", {"data_offsets": [begin, 2**40]}
    yield "a negative start", {"data_offsets": [-4, end]}
    yield "ends the wrong way round", {"data_offsets": [end, begin]}
    yield "offsets that wrap", {"data_offsets": [2**63 - 4, 2**63 - 1]}
    yield "a byte further on", {"data_offsets": [begin + 1, end + 1]}
    yield "four bytes less", {"data_offsets": [begin, end - 4]}
    yield "one offset", {"data_offsets": [begin]}
    yield "three offsets", {"data_offsets": [begin, end, end]}
    yield "offsets as text", {"data_offsets": ["0", "4"]}
    yield "an unknown key", {"strides": [1]}


def test_wrong_entries(model, altered, check_all, rng):
    """Every way to be wrong, each on tensors drawn at random: refused, by name."""
    directories, expected = {}, {}
    for i, (way, _) in enumerate(wrong_entries(next(iter(model.header.values())))):
        for tensor in rng.sample(sorted(model.header), 3):
            more = dict(wrong_entries(model.header[tensor]))[way]
            name = f"{tensor}: {way}"
            directories[name] = altered(f"{i} {tensor}", with_entry(tensor, **more))
            expected[name] = [tensor]
    refusals(check_all(directories), expected)


def test_overlapping_tensors(model, altered, check_all):
    """Two names for the same bytes, of the same shape; and a tensor inside another."""
    def overlap(model):
        by_shape = {}
        for name, entry in model.header.items():
            by_shape.setdefault((entry["dtype"], *entry["shape"]), []).append(name)
        first, second = next(names for names in by_shape.values() if len(names) > 1)[:2]
        model.header[second]["data_offsets"] = model.header[first]["data_offsets"]
    status, output = check_all({"overlap": altered("overlap", overlap)})["overlap"]
    assert status == REFUSED and "model.safetensors" in output, output


def test_unknown_tensor(altered, check_all):
    def add(model):
        size = len(model.data)
        model.data += bytes(-size % 8 + 8)
        model.header["mlp.layers.0.wieght"] = {"dtype": "F32", "shape": [2],
                                               "data_offsets": [len(model.data) - 8, len(model.data)]}
    status, output = check_all({"more": altered("more", add)})["more"]
    assert status == REFUSED and "mlp.layers.0.wieght" in output, output


def test_hole_and_trailing_bytes(altered, check_all):
    def trailing(model):
        model.data += bytes(8)

    def hole(model):
        model.data[0:0] = bytes(64)
        for entry in model.header.values():
            entry["data_offsets"] = [offset + 64 for offset in entry["data_offsets"]]
    results = check_all({"trailing": altered("trailing", trailing), "hole": altered("hole", hole)})
    refusals(results, {"trailing": ["model.safetensors"], "hole": ["model.safetensors"]})


def test_hostile_headers(model, altered, check_all):
    def write(raw):
        def change(model):
            path = model.path / "model.safetensors"
            path.write_bytes(raw(path.read_bytes()))
            return WRITTEN
        return change

    def length(value):
        return lambda raw: struct.pack("<Q", value) + raw[8:]

    def header(text):
        return lambda raw: struct.pack("<Q", len(text)) + text + raw[8 + struct.unpack_from("<Q", raw)[0]:]

    true_header = json.dumps(model.header)
    size = len((model.path / "model.safetensors").read_bytes())
    raws = {
        **{f"length {value}": length(value) for value in (0, 1, 2, size - 8, size - 7, size, 2**31, 2**32 + 8, 2**63 - 1,
                                                          2**63, 2**64 - 8, 2**64 - 1)},
        "an array": header(b"[]"),
        "nothing in it": header(b"{}"),
        "a number": header(b"5"),
        "entries that are numbers": header(b'{"mlp.layers.0.bias": 5}'),
        "a name twice": header((true_header[:-1] + ", " + true_header[1:]).encode()),
        "bad UTF-8": header(b'{"\xff": 1}'),
        "depth bomb": header(b"[" * 300_000),
        "a NUL": header(true_header.replace('"', '"\\u0000', 1).encode()),
        "text after it": header((true_header + "}").encode()),
    }
    directories = {name: altered(name, write(raw)) for name, raw in raws.items()}
    refusals(check_all(directories), {name: ["model.safetensors"] for name in directories})


# model.safetensors: its data.

def test_weights_that_are_not_finite(model, altered, check_all):
    """One element, in each floating-point tensor."""
    patterns = {"F32": {"NaN": struct.pack("<f", math.nan), "infinity": struct.pack("<f", -math.inf)},
                "F16": {"NaN": b"\x01\x7e", "infinity": b"\x00\x7c"}, "BF16": {"NaN": b"\xc0\x7f", "infinity": b"\x80\x7f"}}

    def put(name, what):
        def change(model):
            pattern = patterns[model.header[name]["dtype"]][what]
            end = model.header[name]["data_offsets"][1]
            model.data[end - len(pattern):end] = pattern
        return change
    directories = {f"{name} {what}": altered(f"{name} {what}", put(name, what)) for name, entry in model.header.items()
                   if entry["dtype"] in patterns for what in ("NaN", "infinity")}
    refusals(check_all(directories), {name: [name.split()[0]] for name in directories})


def test_indices_that_point_anywhere(model, altered, check_all, rng):
    """Slots, offsets and attribute rows overwritten: refused, or harmless; never followed."""
    integers = [name for name, entry in model.header.items() if entry["dtype"] in ("I32", "I64")]
    if not integers:
        pytest.skip("this model has plain indices only")

    def overwrite(name, value, share):
        def change(model):
            entry = model.header[name]
            size = 4 if entry["dtype"] == "I32" else 8
            limit = 2 ** (8 * size - 1)
            begin, end = entry["data_offsets"]
            for place in range(begin, end, size):
                if rng.random() < share:
                    model.data[place:place + size] = max(-limit, min(limit - 1, value)).to_bytes(size, "little", signed=True)
        return change
    directories = {f"{name} {value} {share}": altered(f"{name} {value} {share}", overwrite(name, value, share))
                   for name in integers for value in (-2**63, -1, 1, 10**6, 2**63 - 1) for share in (0.05, 1)}
    results = check_all(directories)
    assert any(status == REFUSED for status, _ in results.values())


def test_flipped_bits(model, altered, check_all, rng):
    """One bit, anywhere in the tensors' header, in the configuration, or in the data."""
    start = 8 + struct.unpack_from("<Q", (model.path / "model.safetensors").read_bytes())[0]

    def flip(name, first, last):
        def change(model):
            raw = bytearray((model.path / name).read_bytes())
            place = rng.randrange(first, min(last, len(raw)))
            raw[place] ^= 1 << rng.randrange(8)
            (model.path / name).write_bytes(raw)
            return WRITTEN
        return change
    ranges = [("model.safetensors", 0, start), ("config.json", 0, 10**9), ("samples.json", 0, 10**9),
              ("model.safetensors", start, 10**9)]
    directories = {f"{i} {name}": altered(f"{i}-{j}", flip(name, first, last))
                   for j, (name, first, last) in enumerate(ranges) for i in range(40)}
    results = check_all(directories)
    assert sum(status == REFUSED for status, _ in results.values()) > 40


# samples.json: a checkpoint proves itself.

def with_samples(act):
    def change(model):
        samples = model.samples
        samples = act(samples) or samples
        (model.path / "samples.json").write_text(json.dumps({"samples": samples}))
        return WRITTEN
    return change


def test_wrong_score_is_named(build, model, altered):
    """The sample, the candidate, and by how much; and only beyond the tolerance."""
    sample = len(model.samples) - 1
    candidate = len(model.samples[sample]["scores"]) - 1

    def shift(by):
        def act(samples):
            samples[sample]["scores"][candidate] += by
        return with_samples(act)
    status, output = service.check(build, altered("by 2.5e-4", shift(2.5e-4)))
    assert status == REFUSED
    assert "samples.json" in output and str(sample) in output and str(candidate) in output
    assert "2.5" in output and "e-04" in output or "0.00025" in output or "0.00024" in output, output
    assert service.check(build, altered("by 3e-5", shift(3e-5)))[0] == REFUSED
    assert service.check(build, altered("by 3e-6", shift(3e-6)))[0] == 0
    assert service.check(build, altered("allowed", shift(3e-5)), "--samples-tolerance", "1e-3")[0] == 0


def test_wrong_weights_are_caught_by_the_samples(model, altered, check_all):
    """A tensor scaled by a tenth: well-formed, finite, and not the trained model."""
    def scale(name):
        def change(model):
            begin, end = model.header[name]["data_offsets"]
            values = struct.unpack(f"<{(end - begin) // 4}f", bytes(model.data[begin:end]))
            model.data[begin:end] = struct.pack(f"<{len(values)}f", *(value * 1.1 for value in values))
        return change
    weights = [name for name, entry in model.header.items()
               if name.endswith(("weight", "weight_input", "weight_hidden", "matrix")) and entry["dtype"] == "F32"]
    assert len(weights) > 5
    results = check_all({name: altered(name, scale(name)) for name in weights})
    refusals(results, {name: ["samples.json"] for name in weights})


SAMPLES = {
    "none": lambda samples: samples.clear(),
    "a score short": lambda samples: samples[0]["scores"].pop(),
    "a score more": lambda samples: samples[0]["scores"].append(0.5),
    "no scores": lambda samples: samples[0].pop("scores"),
    "no candidates": lambda samples: samples[0].pop("candidates"),
    "a score as text": lambda samples: samples[0]["scores"].__setitem__(0, "0.5"),
    "a score that is null": lambda samples: samples[0]["scores"].__setitem__(0, None),
    "an unknown member": lambda samples: samples[0].update(scroes=[]),
    "an unknown field": lambda samples: samples[0]["candidates"].update(nosuch=samples[0]["scores"]),
    "not an object": lambda samples: [5],
}


def test_spoiled_samples(altered, check_all):
    directories = {name: altered(name, with_samples(act)) for name, act in SAMPLES.items()}
    refusals(check_all(directories), {name: ["samples.json"] for name in directories})


# The server itself, not only --check.

def test_a_bad_model_is_not_served(build, demo, tmp_path):
    """The server ends with the reason in its log and was never ready."""
    bad = demo.copy(tmp_path / "bad")
    name = next(name for name in bad.header if name.startswith("mlp."))
    bad.header[name]["shape"] = [1]
    bad.write_tensors()
    ran = subprocess.run([build.server, "--model", bad.path, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, timeout=60, check=False, env=builds.environment(), cwd=pathlib.Path("/"))
    assert ran.returncode == REFUSED
    lines = [json.loads(line) for line in ran.stdout.decode().splitlines()]
    assert any(line["event"] == "model-refused" and name in line["message"] for line in lines)
    assert not any(line["event"] == "model-ready" for line in lines)
