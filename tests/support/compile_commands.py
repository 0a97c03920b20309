"""Make's own words, as `make -n -B V=1` prints them, as compile_commands.json: `make compile-commands`."""

import json
import pathlib
import re
import shlex
import sys

COMPILES = re.compile(r"^\S*(?:gcc|clang|cc)\b.* -c -o \S+ \S+\.c$")


def main():
    top = pathlib.Path(__file__).resolve().parents[2]
    found = []
    for line in sys.stdin:
        if COMPILES.match(line.strip()):
            arguments = shlex.split(line)
            found.append({"directory": str(top), "file": arguments[-1], "arguments": arguments})
    json.dump(found, sys.stdout, indent=1)
    print(f"compile_commands: {len(found)} files", file=sys.stderr)


if __name__ == "__main__":
    main()
