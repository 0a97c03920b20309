"""Draw the README's figures from tests/bench/results/*.csv as SVG, beside the CSV. Needs nothing but Python.

    make bench-figures
    python3 tests/bench/figures.py --slug amd-epyc-25-17

PROCESSOR.peers.svg from PROCESSOR.peers.csv, PROCESSOR.server.svg from PROCESSOR.server.csv, and PROCESSOR.sweep-X.svg
for X in C, T, H from PROCESSOR.sweep.csv, whose columns are what, kernels, T, C, H, seconds_median: rows whose `what`
ends in "by X" are one line for each set of kernels.
"""

import argparse
import csv
import html
import math
import pathlib

import machine

OURS, PEER, OTHER = "#0b6e4f", "#8a8f98", "#c4c8ce"
LINES = ("#0b6e4f", "#c2570c", "#3b5bdb", "#8a8f98")
WIDTH, ROW = 760, 26


class Drawing:
    """SVG text, piece by piece; a white ground, so that it reads on dark pages too."""

    def __init__(self, width, height):
        self.size = width, height
        self.pieces = [f'<rect width="{width}" height="{height}" fill="#ffffff"/>']

    def rect(self, x, y, width, height, colour):
        self.pieces.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def line(self, points, colour, width=1):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.pieces.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x, y, colour):
        self.pieces.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>')

    def text(self, x, y, text, anchor="start", size=13, colour="#1f2328", weight="normal"):
        self.pieces.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}" '
                           f'font-weight="{weight}">{html.escape(text)}</text>')

    def save(self, path):
        width, height = self.size
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                        f'viewBox="0 0 {width} {height}" font-family="sans-serif">\n' + "\n".join(self.pieces) + "\n</svg>\n")


def bars(path, title, note, groups):
    """Horizontal bars. groups: (heading, [(name, value, label, colour)]); each group has a scale of its own."""
    height = 72 + sum(30 + ROW * len(rows) for _, rows in groups)
    drawing = Drawing(WIDTH, height)
    drawing.text(16, 26, title, size=16, weight="bold")
    y = 40
    for heading, rows in groups:
        y += 22
        drawing.text(16, y, heading, colour="#57606a")
        scale = (WIDTH - 330 - 130) / max(value for _, value, _, _ in rows)
        for name, value, label, colour in rows:
            y += ROW
            drawing.text(322, y - 1, name, "end")
            drawing.rect(330, y - 15, max(1, value * scale), ROW - 8, colour)
            drawing.text(336 + value * scale, y - 1, label)
        y += 8
    drawing.text(16, height - 10, note, size=11, colour="#57606a")
    drawing.save(path)


