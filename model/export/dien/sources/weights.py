"""Reads a foreign checkpoint's tensors: PyTorch state dicts, safetensors, .npz, Keras's .h5, TensorFlow's files.

Each other form that people have is recognised by its own signs, and the error says what it is and what to do.
"""
from __future__ import annotations

import os
import pickle
import re
import zipfile
import zlib
from typing import Any, Callable, Mapping, Optional

import numpy as np
import torch

from dien.model import pickles, safetensors
from dien.sources import keras_h5, leveldb_table, tensorflow_checkpoint, tensorflow_graph
from dien.sources.leveldb_table import TableError
from dien.sources.source import ConversionError

HDF5 = b"\x89HDF\r\n\x1a\n"
DATA_FILE = r"[.]data-\d{5}-of-\d{5}$"  # the end of the names of a TensorFlow checkpoint's data
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

VERSION_1 = """{path} is a checkpoint of TensorFlow's first format, which is not read. Write it again where TensorFlow is:
    tf.train.Saver(write_version=tf.train.SaverDef.V2).save(session, "ckpt")
and convert --weights ckpt"""

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
    "meta": "{path} is the graph of a TensorFlow checkpoint, without its values. Name the checkpoint by its prefix, the name of "
            "its .index file without .index",
    "saved_model": "{path} is the program of a TensorFlow SavedModel: name the directory that it is in",
    "data": "{path} is a TensorFlow checkpoint's data without its index: {prefix}.index is missing",
    "keras": "{path} is a Keras 3 model: its tensors have no names of their own. Where it was made: "
             "model.save_weights(\"weights.h5\"), and convert weights.h5",
    "onnx": "{path} is ONNX: a graph of operators, in which the model's parts have lost their names. Convert the checkpoint that "
            "it was made of",
    "tflite": "{path} is a TensorFlow Lite program. Convert the checkpoint that it was made of",
    "paddle": "{path} is PaddlePaddle's. " + PADDLEREC,
    "text": "{path} is text, not a checkpoint",
}


def _of_tensorflow(path: str, reader: Callable[[str], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """What a reader of TensorFlow's files finds, with the file's name in its errors."""
    try:
        return reader(path)
    except TableError as error:
        raise ConversionError(f"{path}: {error}") from error
    except OSError as error:
        raise ConversionError(f"{error.filename}: {error.strerror}, and it is a part of the checkpoint {path}") from error


def _prefix_of(path: str) -> Optional[str]:
    """The prefix of the TensorFlow checkpoint that a path names: by itself, one of its files, or a directory that holds it."""
    if os.path.isdir(path):
        path = os.path.join(path, "variables", "variables")
    else:
        path = re.sub(rf"[.]index$|{DATA_FILE}", "", path)
    return path if os.path.exists(f"{path}.index") else None


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
    if re.search(DATA_FILE, path):
        return "data"
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
    if base == "saved_model.pb":
        return "saved_model"
    if base.endswith(".meta"):
        return "meta"
    if base.endswith(".pb"):
        return "graph"
    if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "text"
    return ""


def _is_table(path: str) -> bool:
    """Whether a file ends as a LevelDB table."""
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - 8, 0))
        return file.read() == leveldb_table.MAGIC.to_bytes(8, "little")


def _read_directory(path: str) -> ConversionError:
    """Why a directory cannot be read, by what is in it."""
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return ConversionError(f"{path} is a TensorFlow SavedModel without its variables (variables/variables.index)")
    found = sorted({name[:-len(".index")] for name in os.listdir(path) if name.endswith(".index")})
    if found:
        return ConversionError(f"{path} is a directory with TensorFlow checkpoints: name one by its prefix, {', '.join(found)}")
    return ConversionError(f"{path} is a directory without a saved_model.pb or a checkpoint: name the file")


def _read(path: str, note: Callable[[str], None]) -> Mapping[str, np.ndarray]:
    prefix = _prefix_of(path)
    if prefix is not None:
        return _of_tensorflow(prefix, lambda each: tensorflow_checkpoint.read(each, note))
    if os.path.isdir(path):
        raise _read_directory(path)
    if not os.path.exists(path):
        raise ConversionError(f"{path}: no such file")
    with open(path, "rb") as file:
        form = _form(path, file.read(16))
    if form == "zip":
        try:
            with zipfile.ZipFile(path) as archive:
                form = _form_of_zip(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise ConversionError(f"{path}: a damaged zip file: {error}") from error
    if form in FORMS:
        raise ConversionError(FORMS[form].format(path=path, prefix=re.sub(DATA_FILE, "", os.path.basename(path))))
    readers: dict[str, Callable[[str], Mapping[str, np.ndarray]]] = {
        "torch": _of_torch, "npz": _of_npz, "safetensors": safetensors.read, "hdf5": keras_h5.read,
        "graph": lambda each: _of_tensorflow(each, tensorflow_graph.read)}
    if form not in readers:
        raise ConversionError(VERSION_1.format(path=path) if _is_table(path) else
                              f"{path}: not a PyTorch state dict (.pt, .pth), safetensors, .npz, a Keras file (.h5), "
                              "or a TensorFlow checkpoint")
    return readers[form](path)


def read(path: str, note: Optional[Callable[[str], None]] = None) -> dict[str, np.ndarray]:
    """Every tensor of a file, by name; `note` is told what was left out of the names."""
    note = note or (lambda text: None)
    tensors = _plain_names(_read(path, note), note)
    _check_types(tensors)
    return tensors
