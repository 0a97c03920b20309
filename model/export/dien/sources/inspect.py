"""Show the contents of a model directory, or of another framework's checkpoint as it would be converted.

    dien inspect model/demo
    dien inspect --from fuxictr --architecture architecture.json --weights state_dict.pt
"""
from __future__ import annotations

import argparse

from dien.sources import convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A directory, or the arguments of `dien convert` that name a checkpoint."""
    parser.add_argument("directory", nargs="?", help="a model directory")
    convert.add_arguments(parser)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Print the tables; nothing is written."""
    if arguments.output:
        parser.error("--output goes with `dien convert`")
    if arguments.directory:
        if arguments.framework or arguments.weights:
            parser.error("either a model directory or a checkpoint")
        convert.show(arguments.directory)
        return
    arguments.inspect = True
    convert.run(arguments, parser)