def ticks(low, high):
    """1, 2 and 5 times powers of ten within."""
    steps = [factor * 10.0 ** power for power in range(-9, 9) for factor in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


def shown(value, unit=""):
    for size, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if unit == "s" else ((1, ""),):
        if value >= size * 0.999 or size == 1e-6:
            return f"{value / size:g} {name}".strip()
    return f"{value:g}"


def lines(path, title, note, letter, series):
    """Time against one dimension, both axes logarithmic. series: {name: [(x, seconds)]}."""
    drawing = Drawing(WIDTH, 400)
    drawing.text(16, 26, title, size=16, weight="bold")
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low_y, high_y = min(ys) / 1.3, max(ys) * 1.3

    def place(x, y):
        return (70 + (WIDTH - 220) * (math.log(x) - math.log(min(xs))) / max(1e-9, math.log(max(xs) / min(xs))),
                340 - 290 * (math.log(y) - math.log(low_y)) / math.log(high_y / low_y))

    for tick in ticks(low_y, high_y):
        _, y = place(min(xs), tick)
        drawing.line([(70, y), (WIDTH - 150, y)], "#e3e5e8")
        drawing.text(62, y + 4, shown(tick, "s"), "end", 11)
    for tick in ticks(min(xs), max(xs)):
        x, _ = place(tick, low_y)
        drawing.line([(x, 50), (x, 340)], "#e3e5e8")
        drawing.text(x, 358, shown(tick), "middle", 11)
    drawing.text((70 + WIDTH - 150) / 2, 376, letter, "middle")
    ends = []
    for colour, (name, points) in zip(LINES, series.items()):
        at = [place(x, y) for x, y in sorted(points)]
        drawing.line(at, colour, 2)
        for x, y in at:
            drawing.dot(x, y, colour)
        ends.append([at[-1][1] + 4, name, colour])
    ends.sort()
    for i, (y, name, colour) in enumerate(ends):  # names keep their distance
        ends[i][0] = y = max(y, ends[i - 1][0] + 16 if i else y)
        drawing.text(WIDTH - 142, y, name, colour=colour)
    drawing.text(16, 392, note, size=11, colour="#57606a")
    drawing.save(path)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def note_of(row, more=""):
    return f"{row['machine'].split(',')[0]}, {row['date']}, {row['commit']}{more}"


def draw_peers(rows, path):
    groups = []
    for shape in dict.fromkeys((row["T"], row["C"]) for row in rows):
        chosen = [row for row in rows if (row["T"], row["C"]) == shape and row["task"] not in ("nothing", "restored")]
        entries = []
        for row in sorted(chosen, key=lambda row: float(row["median_ms"])):
            ours = row["engine"] in ("dien", "reduced")
            label = f"{float(row['median_ms']):.2f} ms" + ("" if ours else f"  ({float(row['times_ours']):.1f} x)")
            entries.append((row["what"], float(row["median_ms"]), label, OURS if ours else PEER))
        groups.append((f"T = {shape[0]} behaviours, C = {shape[1]} candidates", entries))
    bars(path, "One request on one thread",
         note_of(rows[0], "; in brackets: times this library, user side kept or computed alike"),
         groups[:2])


def draw_server(rows, path):
    rows = [row for row in rows if row["kind"] != "small"]
    if not rows:
        return
    groups = []
    for kind in dict.fromkeys((row["kind"], row["T"], row["C"]) for row in rows):
        chosen = [row for row in rows if (row["kind"], row["T"], row["C"]) == kind
                  and row["path"] == "/score" and not row["options"]]
        entries = []
        for server, colour in (("dien", OURS), ("onnxruntime", PEER)):
            name = {"dien": "this server", "onnxruntime": "ONNX Runtime behind node"}[server]
            for row in chosen:
                if row["server"] == server and row["loop"] == "closed":
                    rate = float(row["good_per_second"])
                    entries.append((name, rate, f"{rate:,.0f} requests/s", colour))
        state = "computed" if kind[0] == "uncached" else "kept"
        groups.append((f"T = {kind[1]}, C = {kind[2]}, user state {state}", entries))
    bars(path, "The whole server over HTTP, most requests a second",
         note_of(rows[0], f"; processors: {rows[0]['processors']}"), groups)


def draw_sweeps(rows, results, slug):
    for letter, name in (("C", "candidates"), ("T", "behaviours"), ("H", "hidden units")):
        chosen = [row for row in rows if row["what"].endswith(f"by {letter}")]
        series = {}
        for row in chosen:
            series.setdefault(row["kernels"], []).append((float(row[letter]), float(row["seconds_median"])))
        if series:
            others = ", ".join(f"{other} = {chosen[0][other]}" for other in "TCH" if other != letter)
            lines(results / f"{slug}.sweep-{letter}.svg", f"One request by {name}, {others}",
                  note_of(chosen[0]) if "machine" in chosen[0] else "", f"{letter}, {name}", series)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--results", type=pathlib.Path, default=machine.RESULTS)
    parser.add_argument("--slug", default=machine.slug(), help="which machine's; by default this one's")
    options = parser.parse_args()
    for benchmark, draw in (("peers", draw_peers), ("server", draw_server)):
        path = options.results / f"{options.slug}.{benchmark}.csv"
        if path.exists():
            draw(read(path), path.with_suffix(".svg"))
    sweep = options.results / f"{options.slug}.sweep.csv"
    if sweep.exists():
        draw_sweeps(read(sweep), options.results, options.slug)


if __name__ == "__main__":
    main()
