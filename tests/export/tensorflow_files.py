"""Writes TensorFlow's files: checkpoints (tensor bundles) and graphs. The snappy and the CRC-32C are other people's."""

import struct

import crcmod.predefined
import numpy as np
import snappy

CRC = crcmod.predefined.mkCrcFun("crc-32c")
TYPES = {"<f4": 1, "<f8": 2, "<i4": 3, "|u1": 4, "<i2": 5, "|i1": 6, "<i8": 9, "|b1": 10, "<f2": 19}
BFLOAT16 = 14
MAGIC = 0xDB4775248B80FB57


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---- protobuf

def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def number(field, value):
    return varint(field << 3) + varint(value)


def nested(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def fixed32(field, value):
    return varint(field << 3 | 5) + struct.pack("<I", value)


def shape(sizes):
    return b"".join(nested(2, number(1, size)) for size in sizes)


# ---- LevelDB's table

def block(pairs, restart_interval=16):
    """Entries with shared prefixes, and the places where a key is whole."""
    out, restarts, before = bytearray(), [], b""
    for place, (key, value) in enumerate(pairs):
        shared = 0
        if place % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    restarts = restarts or [0]
    return bytes(out) + b"".join(struct.pack("<I", place) for place in restarts) + struct.pack("<I", len(restarts))


def table(pairs, compress=False, per_block=7):
    """A whole table of sorted pairs."""
    out, handles = bytearray(), []

    def add(content):
        kind = b"\x01" if compress else b"\x00"
        content = snappy.compress(content) if compress else content
        handle = varint(len(out)) + varint(len(content))
        out.extend(content + kind + struct.pack("<I", masked(CRC(content + kind))))
        return handle

    for begin in range(0, len(pairs), per_block):
        part = pairs[begin:begin + per_block]
        handles.append((part[-1][0], add(block(part))))
    meta = add(block([]))
    index = add(block(handles, 1))
    return bytes(out) + (meta + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


# ---- checkpoints

def signed(value):
    """OrderedCode's signed numbers of up to three bytes, which is enough here."""
    for size, header, low, high in ((1, 0x80, -64, 64), (2, 0xC000, -8192, 8192), (3, 0xE00000, -2**20, 2**20)):
        if low <= value < high:
            return ((value & (1 << 8 * size) - 1) ^ header).to_bytes(size, "big")
    raise ValueError(value)


def slice_key(name, begin, sizes):
    """A slice along the first dimension."""
    extents = [(begin, sizes[0])] + [(0, -1)] * (len(sizes) - 1)
    return (b"\0" + name.encode() + b"\0\x01" + b"\x01" + bytes([len(sizes)])
            + b"".join(signed(start) + signed(length) for start, length in extents))


class Bundle:
    """A checkpoint's entries and shards, written by save()."""

    def __init__(self, shards=1):
        self.entries, self.data = {}, [bytearray() for _ in range(shards)]

    def put(self, key, content, kind, sizes, checksum=None, shard=None):
        shard = len(self.entries) % len(self.data) if shard is None else shard
        key = key.encode() if isinstance(key, str) else key
        self.entries[key] = (number(1, kind) + nested(2, shape(sizes)) + number(3, shard) + number(4, len(self.data[shard]))
                             + number(5, len(content)) + fixed32(6, masked(CRC(content) if checksum is None else checksum)))
        self.data[shard] += content

    def tensor(self, name, array):
        self.put(name, np.ascontiguousarray(array).tobytes(), TYPES[array.dtype.str], array.shape)

    def bfloat16(self, name, array):
        self.put(name, (np.asarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes(), BFLOAT16, array.shape)

    def text(self, name, content):
        """A scalar string: its length, the length's checksum, itself."""
        crc = CRC(struct.pack("<I", len(content)))
        length = struct.pack("<I", masked(crc))
        whole = crcmod.predefined.mkCrcFun("crc-32c")(length + content, crc)
        self.put(name, varint(len(content)) + length + content, 7, ())
        self.entries[name.encode()] = self.entries[name.encode()][:-4] + struct.pack("<I", masked(whole))

    def partitioned(self, name, array, cuts):
        """A variable that is stored in slices of its rows."""
        extents = b""
        for begin, end in zip([0, *cuts], [*cuts, len(array)]):
            part = np.ascontiguousarray(array[begin:end])
            self.put(slice_key(name, begin, part.shape), part.tobytes(), TYPES[array.dtype.str], part.shape)
            rows = nested(1, (number(1, begin) if begin else b"") + number(2, end - begin))
            extents += nested(7, rows + nested(1, b"") * (array.ndim - 1))
        self.entries[name.encode()] = number(1, TYPES[array.dtype.str]) + nested(2, shape(array.shape)) + extents

    def index(self, compress=False, header=None):
        header = number(1, len(self.data)) + nested(3, number(1, 1)) if header is None else header
        return table(sorted({b"": header, **self.entries}.items()), compress)

    def save(self, prefix, compress=False, header=None):
        with open(f"{prefix}.index", "wb") as file:
            file.write(self.index(compress, header))
        for place, data in enumerate(self.data):
            with open(f"{prefix}.data-{place:05d}-of-{len(self.data):05d}", "wb") as file:
                file.write(data)


def checkpoint(prefix, tensors, compress=False, shards=1):
    """A checkpoint of tf.train.Saver."""
    bundle = Bundle(shards)
    for name, array in tensors.items():
        bundle.tensor(name, array)
    bundle.save(prefix, compress)


def object_graph(names):
    """The proto that tells the graph's name of each key."""
    return b"".join(nested(1, nested(2, nested(1, "VARIABLE_VALUE") + nested(2, name) + nested(3, key)))
                    for key, name in names.items())


# ---- graphs

def node(name, operation, inputs=(), attributes=b""):
    return nested(1, nested(1, name) + nested(2, operation) + b"".join(nested(3, each) for each in inputs) + attributes)


def attribute(name, value):
    return nested(5, nested(1, name) + nested(2, value))


def constant(name, array):
    """A constant whose bytes lie in one field."""
    proto = number(1, TYPES[array.dtype.str]) + nested(2, shape(array.shape)) + nested(4, np.ascontiguousarray(array).tobytes())
    return node(name, "Const", (), attribute("dtype", number(6, TYPES[array.dtype.str])) + attribute("value", nested(8, proto)))


def frozen(tensors, loop=True):
    """A frozen graph: each variable as a constant that an Identity reads, and other constants, which are none."""
    graph = node("Inputs/uid", "Placeholder")
    for name, array in tensors.items():
        graph += constant(name, array) + node(f"{name}/read", "Identity", [name])
    graph += constant("dien/gru1/zeros/Const", np.zeros((), np.float32)) + constant("dien/concat/axis", np.array([1], np.int32))
    if loop:
        graph += node("dien/gru1/while/Enter", "Enter", ["dien/gru1/zeros/Const"])
    return graph
