"""How the C of a tree is built, in one table: `python3 tests/static/measure.py [TREE]`.

The longest function, static functions that are called once, how far a header reaches, floors, circles, and the words of
comments. It reads clang-format's layout: a definition starts in the first column and ends with a brace there.
"""

import argparse
import collections
import pathlib
import re

import rooms

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'')
TOKEN = re.compile(COMMENT.pattern + "|" + LITERAL.pattern, re.S)
WORD = re.compile(r"[A-Za-z][A-Za-z']*")
DEFINITION = re.compile(r"^(?P<head>[A-Za-z_][^;={}#]*?)\b(?P<name>[A-Za-z_]\w*)\s*\((?P<parameters>[^;{}]*)\)\s*\{\n", re.M)

Function = collections.namedtuple("Function", "path name lines static")


def comments_of(text):
    """The comments of a C file, without their marks."""
    found = [token for token in (match[0] for match in TOKEN.finditer(text)) if token.startswith(("/*", "//"))]
    return [re.sub(r"\n[ \t]*\*?", "\n", token.removeprefix("/*").removeprefix("//").removesuffix("*/")).strip()
            for token in found]


def code_of(text):
    """The text with each comment and literal blanked; the lines stay."""
    return TOKEN.sub(lambda match: "\n" * match[0].count("\n") if match[0].startswith(("/*", "//")) else '""', text)


def functions_of(path, text):
    """Every function that a file defines."""
    code = code_of(text)
    found = []
    for match in DEFINITION.finditer(code):
        if match["name"] in ("if", "for", "while", "switch", "enum", "struct", "typedef"):
            continue
        end = code.find("\n}", match.end() - 1)
        lines = code.count("\n", match.start(), end + 1) + 1
        found.append(Function(path, match["name"], lines, "static" in match["head"].split()))
    return found


def read(top):
    """{path: text} of the shipped C."""
    top = pathlib.Path(top)
    return {path.relative_to(top).as_posix(): path.read_text()
            for room in rooms.SHIPPED for path in sorted((top / room).rglob("*.[ch]"))}


def called_once(texts, functions):
    """The static functions of .c files that one place calls or names."""
    codes = {path: code_of(text) for path, text in texts.items()}
    once = []
    for function in functions:
        named = len(re.findall(rf"\b{function.name}\b", codes[function.path]))
        defined = sum((other.path, other.name) == (function.path, function.name) for other in functions)
        once += [function] * (named - defined == 1)
    return once


def words(texts):
    """(words in comments, "what" among them, comments that open with "The same")."""
    comments = [comment for text in texts.values() for comment in comments_of(text)]
    all_words = [word.lower() for comment in comments for word in WORD.findall(comment)]
    return len(all_words), all_words.count("what"), sum(comment.startswith("The same") for comment in comments)


def what_per_thousand(texts):
    count, what, _ = words(texts)
    return 1000 * what / max(1, count)


def code_lines(texts):
    return sum(bool(line.strip()) for text in texts.values() for line in code_of(text).splitlines())


def measure(top):
    """[(label, value)] of a tree."""
    texts = read(top)
    tree = {path: rooms.INCLUDE.findall(text) for path, text in texts.items()}
    functions = [function for path, text in texts.items() for function in functions_of(path, text)]
    longest = sorted(functions, key=lambda function: -function.lines)
    static = [function for function in functions if function.static and function.path.endswith(".c")]
    once = called_once(texts, static)
    http = next((path for path in tree if pathlib.PurePosixPath(path).name == "http.h"), None)
    units, room_graph = rooms.unit_graph(tree), rooms.room_graph(tree)
    server = {unit: others for unit, others in units.items() if unit.startswith("server/")}
    server = {unit: {other for other in others if other in server} for unit, others in server.items()}
    folders = {str(pathlib.PurePosixPath(path).parent) for path in tree}
    within = {folder: rooms.floors({unit: {other for other in others if str(pathlib.PurePosixPath(other).parent) == folder}
                                    for unit, others in units.items() if str(pathlib.PurePosixPath(unit).parent) == folder})
              for folder in folders}
    tallest = max(within, key=within.get)
    count, what, same = words(texts)
    allowed = {path for path in tree if rooms.room_of(path) in rooms.ROOMS}
    return [
        ("longest functions", ", ".join(f"{each.name} {each.lines} ({each.path})" for each in longest[:3])),
        ("functions, median lines", f"{len(functions)}, {sorted(each.lines for each in functions)[len(functions) // 2]}"),
        ("static functions called once", f"{100 * len(once) / max(1, len(static)):.0f} % ({len(once)} of {len(static)})"),
        ("own headers that http.h reaches", str(len(rooms.reached(tree, http))) if http else "no http.h"),
        ("folders with C files", str(len(folders))),
        ("floors of rooms", str(rooms.floors(room_graph))),
        ("floors of files in server/", str(rooms.floors(server))),
        ("most floors in one folder", f"{within[tallest]} ({tallest})"),
        ("circles of rooms", "; ".join(" <-> ".join(group) for group in rooms.circles(room_graph)) or "none"),
        ("circles of files", "; ".join(" <-> ".join(group) for group in rooms.circles(units)) or "none"),
        ("includes against the table", str(len(rooms.violations({path: tree[path] for path in allowed})))),
        ("words in comments", str(count)),
        ('"what" per 1,000 of them', f"{1000 * what / max(1, count):.1f} ({what})"),
        ('comments that open with "The same"', str(same)),
        ("lines of code (shipped C)", f"{code_lines(texts)} of {sum(text.count(chr(10)) for text in texts.values())} lines, "
                                      f"{len(texts)} files"),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("tree", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    for label, value in measure(parser.parse_args().tree):
        print(f"{label:<36} {value}")


if __name__ == "__main__":
    main()
