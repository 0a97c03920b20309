"""The command `dien`: finds the subcommand, parses its arguments, and turns its errors into one line.

A subcommand is a module with add_arguments(parser) and run(arguments, parser). Its docstring is its help: the first line
says its purpose, the rest has examples. Only the module that is asked for is imported, because PyTorch takes seconds.
"""
from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from typing import Optional, Sequence

from dien import __version__

# name: its module, and its purpose in a line
COMMANDS = {
    "check": ("dien.training.check", "look for faults in clicks before training"),
    "train": ("dien.training.train", "train DIEN on clicks"),
    "evaluate": ("dien.training.evaluate", "AUC on the test sessions, beside simple baselines"),
    "ablate": ("dien.training.ablate", "train the network's variants and compare them"),
    "freeze": ("dien.training.freeze", "write a model directory from a checkpoint of `dien train`"),
    "convert": ("dien.sources.convert", "write a model directory from another framework's checkpoint"),
    "inspect": ("dien.sources.inspect", "show the contents of a model directory or of a checkpoint"),
    "replay": ("dien.serving.replay", "send a request log again, or compare its scores with another model's"),
    "label": ("dien.serving.label", "join a request log with clicks to examples for `dien train`"),
    "verify": ("dien.serving.verify", "compare a running server's scores with PyTorch's"),
}
INTERRUPTED = 130  # as shells count SIGINT


def usage() -> str:
    """The help of the command itself."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {purpose}" for name, (_, purpose) in COMMANDS.items())
    return ("usage: dien COMMAND ...\n\nModels for the DIEN scoring server.\n\n"
            f"{rows}\n\n`dien COMMAND --help` shows its arguments and examples; `dien --version` the version.")


def parser_of(name: str) -> argparse.ArgumentParser:
    """The arguments of one subcommand."""
    module = importlib.import_module(COMMANDS[name][0])
    purpose, _, examples = (module.__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog=f"dien {name}", description=purpose, epilog=examples.strip("\n"),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit status."""
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"dien {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        print(f"dien: there is no command {name!r}{f'; is {near[0]!r} meant?' if near else ''}\n\n{usage()}", file=sys.stderr)
        return 2
    parser = parser_of(name)
    arguments = parser.parse_args(words[1:])
    try:
        return int(arguments.run(arguments, parser) or 0)
    except KeyboardInterrupt:
        print(f"dien {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"dien {name}: {error}", file=sys.stderr)
        return 1
