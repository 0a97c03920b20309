"""Reads JSON files as the server reads them: numbers are finite, names come once, and an error names line and column."""
from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, Union

EXACT = 2.0 ** 53  # from here on a double stands for several integers


class DocumentError(ValueError):
    """A file that is no JSON of ours. The message begins with its name."""


def _real(text: str) -> Union[int, float]:
    """A number with a fraction or an exponent. One of 64 bits that is whole, such as 1e19, stays exact."""
    value = float(text)
    if EXACT <= abs(value) < math.inf:
        exact = Decimal(text)
        if exact == exact.to_integral_value() and -2 ** 63 <= exact < 2 ** 64:
            return int(exact)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the name {json.dumps(name)} is there twice in one object")
        members[name] = value
    return members


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON's")


def parse(text: Union[str, bytes], name: str) -> Any:
    """The value of a JSON text; `name` is the file's, for errors."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, parse_float=_real, parse_constant=_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise DocumentError(f"{name}: not UTF-8, at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise DocumentError(f"{name}: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise DocumentError(f"{name}: arrays and objects nest too deep") from error
    except ValueError as error:
        raise DocumentError(f"{name}: {error}") from error


def read(path: str) -> Any:
    """The value of a JSON file."""
    with open(path, "rb") as file:
        return parse(file.read(), str(path))
