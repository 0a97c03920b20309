"""Reads a foreign checkpoint's tensors: PyTorch state dicts, safetensors, .npz. The first bytes tell which.

Each other form that people have is recognised by its own signs, and the error says what it is and what to do.
"""
from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from typing import Any, Callable, Mapping, Optional

import numpy as np
import torch

from dien.model import pickles, safetensors
from dien.sources.source import ConversionError

HDF5 = b"\x89HDF\r\n\x1a\n"
# Keys under which training scripts put a state dict.
INNER = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params")
# Prefixes of every name, and who adds them.
WRAPPERS = {"module.": "DataParallel", "_orig_mod.": "torch.compile", "model.": "the module that held the model",
            "net.": "the module that held the network", "network.": "the module that held the network"}

PICKLED = """{reason}
It holds Python objects besides tensors, which only its own training code can load. There, once:
    checkpoint = torch.load("{name}", map_location="cpu")      # RecBole: a dict with the key state_dict
    state = checkpoint["state_dict"] if "state_dict" in checkpoint else checkpoint   # a whole module: checkpoint.state_dict()
    torch.save(dict(state), "state_dict.pt")
and convert state_dict.pt"""

KERAS = """{path} is HDF5, a Keras file, which is not read here.{missing} Dump it where TensorFlow is:
    numpy.savez("weights.npz", **{{variable.name: variable.numpy() for variable in model.variables}})"""

TENSORFLOW = """{path} is part of a TensorFlow checkpoint. Dump it where TensorFlow is:
    reader = tf.train.load_checkpoint("path/to/ckpt")     # TensorFlow 1: tf.train.NewCheckpointReader
    numpy.savez("weights.npz", **{{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}})
and convert weights.npz"""


PADDLEREC = ("PaddleRec's dygraph registers the attention's layers and the top's under the same names, so that the attention's "
             "weights are in no checkpoint: it cannot be scored as it was trained, and there is no converter for it")


