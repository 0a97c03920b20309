"""The messages of proto/score.proto in Python, by Google's own library, from requests as JSON has them."""

import importlib.util
import itertools
import pathlib
import subprocess

from . import builds

MEDIA_TYPE = "application/x-protobuf"
SCALARS = ("user_id", "history_token", "top_k", "explain")


def compiled(directory):
    """The module that protoc makes of proto/score.proto, in a directory."""
    subprocess.run(["protoc", f"--proto_path={builds.TOP / 'proto'}", f"--python_out={directory}", "score.proto"], check=True)
    spec = importlib.util.spec_from_file_location("score_pb2", pathlib.Path(directory) / "score_pb2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def column_of(messages, name, values):
    column = messages.Column(name=name)
    if isinstance(values[0] if values else 0, str):
        column.strings.extend(values)
    elif values and isinstance(values[0], list):
        column.reals.extend(itertools.chain(*values))
        column.width = len(values[0])
    elif values and isinstance(values[0], float):
        column.reals.extend(values)
    else:
        column.integers.extend(values)
    return column


def message_of(messages, body, kind="ScoreRequest"):
    """The same request as a message: a ScoreRequest, or a HistoryRequest."""
    message = getattr(messages, kind)(**{name: body[name] for name in SCALARS if name in body})
    for group in ("user", "context"):
        if group in body:
            getattr(message, group).CopyFrom(messages.Table(
                columns=[column_of(messages, name, [value]) for name, value in body[group].items()]))
    for group in ("history", "history_append", "candidates"):
        if group in body:
            getattr(message, group).CopyFrom(messages.Table(
                columns=[column_of(messages, name, values) for name, values in body[group].items()]))
    return message
