"""model/export/vocabulary.py: every id is found, no other is, within the probe; the hash is FORMAT.md's."""

import numpy as np
import pytest

from dien.model.vocabulary import Vocabulary, fill_slots, hash_integers, hash_strings

SIZES = (1, 2, 3, 4, 5, 7, 48, 96, 192, 193, 1000)
WORD = (1 << 64) - 1


def plain_mix(x):
    """FORMAT.md's mix, one id at a time."""
    x ^= x >> 33
    x = x * 0xFF51AFD7ED558CCD & WORD
    x ^= x >> 33
    x = x * 0xC4CEB9FE1A85EC53 & WORD
    return x ^ (x >> 33)


def plain_fnv(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 & WORD
    return state


def test_fnv_known_answers():
    """From the FNV authors' test vectors."""
    assert plain_fnv(b"") == 0xCBF29CE484222325
    assert plain_fnv(b"a") == 0xAF63DC4C8601EC8C
    assert plain_fnv(b"foobar") == 0x85944171F73967E8


def test_hashes():
    ids = [0, 1, -1, 2**63 - 1, -2**63, 123456789]
    assert hash_integers(np.array(ids)).tolist() == [plain_mix(i & WORD) for i in ids]
    texts = ["", "a", "A13", "naïve", "漢字", "x" * 1000, "a"]
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)])
    hashes = hash_strings(np.frombuffer(b"".join(encoded), np.uint8), offsets)
    assert hashes.tolist() == [plain_mix(plain_fnv(data)) for data in encoded]


def check(vocabulary, ids, absent):
    slots = vocabulary.tensors["slots"]
    assert len(slots) & (len(slots) - 1) == 0 and slots.dtype == np.int32
    assert np.count_nonzero(slots == 0) * 4 >= len(slots)
    assert sorted(slots[slots > 0].tolist()) == list(range(1, len(ids) + 1))
    assert [vocabulary.find(each) for each in ids] == list(range(len(ids)))
    assert all(vocabulary.find(each) is None for each in absent)
    vocabulary.probe -= 1
    assert any(vocabulary.find(each) is None for each in ids), "probe is larger than any entry needs"


@pytest.mark.parametrize("size", SIZES)
def test_integers(size):
    random = np.random.default_rng(size)
    ids = np.unique(random.integers(-2**63, 2**63 - 1, size)).tolist()
    check(Vocabulary.of_integers(ids), ids, [7, -7, 0])


@pytest.mark.parametrize("size", SIZES)
def test_strings(size):
    ids = [""] + [f"é{i * 7919}" for i in range(size - 1)]
    check(Vocabulary.of_strings(ids), ids, ["absent", "é", "é1 "])


def test_clusters_that_wrap():
    """Every entry starts at one of the last two slots, so most go on from slot 0."""
    slots, probe = fill_slots(np.array([15, 14, 15, 15, 14, 15, 31, 0, 1, 15, 15, 14], np.uint64))
    assert len(slots) == 16 and probe == 9
    assert np.count_nonzero(slots) == 12 and slots[14] > 0 and slots[15] > 0
    assert np.flatnonzero(slots == 0).tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("make, ids", [(Vocabulary.of_integers, [1, 2, 1]), (Vocabulary.of_strings, ["a", "a"]),
                                       (Vocabulary.of_integers, []), (Vocabulary.of_strings, [])])
def test_refused(make, ids):
    with pytest.raises(ValueError, match="each once"):
        make(ids)


def test_a_million():
    """Whole-array operations: a million ids in a moment, each where a server will look."""
    ids = np.arange(1_000_000) * 7919 - 5
    vocabulary = Vocabulary.of_integers(ids)
    assert vocabulary.config() == {"type": "integer", "entries": 1_000_000, "probe": vocabulary.probe}
    assert vocabulary.probe < 64
    for i in range(0, 1_000_000, 9973):
        assert vocabulary.find(int(ids[i])) == i
