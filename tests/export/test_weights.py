"""Files of tensors: each form is read, or recognised by its own signs and refused with what to do."""

import json
import struct
import zipfile

import numpy as np
import pytest
import torch

from dien.model import documents
from dien.sources import convert, weights
from dien.sources.source import ConversionError, Source
from support.dien_command import GOLDEN

CASE = GOLDEN / "deepctr-torch-augru"
WEIGHT = {"embedding_dict.item.weight": np.ones((2, 2), np.float32)}


def state():
    return {name: torch.from_numpy(array) for name, array in weights.read(str(CASE / "state_dict.safetensors")).items()}


def refusal(path):
    with pytest.raises(ConversionError) as error:
        weights.read(str(path))
    return str(error.value)


# ---- PyTorch: what training scripts save

@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", weights.INNER)
def test_a_checkpoint_of_a_training_script(tmp_path, key, protocol):
    saved = {"epoch": 3, "loss": 0.25, "auc": np.float64(0.7), "optimizer": {"state": {0: {"step": 5.0}}}, key: state()}
    torch.save(saved, tmp_path / "a.pt", pickle_protocol=protocol)
    read = weights.read(str(tmp_path / "a.pt"))
    assert read.keys() == state().keys()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "network.",
                                    "model._orig_mod.module."])
def test_prefixes_are_left_out_and_said(tmp_path, prefix):
    torch.save({f"{prefix}{name}": tensor for name, tensor in state().items()}, tmp_path / "a.pt")
    notes = []
    read = weights.read(str(tmp_path / "a.pt"), notes.append)
    assert read.keys() == state().keys()
    assert [note.split(" adds")[0].split("began with ")[1].split(", ")[0] for note in notes] == \
        [f"{part}." for part in prefix.split(".")[:-1]]
    convert.convert("deepctr-torch", documents.read(CASE / "architecture.json"), Source(read))


def test_a_prefix_of_some_names_stays(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.pt")
    assert set(weights.read(str(tmp_path / "a.pt"))) == {"module.a", "b"}


@pytest.mark.parametrize("tensor, message", [
    (torch.eye(3).to_sparse(), "tensor dnn.weight is sparse: save dnn.weight.to_dense()"),
    (torch.ones(2, dtype=torch.complex64), "tensor dnn.weight holds complex numbers"),
    (0.5, "dnn.weight is float"), (["a"], "dnn.weight is list")], ids=["sparse", "complex", "float", "list"])
def test_values_that_are_no_tensors(tmp_path, tensor, message):
    torch.save({"linear.weight": torch.ones(2), "dnn.weight": tensor}, tmp_path / "a.pt")
    assert message in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array(["2020-01-01"], "datetime64[D]")], ids=str)
def test_arrays_that_are_no_numbers(tmp_path, array):
    np.savez(tmp_path / "a.npz", **WEIGHT, other=array)
    assert "tensor other holds" in refusal(tmp_path / "a.npz")


def test_numbers_of_either_byte_order(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(5, dtype=">f4"), b=np.arange(5, dtype="<f8"))
    assert all(array.tolist() == [0, 1, 2, 3, 4] for array in weights.read(str(tmp_path / "a.npz")).values())


@pytest.mark.parametrize("name", ["a.pt", "a.npz"])
def test_each_flipped_bit_of_a_tensor_is_found(tmp_path, name):
    """By the archive's checksums."""
    tensor = np.arange(64, dtype=np.float32) + 0.5
    if name == "a.pt":
        torch.save({"weight": torch.from_numpy(tensor)}, tmp_path / name)
    else:
        np.savez(tmp_path / name, weight=tensor)
    content = (tmp_path / name).read_bytes()
    begin = content.find(tensor.tobytes())
    for place in range(begin, begin + tensor.nbytes, 9):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        (tmp_path / name).write_bytes(damaged)
        assert "CRC" in refusal(tmp_path / name)


