"""Writes records as a Parquet file: the members that have a column of their own, and the bodies as JSON text."""
from __future__ import annotations

import json
from typing import Any, Iterable

from dien.request_log.records import Record

PIECE = 10_000
TEXTS = ("request_id", "trace_id", "span_id", "user_id", "user_hash", "method", "route", "content_type", "user_state",
         "history_origin", "outcome", "body_base64", "history")


def row_of(record: Record) -> dict[str, Any]:
    """A record as one row; its members are those of server/REQUEST_LOG.md, with the model's and the phases' apart."""
    members = record.members
    model = members.get("model", {})
    phases = members.get("phases", {})
    return {"time": record.time, **{name: members.get(name) for name in TEXTS}, "sampled": members.get("sampled"),
            "model_name": model.get("name"), "model_version": model.get("version"), "model_digest": model.get("digest"),
            "body": json.dumps(members["body"], ensure_ascii=False) if "body" in members else None,
            "scores": members.get("scores"), "order": members.get("order"), "history_count": members.get("history_count"),
            "status": members.get("status"), "phases": [(name, float(value)) for name, value in phases.items()]}


def write_parquet(records: Iterable[Record], path: str) -> int:
    """Write them; returns their number. ValueError without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("writing Parquet needs pyarrow") from error
    text, real, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    kinds = {"time": pyarrow.timestamp("us", tz="UTC"), "sampled": pyarrow.bool_(), "scores": pyarrow.list_(pyarrow.float32()),
             "order": pyarrow.list_(whole), "history_count": whole, "status": whole, "phases": pyarrow.map_(text, real)}
    names = row_of(Record({"time": "1970-01-01T00:00:00Z"}))
    schema = pyarrow.schema([(name, kinds.get(name, text)) for name in names])
    count, rows = 0, []
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for record in records:
            row = row_of(record)
            rows.append({**row, "time": round(row["time"] * 1e6)})
            count += 1
            if len(rows) == PIECE:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    return count
