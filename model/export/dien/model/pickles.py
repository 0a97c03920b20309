"""Reads what torch.save() wrote, without running code of the file's: it may call the names of CALLABLE and no others.

PyTorch's own readers do not serve. torch.load(weights_only=True) of PyTorch 1.13 refuses plain floats, so a checkpoint with
a loss or an optimiser in it cannot be read; and its torch.load() ignores an unpickler that it is given. The two forms of
file, which this module reads itself:

- since 1.6 a zip archive: NAME/data.pkl, and one member NAME/data/KEY for the bytes of each storage;
- before, or on request, pickles one after another: a magic number, a protocol, facts about the machine, the object, the
  keys of the storages; then the number of elements and the bytes of each.
"""
from __future__ import annotations

import collections
import io
import os
import pickle
import sys
import zipfile
from typing import Any, BinaryIO, Callable, Optional, Union

import numpy as np
import torch

MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
             "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
             "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128}


def _tensor(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...],
            *_ignored: Any) -> torch.Tensor:
    """The view of a storage that a pickled tensor is."""
    return torch.as_strided(storage, size, stride, offset)


def _typed_tensor(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], grad: bool, hooks: Any,
                  dtype: torch.dtype, *_ignored: Any) -> torch.Tensor:
    """The view of a storage of bytes, as later versions write it."""
    return _tensor(storage.view(dtype), offset, size, stride)


def _parameter(data: torch.Tensor, *_ignored: Any) -> torch.Tensor:
    """A parameter as the tensor it holds."""
    return data


def _sparse(layout: str, data: tuple[Any, ...]) -> torch.Tensor:
    """A sparse tensor of coordinates; other layouts are an error."""
    if layout != "torch.sparse_coo":
        raise pickle.UnpicklingError(f"it holds a sparse tensor of layout {layout}")
    indices, values, size = data[:3]
    return torch.sparse_coo_tensor(indices, values, size)


def _encode(text: str, encoding: str) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it holds text in the encoding {encoding}")
    return text.encode("latin-1")


def _array(data: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """An array, as protocol 5 writes it."""
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


_multiarray: Any = getattr(np, "_core", None) or np.core
CALLABLE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(module, each.__name__): each for module in ("builtins", "__builtin__")
       for each in (set, int, float, complex, bytearray, list, dict)},
    ("_codecs", "encode"): _encode,
    ("torch", "Size"): torch.Size, ("torch", "device"): torch.device, ("torch.serialization", "_get_layout"): str,
    ("torch._utils", "_rebuild_tensor"): _tensor, ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor, ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    **{("torch", f"{name}Storage"): dtype for name, dtype in _STORAGES.items()},
    ("torch", "UntypedStorage"): torch.uint8, ("torch.storage", "UntypedStorage"): torch.uint8,
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    **{(f"numpy.{core}.multiarray", name): getattr(_multiarray.multiarray, name)
       for core in ("core", "_core") for name in ("scalar", "_reconstruct")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
    ("numpy", "dtype"): np.dtype, ("numpy", "ndarray"): np.ndarray,
}
Storages = Callable[[torch.dtype, str, int], torch.Tensor]


class _Unpickler(pickle.Unpickler):
    """Finds the names of CALLABLE, and storages by their keys."""

    def __init__(self, file: Union[BinaryIO, io.BytesIO], storages: Optional[Storages] = None):
        super().__init__(file, encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in CALLABLE:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}")
        return CALLABLE[module, name]

    def persistent_load(self, pid: Any) -> torch.Tensor:
        if self.storages is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to something outside of the file")
        return self.storages(pid[1], str(pid[2]), int(pid[4]))


def _of_bytes(data: bytes, dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _read_archive(path: str) -> Any:
    """The zip form. The archive's checksums find a flipped byte."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickled = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
        if any(name.endswith("/constants.pkl") for name in names):
            raise pickle.UnpicklingError("it is TorchScript, a program; save the state_dict() of the module that it was made of")
        if len(pickled) != 1:
            raise pickle.UnpicklingError("the archive has no data.pkl, so torch.save() did not write it")
        top = pickled[0][:-len("data.pkl")]
        order = archive.read(f"{top}byteorder").decode("ascii", "replace").strip() if f"{top}byteorder" in names else "little"
        if order != "little":
            raise pickle.UnpicklingError(f"its numbers are {order}-endian")
        read: dict[str, torch.Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
            if key not in read:
                read[key] = _of_bytes(archive.read(f"{top}data/{key}"), dtype)
            return read[key]

        return _Unpickler(io.BytesIO(archive.read(pickled[0])), storage).load()


def _read_sequence(file: BinaryIO) -> Any:
    """The older form. The object comes before its bytes, which are put into the storages that it refers to."""
    def plain() -> Any:
        return _Unpickler(file).load()

    if plain() != MAGIC:
        raise pickle.UnpicklingError("it does not begin as torch.save() begins")
    plain()
    if not isinstance(facts := plain(), dict) or facts.get("little_endian") is not True:
        raise pickle.UnpicklingError("its numbers are big-endian")
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, torch.Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
        if not 0 <= count <= size:
            raise pickle.UnpicklingError("it ends early")
        return storages.setdefault(key, torch.zeros(count, dtype=dtype))

    result = _Unpickler(file, storage).load()
    for key in map(str, plain()):
        count = int.from_bytes(file.read(8), "little")
        if key not in storages or count != storages[key].numel():
            raise pickle.UnpicklingError(f"storage {key} has {count} elements, which its tensors do not announce")
        data = file.read(count * storages[key].element_size())
        if len(data) != count * storages[key].element_size():
            raise pickle.UnpicklingError("it ends early")
        storages[key].copy_(_of_bytes(data, storages[key].dtype))
    return result


def load(path: str) -> Any:
    """The object in the file. pickle.UnpicklingError says what is damaged, or which object would have to run code."""
    try:
        if sys.byteorder != "little":
            raise pickle.UnpicklingError("it is read on little-endian machines only")
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with open(path, "rb") as file:
            return _read_sequence(file)
    except FileNotFoundError:
        raise
    except Exception as error:  # an unpickler on damaged bytes raises nearly everything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise pickle.UnpicklingError(f"{path}: {reason}") from error
