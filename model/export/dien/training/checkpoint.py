"""A checkpoint of `dien train`: a file of tensors and plain values, so that reading it runs no code."""
from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import torch

from dien.model import pickles


def plain(value: Any) -> Any:
    """The value without numpy's types, since those differ between its versions."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(each) for each in value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value.item() if isinstance(value, np.generic) else value


def check_folder(path: str) -> None:
    """Raise OSError unless a file can be written at `path`, so that hours of training are not lost at their end."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path}: there is no directory {folder}")
    if os.path.isdir(path) or not os.access(folder, os.W_OK):
        raise PermissionError(f"{path}: no file can be written there")


def save(state: dict[str, Any], path: str) -> None:
    """Write the checkpoint in one step."""
    torch.save(plain(state), f"{path}.part")
    os.replace(f"{path}.part", path)


def load(path: str) -> dict[str, Any]:
    """The state that save() wrote. ValueError: the file is not such a checkpoint."""
    try:
        state = pickles.load(path)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{error}: not a checkpoint of `dien train`") from error
    if not isinstance(state, dict) or "network" not in state or "options" not in state:
        raise ValueError(f"{path}: not a checkpoint of `dien train`; other frameworks' are read by `dien convert`")
    return state