def _of_torch(path: str) -> dict[str, np.ndarray]:
    try:
        loaded: Any = pickles.load(path)
    except pickle.UnpicklingError as error:
        if "TorchScript" in str(error):
            raise ConversionError(f"{error}: where it was made, torch.save(model.state_dict(), \"state_dict.pt\")") from error
        raise ConversionError(PICKLED.format(reason=error, name=os.path.basename(path))) from error
    except ValueError as error:
        raise ConversionError(str(error)) from error
    for key in INNER:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(name, str) for name in loaded):
        raise ConversionError(f"{path}: neither a state dict nor a dict with one under {', '.join(INNER)}")
    others = [name for name, value in loaded.items() if not isinstance(value, (torch.Tensor, np.ndarray))]
    if others:
        raise ConversionError(f"{path}: neither a state dict nor a dict with one under {', '.join(INNER)}: "
                              f"{others[0]} is {type(loaded[others[0]]).__name__}")
    return {name: _array(name, value) for name, value in loaded.items()}


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    tensor = value.detach()
    if tensor.is_sparse:
        raise ConversionError(f"tensor {name} is sparse: save {name}.to_dense() in its place")
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _of_npz(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ConversionError(f"{path}: {error}") from error


def _of_keras(path: str) -> ConversionError:
    with open(path, "rb") as file:
        second = b"gru2" in file.read()
    missing = "" if second else (" It has no weights of the second GRU (no name with gru2): DeepCTR's AGRU and AUGRU cells do "
                                 "not save theirs, and without them the model cannot be scored.")
    return ConversionError(KERAS.format(path=path, missing=missing))


def _plain_names(tensors: Mapping[str, np.ndarray], note: Callable[[str], None]) -> dict[str, np.ndarray]:
    """Names without TensorFlow's output number and without the prefixes that wrappers add."""
    plain = {name[:-2] if name.endswith(":0") else name: tensor for name, tensor in tensors.items()}
    while True:
        found = [prefix for prefix in WRAPPERS if plain and all(name.startswith(prefix) for name in plain)]
        if not found:
            return plain
        note(f"every tensor's name began with {found[0]}, which {WRAPPERS[found[0]]} adds: it is left out")
        plain = {name[len(found[0]):]: tensor for name, tensor in plain.items()}


def _check_types(tensors: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "c":
            raise ConversionError(f"tensor {name} holds complex numbers, for which FORMAT.md has no place")
        if tensor.dtype.kind not in "fiub":
            raise ConversionError(f"tensor {name} holds no numbers ({tensor.dtype})")


# ---- forms that are not read

FORMS = {
    "saved_model": "{path} is a TensorFlow SavedModel: a program with its variables. {dump}",
    "keras": "{path} is a Keras 3 model: its tensors have no names of their own. Where it was made: "
             "model.save_weights(\"weights.h5\"), and convert weights.h5",
    "onnx": "{path} is ONNX: a graph of operators, in which the model's parts have lost their names. Convert the checkpoint that "
            "it was made of",
    "pb": "{path} is a TensorFlow graph (.pb), in a form that is not read. {dump}",
    "tflite": "{path} is a TensorFlow Lite program. Convert the checkpoint that it was made of",
    "paddle": "{path} is PaddlePaddle's. " + PADDLEREC,
    "text": "{path} is text, not a checkpoint",
}
DUMP = ("Dump its variables where TensorFlow is: reader = tf.train.load_checkpoint(\"{variables}\"), then numpy.savez("
        "\"weights.npz\", **{{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}}), and convert "
        "weights.npz")


def _unread(form: str, path: str) -> ConversionError:
    variables = os.path.join(path, "variables", "variables") if form == "saved_model" else "path/to/ckpt"
    return ConversionError(FORMS[form].format(path=path, dump=DUMP.format(variables=variables)))


def _form_of_zip(names: list[str]) -> str:
    """What a zip archive is, by its members."""
    if "model.weights.h5" in names or {"metadata.json", "config.json"} <= set(names):
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "torch"


def _form(path: str, start: bytes) -> str:
    """What a file is, by its first bytes and then by its name."""
    base = os.path.basename(path)
    if path.endswith((".pdparams", ".pdopt", ".pdmodel")):
        return "paddle"
    if start.startswith(HDF5):
        return "hdf5"
    if start[8:9] == b"{":
        return "safetensors"
    if start.startswith(b"PK"):
        return "zip"
    if start.startswith(b"\x80"):
        return "torch"
    if start[4:8] == b"TFL3":
        return "tflite"
    if base.endswith(".onnx") or (start[:1] == b"\x08" and start[2:3] == b"\x12" and base != "saved_model.pb"):
        return "onnx"
    if base.endswith((".pb", ".pbtxt", ".meta")) or base == "saved_model.pb":
        return "pb"
    if base.endswith(".index") or ".data-0" in base:
        return "bundle"
    if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "text"
    return ""


def _read(path: str) -> Mapping[str, np.ndarray]:
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, "saved_model.pb")):
            raise _unread("saved_model", path)
        raise ConversionError(f"{path} is a directory without a saved_model.pb: name the file")
    if not os.path.exists(path):
        if os.path.exists(f"{path}.index"):
            raise ConversionError(TENSORFLOW.format(path=path))
        raise ConversionError(f"{path}: no such file")
    with open(path, "rb") as file:
        form = _form(path, file.read(16))
    if form == "zip":
        try:
            with zipfile.ZipFile(path) as archive:
                form = _form_of_zip(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise ConversionError(f"{path}: a damaged zip file: {error}") from error
    if form == "hdf5":
        raise _of_keras(path)
    if form == "bundle":
        raise ConversionError(TENSORFLOW.format(path=path))
    if form in FORMS:
        raise _unread(form, path)
    readers: dict[str, Callable[[str], Mapping[str, np.ndarray]]] = {
        "torch": _of_torch, "npz": _of_npz, "safetensors": safetensors.read}
    if form not in readers:
        raise ConversionError(f"{path}: not a PyTorch state dict (.pt, .pth), safetensors or .npz")
    return readers[form](path)


def read(path: str, note: Optional[Callable[[str], None]] = None) -> dict[str, np.ndarray]:
    """Every tensor of a file, by name; `note` is told what was left out of the names."""
    tensors = _plain_names(_read(path), note or (lambda text: None))
    _check_types(tensors)
    return tensors
