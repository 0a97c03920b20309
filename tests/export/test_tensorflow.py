"""TensorFlow's checkpoints and frozen graphs, read without TensorFlow."""

import os

import numpy as np
import plyvel
import pytest
import snappy

import tensorflow_files as files
from dien.sources import crc32c, leveldb_table, protobuf_wire, tensorflow_checkpoint, weights
from dien.sources.source import ConversionError
from support.dien_command import GOLDEN
from test_convert import command, converted

CASE = "reference-tf1-prelu"


def variables(scope="", slots=False):
    """The golden case's variables as a training run of the authors' code stores them."""
    held = weights.read(str(GOLDEN / CASE / "state_dict.safetensors"))
    tensors = {f"{scope}{name}": np.asarray(array, np.float32) for name, array in held.items()}
    if slots:
        for name, array in list(tensors.items()):
            tensors[f"{name}/Adam"] = tensors[f"{name}/Adam_1"] = np.zeros_like(array)
        tensors["Metrics/beta1_power"] = np.float32(0.9).reshape(())
        tensors["global_step"] = np.array(7, np.int64)
    return tensors


def refusal(path):
    with pytest.raises(ConversionError) as error:
        weights.read(str(path))
    return str(error.value)


def check(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape and np.array_equal(found[name], array), name


# ---- the parts, against other people's

def test_checksums():
    """Against crcmod: lengths around a lane, and one checksum continued by another."""
    random = np.random.default_rng(0)
    assert crc32c.crc32c(b"123456789") == 0xE3069283
    for size in (0, 1, 7, 1024, 32_767, 32_768, 32_769, 70_001, 17_000_003):
        data = random.bytes(size)
        assert crc32c.crc32c(data) == files.CRC(data), size
        assert crc32c.crc32c(data[size // 3:], crc32c.crc32c(data[:size // 3])) == files.CRC(data), size


def test_snappy():
    """Against Google's: literals, and copies near, far and of themselves."""
    random = np.random.default_rng(0)
    for case in range(200):
        pieces = [(random.bytes(int(random.integers(1, 90))), b"ab" * int(random.integers(1, 400)), b"/kernel/Adam_1")
                  [random.integers(3)] for _ in range(random.integers(0, 30))]
        data = b"".join(pieces) + bytes(case)
        assert leveldb_table.snappy(snappy.compress(data)) == data
    assert leveldb_table.snappy(snappy.compress(data := random.bytes(200_000))) == data


@pytest.mark.parametrize("data", [b"", b"\x05", b"\x05\x10abc", b"\x02\x00abc", b"\x04\x00a\x09\x05", b"\x04\x00a\x02\x00\x00",
                                  b"\x04\xf0", b"\x05\x00a\x01"])
def test_damaged_snappy(data):
    with pytest.raises(leveldb_table.TableError):
        leveldb_table.snappy(data)


@pytest.mark.parametrize("compression", ["snappy", None])
def test_tables_of_leveldb_itself(tmp_path, compression):
    """LevelDB adds eight bytes to a key of its own: when it was written, and whether it is there."""
    expected = {f"dien/gru{i % 3}/layer{i}/kernel{'/Adam' * (i % 2)}".encode(): os.urandom(i % 40) * (i % 5) for i in range(3000)}
    database = plyvel.DB(str(tmp_path / "db"), create_if_missing=True, compression=compression, block_size=900)
    for key, value in expected.items():
        database.put(key, value)
    database.compact_range()
    database.close()
    found = {}
    for file in (tmp_path / "db").glob("*.ldb"):
        found.update((key[:-8], value) for key, value in leveldb_table.entries(file.read_bytes()))
    assert found == expected


@pytest.mark.parametrize("value, code", [
    (0, b"\200"), (63, b"\277"), (64, b"\300@"), (8191, b"\337\377"), (8192, b"\340 \0"), (1048576, b"\360\020\0\0"),
    (134217728, b"\370\010\0\0\0"), (2199023255552, b"\376\002\0\0\0\0\0"), (36028797018963968, b"\377\200\200\0\0\0\0\0\0"),
    (2**63 - 1, b"\377\300\177" + b"\377" * 7), (-1, b"\177"), (-64, b"@"), (-65, b"?\277"), (-8193, b"\037\337\377")])
def test_ordered_numbers(value, code):
    """The codes that TensorFlow's own test of its ordered code lists."""
    assert tensorflow_checkpoint.ordered_signed(value) == code


def test_ordered_texts():
    assert tensorflow_checkpoint.ordered_text(b"\0\1\xff") == b"\0\xff\1\xff\0\0\1"
    assert tensorflow_checkpoint.ordered_text(b"foo") == b"foo\0\1"
    assert [tensorflow_checkpoint.ordered_unsigned(value) for value in (0, 2, 256)] == [b"\0", b"\1\2", b"\2\1\0"]


# ---- checkpoints

@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_checkpoint(tmp_path, compress, shards):
    expected = variables(slots=True)
    files.checkpoint(tmp_path / "ckpt", expected, compress, shards)
    for name in ("ckpt", "ckpt.index", f"ckpt.data-00000-of-{shards:05d}"):
        check(weights.read(str(tmp_path / name)), expected)


def test_types(tmp_path):
    bundle, expected = files.Bundle(), {}
    for kind in ("<f4", "<f8", "<i4", "u1", "<i2", "i1", "<i8", "?", "<f2"):
        expected[kind] = np.arange(6).reshape(2, 3).astype(kind)
        bundle.tensor(kind, expected[kind])
    expected["none"] = np.zeros((0, 4), np.float32)
    expected["scalar"] = np.array(2.5, np.float32)
    bundle.tensor("none", expected["none"])
    bundle.tensor("scalar", expected["scalar"])
    expected["bf16"] = np.array([1.5, -2.0, 0.0, 3e38], np.float32).view("<u4") >> 16 << 16
    expected["bf16"] = expected["bf16"].astype("<u4").view("<f4")
    bundle.bfloat16("bf16", expected["bf16"])
    bundle.text("about", b"some words")
    bundle.save(tmp_path / "ckpt")
    notes = []
    check(weights.read(str(tmp_path / "ckpt"), notes.append), expected)
    assert notes == ["about: text, which no model reads"]


def test_partitioned_variables(tmp_path):
    """A table in slices of rows over three shards, with starts whose codes have one, two and three bytes."""
    table = np.arange(20_000 * 2, dtype=np.float32).reshape(-1, 2)
    bundle = files.Bundle(3)
    bundle.partitioned("mid_embedding_var", table, [5, 63, 64, 700, 9000])
    bundle.partitioned("bias", table[:, 0].copy(), [1])
    bundle.save(tmp_path / "ckpt", compress=True)
    check(weights.read(str(tmp_path / "ckpt")), {"mid_embedding_var": table, "bias": table[:, 0]})
    del bundle.entries[files.slice_key("mid_embedding_var", 64, (636, 2))]
    bundle.save(tmp_path / "ckpt")
    assert "tensor mid_embedding_var: the slice at [64, 0] is missing" in refusal(tmp_path / "ckpt")


def test_object_paths(tmp_path):
    """Keras and tf.train.Checkpoint name a tensor by its path; the graph's names come back, the optimiser's do not matter."""
    expected = variables()
    keys = {f"layer_with_weights-{place}/variables/{place}": name for place, name in enumerate(expected)}
    bundle = files.Bundle()
    for key, name in keys.items():
        bundle.tensor(f"{key}/.ATTRIBUTES/VARIABLE_VALUE", expected[name])
        bundle.tensor(f"{key}/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE", expected[name])
    bundle.tensor("optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE", np.array(3, np.int64))
    bundle.tensor("save_counter/.ATTRIBUTES/VARIABLE_VALUE", np.array(3, np.int64))
    names = {f"{key}/.ATTRIBUTES/VARIABLE_VALUE": name for key, name in keys.items()}
    bundle.text("_CHECKPOINTABLE_OBJECT_GRAPH", files.object_graph(
        {**names, "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE": "Adam/iter"}))
    (tmp_path / "export" / "variables").mkdir(parents=True)
    (tmp_path / "export" / "saved_model.pb").write_bytes(b"\x08\x01\x12\x10")
    bundle.save(tmp_path / "export" / "variables" / "variables")
    bundle.save(tmp_path / "ckpt-1")
    for path in (tmp_path / "export", tmp_path / "ckpt-1"):  # a SavedModel's variables are such a checkpoint
        found = weights.read(str(path))
        assert all(np.array_equal(found[name], array) for name, array in expected.items())
        slots = {f"{key}/.OPTIMIZER_SLOT/optimizer/m" for key in keys}
        assert set(found) - set(expected) == slots | {"optimizer/iter", "save_counter"}
    run = command(CASE, "--samples", GOLDEN / CASE / "requests.json", "--output", tmp_path / "out", file=tmp_path / "ckpt-1")
    assert run.returncode == 0 and "dropped optimizer/iter: the optimiser's" in run.stdout, run.stderr


@pytest.mark.parametrize("scope", ["", "dien/"])
def test_the_authors_checkpoint(tmp_path, scope):
    """By the command alone, to the framework's scores: no TensorFlow on the way."""
    files.checkpoint(tmp_path / "ckpt_noshuffDIEN3", variables(scope, slots=True), compress=True, shards=2)
    run = command(CASE, "--samples", GOLDEN / CASE / "requests.json", "--output", tmp_path / "out",
                  file=tmp_path / "ckpt_noshuffDIEN3")
    assert run.returncode == 0, run.stderr
    assert f"dropped {scope}f1/kernel/Adam: the optimiser's" in run.stdout and "dropped global_step" in run.stdout


def test_each_flipped_bit_is_found(tmp_path):
    """In the index and in the data, whatever it is of."""
    files.checkpoint(tmp_path / "ckpt", {f"layer{i}/kernel": np.arange(i + 9, dtype=np.float32) for i in range(20)}, True)
    for name in ("ckpt.index", "ckpt.data-00000-of-00001"):
        content = (tmp_path / name).read_bytes()
        end = len(content) - (48 if name == "ckpt.index" else 0)  # the footer has no checksum
        for place in range(0, end, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            (tmp_path / name).write_bytes(damaged)
            assert "checksum (CRC)" in refusal(tmp_path / "ckpt"), (name, place)
        (tmp_path / name).write_bytes(content)
    assert len(weights.read(str(tmp_path / "ckpt"))) == 20


def test_each_cut_is_an_error(tmp_path):
    files.checkpoint(tmp_path / "ckpt", {"a": np.arange(9, dtype=np.float32), "b": np.arange(4, dtype=np.float32)})
    for name in ("ckpt.index", "ckpt.data-00000-of-00001"):
        content = (tmp_path / name).read_bytes()
        for length in range(len(content)):
            (tmp_path / name).write_bytes(content[:length])
            assert str(tmp_path / "ckpt") in refusal(tmp_path / "ckpt")
        (tmp_path / name).write_bytes(content)


def test_damaged_footers_and_entries(tmp_path):
    """Random bytes in the place of footers, values and keys never end in a traceback."""
    random = np.random.default_rng(0)
    files.checkpoint(tmp_path / "ckpt", {"a/kernel": np.ones((3, 4), np.float32), "b": np.ones(4, np.float32)})
    content = (tmp_path / "ckpt.index").read_bytes()
    for place in range(len(content) - 48, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 255
        (tmp_path / "ckpt.index").write_bytes(damaged)
        try:
            weights.read(str(tmp_path / "ckpt"))  # a padding byte says nothing
        except ConversionError as error:
            assert str(tmp_path / "ckpt") in str(error)
    for _ in range(300):
        bundle = files.Bundle()
        bundle.tensor("a", np.ones((3, 4), np.float32))
        value = bytearray(bundle.entries[b"a"])
        for _ in range(random.integers(1, 4)):
            value[random.integers(len(value))] = random.integers(256)
        bundle.entries[b"a"] = bytes(value)
        bundle.save(tmp_path / "ckpt")
        try:
            weights.read(str(tmp_path / "ckpt"))
        except ConversionError as error:
            assert str(tmp_path / "ckpt") in str(error)


@pytest.mark.parametrize("change, message", [
    ({"header": files.number(1, 1) + files.number(2, 1)}, "its numbers are big-endian"),
    ({"header": files.number(1, 1) + files.nested(3, files.number(1, 9) + files.number(2, 2))}, "its format has version 2"),
    ({"header": b""}, "it has no header"), ({"header": files.number(1, 2)}, "ckpt.data-00000-of-00002: No such file")])
def test_headers(tmp_path, change, message):
    bundle = files.Bundle()
    bundle.tensor("a", np.ones(3, np.float32))
    bundle.save(tmp_path / "ckpt", **change)
    assert message in refusal(tmp_path / "ckpt")


def test_a_checkpoint_of_the_first_format(tmp_path):
    (tmp_path / "model.ckpt-3").write_bytes(files.table([(b"", b"\x0a\x00"), (b"a", b"b")]))
    assert "TensorFlow's first format" in refusal(tmp_path / "model.ckpt-3")


def test_directories_and_graphs_beside_a_checkpoint(tmp_path):
    files.checkpoint(tmp_path / "ckpt-3", {"a": np.ones(3, np.float32)})
    (tmp_path / "ckpt-3.meta").write_bytes(b"\n\x05abcde" + bytes(9))
    assert "name one by its prefix, ckpt-3" in refusal(tmp_path)
    assert "Name the checkpoint by its prefix" in refusal(tmp_path / "ckpt-3.meta")


# ---- frozen graphs

def test_frozen_graph(tmp_path):
    """Its constants are the variables; others, which the graph computes with, are left out."""
    (tmp_path / "dien.pb").write_bytes(files.frozen(variables("dien/")))
    check(weights.read(str(tmp_path / "dien.pb")), variables("dien/"))
    expected, found = converted(CASE)[1], converted(CASE, file=tmp_path / "dien.pb")[1]
    check(found, expected)


def test_constants_without_their_identities(tmp_path):
    """As graph optimisers leave them: every constant of floats that is no scalar."""
    graph = b"".join(files.constant(name, array) for name, array in variables("dien/").items())
    graph += files.constant("dien/gru1/zeros/Const", np.zeros((), np.float32)) + files.node("dien/gru1/while", "While")
    (tmp_path / "dien.pb").write_bytes(graph)
    check(weights.read(str(tmp_path / "dien.pb")), variables("dien/"))


@pytest.mark.parametrize("kind, field, packed, values", [
    (1, 5, np.array([0.5], "<f4").tobytes(), np.full((2, 3), 0.5, np.float32)),
    (1, 5, np.arange(6, dtype="<f4").tobytes(), np.arange(6, dtype=np.float32).reshape(2, 3)),
    (1, 5, np.array([1, 2], "<f4").tobytes(), np.array([[1, 2, 2], [2, 2, 2]], np.float32)),
    (2, 6, np.array([0.5], "<f8").tobytes(), np.full((2, 3), 0.5)),
    (3, 7, files.varint(-4), np.full((2, 3), -4, np.int32)), (19, 13, files.varint(0x3C00), np.full((2, 3), 1, np.float16)),
    (14, 13, files.varint(0x3FC0), np.full((2, 3), 1.5, np.float32)), (1, 5, b"", np.zeros((2, 3), np.float32))])
def test_values_one_by_one(tmp_path, kind, field, packed, values):
    """A constant may list its values, of which the last stands for those that follow."""
    proto = files.number(1, kind) + files.nested(2, files.shape((2, 3))) + (files.nested(field, packed) if packed else b"")
    graph = files.node("a", "Const", (), files.attribute("value", files.nested(8, proto)))
    graph += files.node("a/read", "Identity", ["a"])
    (tmp_path / "a.pb").write_bytes(graph)
    check(weights.read(str(tmp_path / "a.pb")), {"a": values})


def test_the_static_graph_is_refused_by_name(tmp_path):
    (tmp_path / "dien_fp32_static_rnn_graph.pb").write_bytes(files.frozen(variables("dien/"), loop=False))
    message = refusal(tmp_path / "dien_fp32_static_rnn_graph.pb")
    assert "unrolled for a fixed number of steps" in message and "padding" in message


def test_graphs_without_values(tmp_path):
    (tmp_path / "graph.pb").write_bytes(files.node("gru1/kernel", "VariableV2"))
    assert "its variables are in a checkpoint" in refusal(tmp_path / "graph.pb")
    for content in (b"", b"\x00\x01", b"hello world", files.nested(1, b"\x0a\x01a"), b"\xff" * 40):
        (tmp_path / "graph.pb").write_bytes(content)
        assert str(tmp_path / "graph.pb") in refusal(tmp_path / "graph.pb")
    content = files.frozen({"a": np.ones((2, 2), np.float32)})
    for length in range(1, len(content) - 1):
        (tmp_path / "graph.pb").write_bytes(content[:length])
        try:
            weights.read(str(tmp_path / "graph.pb"))  # a cut between two operations leaves a smaller graph
        except ConversionError as error:
            assert str(tmp_path / "graph.pb") in str(error)


def test_messages():
    """Fields of each type, and those that end early."""
    data = files.number(1, 300) + files.nested(2, "abc") + files.fixed32(3, 7) + b"\x21" + bytes(8)
    assert protobuf_wire.message(data) == {1: [300], 2: [b"abc"], 3: [7], 4: [0]}
    for wrong in (b"\x0a\x05ab", b"\x08", b"\x0b", b"\x0d\x00", b"\x08" + b"\xff" * 11):
        with pytest.raises(leveldb_table.TableError):
            protobuf_wire.message(wrong)