def test_a_big_endian_archive(tmp_path):
    torch.save(dict(state()), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as whole, zipfile.ZipFile(tmp_path / "b.pt", "w") as other:
        for name in whole.namelist():
            if not name.endswith("/byteorder"):
                other.writestr(name, whole.read(name))
        other.writestr("a/byteorder", "big")
    assert "big-endian" in refusal(tmp_path / "b.pt")


# ---- forms that are not read, each by its own signs

def test_saved_model(tmp_path):
    """Read by its variables (test_tensorflow.py); without them it says so."""
    (tmp_path / "export" / "variables").mkdir(parents=True)
    (tmp_path / "export" / "saved_model.pb").write_bytes(b"\x08\x01\x12\x10")
    message = refusal(tmp_path / "export")
    assert "a TensorFlow SavedModel" in message and "variables/variables.index" in message
    assert "name the directory" in refusal(tmp_path / "export" / "saved_model.pb")


def test_an_empty_directory(tmp_path):
    assert "is a directory without a saved_model.pb" in refusal(tmp_path)


def test_keras_3(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    assert "a Keras 3 model" in refusal(tmp_path / "a.keras") and "save_weights" in refusal(tmp_path / "a.keras")


def test_torchscript(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    message = refusal(tmp_path / "a.pt")
    assert "TorchScript" in message and "state_dict" in message and "weights_only" not in message


ONNX = b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(9)


@pytest.mark.parametrize("name, content, message", [
    ("model.onnx", ONNX, "is ONNX"), ("model.bin", ONNX, "is ONNX"),
    ("model.tflite", struct.pack("<I", 28) + b"TFL3" + bytes(16), "TensorFlow Lite"),
    ("rec.pdparams", b"\x80\x02}", "PaddlePaddle's"), ("model.ckpt.meta", b"\n\x05abcde" + bytes(9), "graph of a TensorFlow"),
    ("a.pt", b"<html><head>404 Not Found", "is text"), ("a.pt", b"version https://git-lfs.github.com/spec/v1\n", "is text"),
    ("a.pt", b"", "not a PyTorch state dict"), ("a.pt", bytes(32), "not a PyTorch state dict")],
    ids=lambda value: str(value)[:24])
def test_other_forms(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path / name)
    assert str(tmp_path / name) in refusal(tmp_path / name)


# ---- the wrong --from

CASES = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("case", CASES)
def test_the_framework_is_recognised(case):
    tensors = weights.read(str(GOLDEN / case / "state_dict.safetensors"))
    own = next(name for name in convert.FRAMEWORKS if case.startswith(f"{name}-"))
    for other in set(convert.FRAMEWORKS) - {own}:
        with pytest.raises(ConversionError, match=f"these are .*'s tensors: convert them with --from {own}$"):
            convert.convert(other, {}, Source(tensors))


@pytest.mark.parametrize("framework", convert.FRAMEWORKS)
def test_tensors_of_nobody(framework):
    with pytest.raises(ConversionError, match=r"nor another framework's that is known here \(bert.layer.0.weight\)"):
        convert.convert(framework, {}, Source({"bert.layer.0.weight": np.ones(2)}))
    with pytest.raises(ConversionError, match="holds no tensors"):
        convert.convert(framework, {}, Source({}))


# ---- the architecture file

WRONG: dict = {
    "att_weight_normalization": ["false", 0, 1, None], "use_bn": ["true", 2],
    "max_length": [0, -1, 65537, 50.5, 1e6, 10**6, True, "5"],
    "att_hidden_units": [80, ["80"], [0], [1.5], "80-40"], "dnn_activation": [5, ["relu"]], "sparse_features": ["item_id", [1]],
    "dense_dimensions": [{"pay_score": 0}, [1]], "embedding_names": [["a"], {"a": 1}], "groups": [[], {"user": "user"}, 5],
    "name": ["two words", "", "a" * 65, 5, "ümlaut"], "version": ["1 2", "", True, None]}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in WRONG.items() for value in values], ids=repr)
def test_values_that_are_none(key, value):
    architecture = {**documents.read(CASE / "architecture.json"), key: value}
    with pytest.raises(ConversionError) as error:
        convert.convert("deepctr-torch", architecture, Source(weights.read(str(CASE / "state_dict.safetensors"))))
    assert f"architecture key {key} must be" in str(error.value) or f"the model's {key} " in str(error.value)


def test_all_mistakes_at_once():
    architecture = {**documents.read(CASE / "architecture.json"), "use_bn": "no", "max_length": 0, "decay": 1, "window": 2}
    with pytest.raises(ConversionError) as error:
        convert.convert("deepctr-torch", architecture, Source(weights.read(str(CASE / "state_dict.safetensors"))))
    for words in ("key use_bn must be true or false, not 'no'", "key max_length must be an integer from 1 to 65536, not 0",
                  "key decay, window are not understood"):
        assert words in str(error.value)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("group", ["user", "context", "behavior", "candidate"])
def test_a_feature_in_groups_that_does_not_exist(case, group):
    architecture = documents.read(GOLDEN / case / "architecture.json")
    if "groups" not in architecture:
        pytest.skip("the authors' model has fixed groups")
    architecture["groups"].setdefault(group, []).append("weather")
    with pytest.raises(ConversionError, match="groups: .*weather|groups"):
        convert.convert(next(name for name in convert.FRAMEWORKS if case.startswith(f"{name}-")), architecture,
                        Source(weights.read(str(GOLDEN / case / "state_dict.safetensors"))))


def test_architecture_files_that_are_none(tmp_path):
    for text, message in (("[]", "not a JSON object"), ("{", "line 1, column 2"), ('{"a": 1, "a": 2}', "twice"),
                          ('{"max_length": NaN}', "NaN")):
        (tmp_path / "architecture.json").write_text(text)
        arguments = convert.argparse.ArgumentParser()
        convert.add_arguments(arguments)
        with pytest.raises(ValueError) as error:
            convert.run(arguments.parse_args([
                "--from", "fuxictr", "--architecture", str(tmp_path / "architecture.json"),
                "--weights", str(CASE / "state_dict.safetensors"), "--output", str(tmp_path / "out")]), arguments)
        assert message in str(error.value) and "architecture.json" in str(error.value)


def test_samples_stay_small_for_long_histories():
    """Without samples they are made: a max_length of 65,536 must not take gigabytes."""
    from dien.model.samples import RequestMaker
    config, _ = convert.convert("deepctr-torch", {**documents.read(CASE / "architecture.json"), "max_length": 65536},
                                Source(weights.read(str(CASE / "state_dict.safetensors"))))
    for request in RequestMaker(config, {}, np.random.default_rng(0)).requests(16):
        history = request["history"]
        count = len(history) if isinstance(history, list) else max(map(len, history.values()), default=0)
        candidates = request["candidates"]
        width = len(candidates) if isinstance(candidates, list) else len(next(iter(candidates.values())))
        assert count * width <= 100_000
    assert json.dumps(request)
