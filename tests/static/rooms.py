"""The rooms of the C code: which room may include which, as a table, and the functions that hold a tree to it.

A tree is a dict: each file's path, with the list of names that it includes. A test can plant a line in a copy of it.
"""

import pathlib
import re

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.M)
SHIPPED = ("server", "model", "proto")

# A room is a folder. These files belong to a room of their own, below the folder that they lie in: the types that all of
# the model's rooms share, the model's door, and the options, whose limits the pages of server/api/ show.
OWN_ROOM = {
    "model/types.h": "model types",
    "model/error.h": "model types",
    "model/error.c": "model types",
    "model/sizes.h": "model types",
    "model/dien.h": "model door",
    "server/options.h": "options",
    "server/options.c": "options",
}

# Each room, and the rooms or single headers that it may include beside its own. Every room stands above those it names.
ROOMS = {
    "proto": set(),
    "model types": set(),
    "model/kernels": {"model types", "model door"},  # which declares the two functions that name the kernels
    "model/format": {"model/kernels", "model types"},
    "model door": {"model types"},
    "model/network": {"model/format", "model/kernels", "model types", "model door"},
    "model": {"model/network", "model/format", "model/kernels", "model types", "model door"},
    "server/base": {"proto/json_line.h"},
    "server/http": {"server/base", "proto/problem.h", "proto/score.h", "proto/digits.h", "proto/json_encode.h",
                    "proto/content_coding.h"},
    "server/users": {"server/base", "proto/arena.h", "proto/digits.h", "proto/score.h", "model door"},
    "server/histories": {"server/base", "proto"},
    "server/scoring": {"server/users", "server/base", "proto", "model door"},
    "server/models": {"server/scoring", "server/base", "model door"},
    "options": {"server/base", "model door"},
    "server/api": {"options", "server/http", "server/models", "server/histories", "server/scoring", "server/users", "server/base",
                   "proto",
                   "model door"},
    "server": {"options", "server/api", "server/http", "server/models", "server/histories", "server/scoring", "server/users",
               "server/base", "proto",
               "model door"},
}


def room_of(path):
    return OWN_ROOM.get(path) or str(pathlib.PurePosixPath(path).parent)


def read_tree(top, rooms=SHIPPED):
    """{path: [included name]} of the C files below `top`."""
    top = pathlib.Path(top)
    return {path.relative_to(top).as_posix(): INCLUDE.findall(path.read_text())
            for room in rooms for path in sorted((top / room).rglob("*.[ch]"))}


def own_includes(tree, path):
    """The tree's own files among a file's includes; model/, proto/ and server/ name them from the top."""
    return [name for name in tree[path] if name in tree]


def violations(tree):
    """Each include that the table does not allow, as "FILE includes HEADER"."""
    found = []
    for path in tree:
        room = room_of(path)
        if room not in ROOMS:
            found.append(f"{path} is in no room")
            continue
        for name in tree[path]:
            theirs = room_of(name)
            inside = name.split("/")[0] in SHIPPED
            if inside and theirs != room and theirs not in ROOMS[room] and name not in ROOMS[room]:
                found.append(f"{path} includes {name}")
    return found


def room_graph(tree):
    """{room: rooms that its files include}."""
    graph = {}
    for path in tree:
        graph.setdefault(room_of(path), set()).update(room_of(name) for name in own_includes(tree, path))
    return {room: others - {room} for room, others in graph.items()}


def unit_of(path):
    """NAME.c and NAME.h are one unit: a header's promise is kept by the file beside it."""
    return path.removesuffix(".c").removesuffix(".h")


def unit_graph(tree):
    """{unit: units that its two files include}."""
    graph = {}
    for path in tree:
        graph.setdefault(unit_of(path), set()).update(unit_of(name) for name in own_includes(tree, path))
    return {unit: others - {unit} for unit, others in graph.items()}


def circles(graph):
    """Groups of nodes that reach each other, sorted (Tarjan's strongly connected components of two nodes and more)."""
    index, low, stack, on_stack, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on_stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            on_stack.difference_update(group)
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def floors(graph):
    """The number of nodes on the longest path; a circle counts as one node."""
    member = {node: group[0] for group in circles(graph) for node in group}
    merged = {}
    for node, others in graph.items():
        name = member.get(node, node)
        merged.setdefault(name, set()).update(member.get(other, other) for other in others)
    height = {}

    def climb(node):
        if node not in height:
            height[node] = 1 + max((climb(other) for other in merged.get(node, ()) if other != node), default=0)
        return height[node]
    return max(map(climb, merged), default=0)


def reached(tree, path):
    """All of the tree's headers that a file includes, and those that they include."""
    seen, left = set(), [path]
    while left:
        for name in own_includes(tree, left.pop()):
            if name not in seen:
                seen.add(name)
                left.append(name)
    return seen - {path}
