"""Histories and candidates as callers have them: columns, rows, or a pandas DataFrame; numpy's values in any of them."""
from __future__ import annotations

import json
from typing import Any, Mapping, Optional

Columns = dict[str, list[Any]]


def _column(series: Any) -> list[Any]:
    """A DataFrame's column; what is missing (NaN, NaT, NA) is None, which is as if it were left out."""
    values = series.astype(object)
    return values.where(series.notna(), None).tolist()


def table(node: Any) -> Any:
    """A DataFrame as columns, any other table as it is."""
    if hasattr(node, "to_dict") and hasattr(node, "columns"):
        return {str(name): _column(node[name]) for name in node.columns}
    return node


def columns(node: Any) -> Optional[Columns]:
    """A table as columns that the caller cannot change any more. None for one that the server would refuse."""
    if isinstance(node, Mapping):
        made = {name: values.tolist() if hasattr(values, "tolist") else values for name, values in node.items()
                if values is not None}
        if not all(isinstance(values, (list, tuple)) for values in made.values()):
            return None
        return {name: list(values) for name, values in made.items()}
    if isinstance(node, (list, tuple)) and all(isinstance(row, Mapping) for row in node):
        names = dict.fromkeys(name for row in node for name in row)
        return {name: [row.get(name) for row in node] for name in names}
    return None


def news(old: Columns, new: Columns) -> Optional[Columns]:
    """The behaviours by which `new` is longer than `old`. None if it does not begin with it, or not in all of its columns
    by as many: a history of several interests grows in one of them."""
    if old.keys() != new.keys():
        return None
    grown = {len(new[name]) - len(old[name]) for name in new}
    if len(grown) != 1 or min(grown) < 0 or any(new[name][:len(old[name])] != old[name] for name in new):
        return None
    return {name: new[name][len(old[name]):] for name in new}


def _plain(value: Any) -> Any:
    """numpy's arrays and scalars, for json."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a request cannot hold a {type(value).__name__}")


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON. ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain).encode()
