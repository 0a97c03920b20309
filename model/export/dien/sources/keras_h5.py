"""Reads the weights in a Keras file (.h5): of save_weights(), or of save() with the model's program beside them.

A group for each layer holds its tensors. Attributes list layers and tensors in order, because HDF5 sorts names itself.
"""
from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from dien.sources.source import ConversionError

DUMP = """numpy.savez("weights.npz", **{variable.name: variable.numpy() for variable in model.variables})
(TensorFlow 1: keras.backend.batch_get_value(model.weights) in the place of numpy()), and convert weights.npz"""
NO_H5PY = "{path} is HDF5, a Keras file, for which h5py is needed: apt-get install python3-h5py. Or where TensorFlow is: {dump}"
KERAS_3 = "{path} is a weights file of Keras 3: its tensors have no names of their own. Where it was made: {dump}"
SIZE_MAX = 2 ** 40  # bytes of a tensor


def _names(attributes: Any, name: str) -> list[str]:
    """A list of names, which Keras spreads over NAME0, NAME1, ... if it is too long for one attribute."""
    found = list(attributes[name]) if name in attributes else []
    place = 0
    while f"{name}{place}" in attributes:
        found += list(attributes[f"{name}{place}"])
        place += 1
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in found]


def _tensors(root: Any) -> Iterator[tuple[str, np.ndarray]]:
    for layer in _names(root.attrs, "layer_names"):
        for weight in _names(root[layer].attrs, "weight_names"):
            stored = root[layer][weight]
            if stored.size * stored.dtype.itemsize > SIZE_MAX:
                raise ValueError(f"tensor {weight} has the shape {list(stored.shape)}")
            # Some versions leave the layer out of its weights' names.
            yield weight if weight.startswith(f"{layer}/") else f"{layer}/{weight}", stored[()]


def read(path: str) -> dict[str, np.ndarray]:
    """Every weight, by its name."""
    try:
        import h5py
    except ImportError as error:
        raise ConversionError(NO_H5PY.format(path=path, dump=DUMP)) from error
    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if "model_weights" in file else file
            if not _names(root.attrs, "layer_names"):
                raise ConversionError(KERAS_3.format(path=path, dump=DUMP) if {"layers", "vars"} & set(file) else
                                      f"{path} is HDF5, but not as Keras writes it: it lists no layers (layer_names)")
            found: dict[str, np.ndarray] = {}
            for name, tensor in _tensors(root):
                if name in found:
                    raise ConversionError(f"{path}: tensor {name} is there twice")
                found[name] = np.asarray(tensor)
            return found
    except ConversionError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, MemoryError) as error:
        raise ConversionError(f"{path}: a damaged HDF5 file: {error}") from error
