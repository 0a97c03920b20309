"""Reads a foreign checkpoint's tensors: PyTorch state dicts, safetensors, .npz. The first bytes tell which."""
from __future__ import annotations

import os
import pickle
import zipfile
from typing import Any, Mapping

import numpy as np
import torch

from dien.model import pickles, safetensors
from dien.sources.source import ConversionError

HDF5 = b"\x89HDF\r\n\x1a\n"
INNER = ("state_dict", "model_state_dict", "model")  # keys under which training scripts put a state dict
WRAPPER = "module."                                  # DataParallel's prefix of every name

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
        raise ConversionError(PICKLED.format(reason=error, name=os.path.basename(path))) from error
    except ValueError as error:
        raise ConversionError(str(error)) from error
    for key in INNER:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ConversionError(f"{path}: neither a state dict nor a dict with one under {', '.join(INNER)}")
    return {name: _array(tensor) for name, tensor in loaded.items()}


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _of_npz(path: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        try:
            return {name: archive[name] for name in archive.files}
        except ValueError as error:
            raise ConversionError(f"{path}: {error}") from error


def _of_keras(path: str) -> ConversionError:
    with open(path, "rb") as file:
        second = b"gru2" in file.read()
    missing = "" if second else (" It has no weights of the second GRU (no name with gru2): DeepCTR's AGRU and AUGRU cells do "
                                 "not save theirs, and without them the model cannot be scored.")
    return ConversionError(KERAS.format(path=path, missing=missing))


def _plain_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without TensorFlow's output number and DataParallel's wrapper."""
    if tensors and all(name.startswith(WRAPPER) for name in tensors):
        tensors = {name[len(WRAPPER):]: tensor for name, tensor in tensors.items()}
    return {name[:-2] if name.endswith(":0") else name: tensor for name, tensor in tensors.items()}


def read(path: str) -> dict[str, np.ndarray]:
    """Every tensor of a file, by name."""
    if os.path.isdir(path) or not os.path.exists(path):
        if os.path.exists(f"{path}.index"):
            raise ConversionError(TENSORFLOW.format(path=path))
        raise ConversionError(f"{path}: no such file")
    with open(path, "rb") as file:
        start = file.read(16)
    if path.endswith((".index", ".meta")) or ".data-0" in os.path.basename(path):
        raise ConversionError(TENSORFLOW.format(path=path))
    if path.endswith((".pdparams", ".pdopt")):
        raise ConversionError(f"{path} is PaddlePaddle's. {PADDLEREC}")
    if start.startswith(HDF5):
        raise _of_keras(path)
    if start[8:9] == b"{":
        return _plain_names(safetensors.read(path))
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                numpy_archive = all(name.endswith(".npy") for name in archive.namelist())
        except zipfile.BadZipFile as error:
            raise ConversionError(f"{path}: a damaged zip file: {error}") from error
        return _plain_names(_of_npz(path) if numpy_archive else _of_torch(path))
    if start.startswith(b"\x80"):
        return _plain_names(_of_torch(path))
    raise ConversionError(f"{path}: not a PyTorch state dict (.pt, .pth), safetensors or .npz")
