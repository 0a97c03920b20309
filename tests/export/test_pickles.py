"""dien.model.pickles: what torch.save() writes is read in both forms and all protocols, and no code of a file runs."""

import collections
import os
import pathlib
import pickle

import numpy as np
import pytest
import torch

from dien.model import pickles

FORMS = [(protocol, archive) for protocol in (2, 3, 4, 5) for archive in (True, False)]


def save(value, path, protocol=2, archive=True):
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    return str(path)


def refusal(path):
    with pytest.raises(pickle.UnpicklingError) as error:
        pickles.load(str(path))
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("protocol", "archive"), FORMS)
def test_a_checkpoint_of_everyday_contents(tmp_path, protocol, archive):
    """A training script's dict: the network, its optimiser, numbers of Python and of numpy."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    saved = {"state_dict": network.state_dict(), "optimizer": optimiser.state_dict(), "loss": 0.25, "epoch": 3,
             "auc": np.float64(0.75), "best": np.float32(0.5), "curve": np.arange(6.0).reshape(2, 3), "seed": 1 << 100,
             "words": ["a", ("b", None, True)], "rows": collections.OrderedDict(x=1), "set": {1, 2}, "size": torch.Size([4]),
             "dtype": torch.float16, "device": torch.device("cpu"), "parameter": torch.nn.Parameter(torch.ones(2)),
             "bytes": b"\x00\xff"}
    read = pickles.load(save(saved, tmp_path / "a.pt", protocol, archive))
    assert list(read) == list(saved)
    for name, tensor in saved["state_dict"].items():
        assert torch.equal(read["state_dict"][name], tensor), name
    assert str(read["optimizer"]["param_groups"]) == str(saved["optimizer"]["param_groups"])
    moments = read["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moments, saved["optimizer"]["state"][0]["exp_avg"])
    assert np.array_equal(read["curve"], saved["curve"]) and torch.equal(read["parameter"], torch.ones(2))
    for name in ("loss", "epoch", "auc", "best", "seed", "words", "rows", "set", "size", "dtype", "device", "bytes"):
        assert read[name] == saved[name], name


@pytest.mark.parametrize(("protocol", "archive"), FORMS)
def test_every_type_and_view(tmp_path, protocol, archive):
    base = torch.arange(24).reshape(4, 6)
    saved = {str(dtype): base.to(dtype) for dtype in
             (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
              torch.uint8, torch.bool, torch.complex64)}
    saved |= {"transposed": base.t(), "part": base[1:3, ::2], "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3),
              "sparse": torch.eye(3).to_sparse()}
    read = pickles.load(save(saved, tmp_path / "a.pt", protocol, archive))
    for name, tensor in saved.items():
        mine = read[name]
        assert mine.dtype == tensor.dtype and mine.shape == tensor.shape, name
        assert torch.equal(mine.to_dense() if mine.is_sparse else mine, tensor.to_dense() if tensor.is_sparse else tensor), name


class Planted:
    """An object whose reading would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(("protocol", "archive"), FORMS)
def test_no_code_runs(tmp_path, protocol, archive):
    trace = tmp_path / "trace"
    saved = {"weight": torch.ones(2), "planted": Planted(trace)}
    assert "system" in refusal(save(saved, tmp_path / "a.pt", protocol, archive))
    assert not trace.exists()


@pytest.mark.parametrize("saved", [torch.nn.Linear(2, 2), {"path": pathlib.Path("/a")}, {"loss": torch.nn.BCELoss()}],
                         ids=["module", "path", "loss"])
def test_objects_are_named(tmp_path, saved):
    assert "it holds a" in refusal(save(saved, tmp_path / "a.pt"))


@pytest.mark.parametrize("archive", [True, False])
def test_every_damaged_byte_is_found_or_harmless(tmp_path, archive):
    """In the archive each flipped byte of a tensor is found by its checksum; nothing ends in another kind of error."""
    path = tmp_path / "a.pt"
    save({"weight": torch.arange(64.0), "loss": 0.5}, path, 2, archive)
    content = path.read_bytes()
    inside = content.find(torch.arange(64.0).numpy().tobytes())
    for place in sorted({*range(0, len(content), 7), *range(inside, inside + 256, 5)}):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            pickles.load(str(path))
        except pickle.UnpicklingError:
            continue
        assert not (archive and inside <= place < inside + 256), place


@pytest.mark.parametrize("archive", [True, False])
def test_every_cut_is_an_error(tmp_path, archive):
    path = tmp_path / "a.pt"
    save({"weight": torch.arange(64.0)}, path, 2, archive)
    content = path.read_bytes()
    for size in range(0, len(content) - (40 if archive else 0), 11):
        path.write_bytes(content[:size])
        refusal(path)


def test_sizes_beyond_the_storage(tmp_path):
    """A tensor whose sizes reach beyond its bytes is refused, since reading it would read other memory."""
    path = tmp_path / "a.pt"
    save({"weight": torch.arange(200.0)}, path, 2, archive=False)
    content = path.read_bytes()
    marked = content.replace(b"K\xc8\x85", b"K\xff\x85", 1)
    assert marked != content
    path.write_bytes(marked)
    assert "out of bounds" in refusal(path)
