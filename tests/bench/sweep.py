"""How the time of one request grows with its size, on one thread, the user's state kept: with C candidates, T behaviours
and H hidden units; at the edges of lanes; and the shape of the DIEN paper beside the rate that it reports.

    make bench-sweep
    python3 tests/bench/sweep.py --export && python3 tests/bench/sweep.py

Each point is a process of its own (library.c) with one request. The points of a part take turns, ROUNDS of them, so that
a slow moment of the machine hits them all; the first call of each turn is not counted. The rows go to
tests/bench/results/PROCESSOR.sweep.csv, and figures.py draws them.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import machine  # noqa: E402
from support import builds  # noqa: E402
from worker import Worker, write_request  # noqa: E402

ROUNDS = 10
CALLS = 3, 200  # of each point in each round: at least, at most
TURN_SECONDS = 0.004  # of a turn, where those allow it
T, C, H = 100, 100, 36  # what does not vary
CANDIDATES = 1, 2, 4, 8, 16, 32, 64, 100, 200, 500, 1000, 2000, 4000
BEHAVIOURS = 10, 20, 50, 100, 200, 500, 1000
HIDDEN = 16, 24, 32, 36, 48, 64, 96, 128
BOTH = (200, 200), (500, 500)
EDGES_C = 15, 16, 17, 31, 32, 33, 47, 48, 49
EDGES_T = 7, 8, 9, 15, 16, 17
LANES, STEPS = 16, 8  # model/kernels/kernels.h
LARGE = 10_000  # T x C from here on is beyond small sizes
EXPONENTS = 0.95, 1.05

# The paper (arXiv 1809.03672): bilinear attention, AUGRU with w = a v and its own reset gate, at most 50 behaviours; GRU
# of 108 units compressed to 32; its industrial MLP; and the requests a second that one worker served.
PAPER_T, PAPER_C, PAPER_RATE = 50, 100, 360
PAPER_HIDDEN = 32, 108
PAPER_MLPS = (200, 80), (600, 400, 300, 200, 80)
PAPER = ("--attention", "bilinear", "--cell", "augru-and", "--reset", "after")


@dataclasses.dataclass
class Point:
    """One request, one model, one set of kernels."""

    what: str
    isa: str
    steps: int
    candidates: int
    hidden: int
    model: str
    form: str = "cached"
    reduced: bool = False
    seconds: list = dataclasses.field(default_factory=list)
    precision: str = "float32"

    @property
    def kernels(self):
        return f"{self.isa} {self.precision.replace(' products', '')}" if self.reduced else self.isa

    @property
    def median(self):
        return statistics.median(self.seconds)

    def row(self):
        return {"what": self.what, "kernels": self.kernels, "T": self.steps, "C": self.candidates, "H": self.hidden,
                "seconds_median": f"{self.median:.4g}", "seconds_least": f"{min(self.seconds):.4g}",
                "calls": len(self.seconds), "precision": self.precision, "model": self.model}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--library", type=pathlib.Path, default=builds.TOP / "build/release/bench/library")
    parser.add_argument("--models", type=pathlib.Path, default=builds.TOP / "build/bench/sweep",
                        help="where models and requests are")
    parser.add_argument("--export", action="store_true", help="write the models; measure nothing")
    parser.add_argument("--scale", type=int, default=1, help="divide T, C and the calls by this, to see that all of it runs")
    parser.add_argument("--processor", type=int, default=max(os.sched_getaffinity(0)), help="where everything runs")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    return parser.parse_args()


def shapes():
    """The models, by name, as options of reference_shape.py."""
    made = {f"hidden-{hidden}": ("--hidden", hidden) for hidden in HIDDEN}
    for hidden in PAPER_HIDDEN:
        for mlp in PAPER_MLPS:
            made[paper_model(hidden, mlp)] = (*PAPER, "--hidden", hidden, "--mlp", *mlp)
    return made


def paper_model(hidden, mlp):
    return f"paper-{hidden}-mlp-{'-'.join(map(str, mlp))}"


def export(directory):
    import reference_shape  # it needs PyTorch, which would cost measurements memory
    for name, options in shapes().items():
        reference_shape.write(reference_shape.options().parse_args(["--output", str(directory / name), *map(str, options)]))


def sets_here(library, model, request):
    """The fast sets of kernels that this processor runs, with whether in reduced precision, best first."""
    worker = Worker(library, model, request)
    best = worker.hello.split()[0]
    worker.close()
    found = []
    for isa in dict.fromkeys((best, "avx512", "avx2", "neon")):
        if subprocess.run([library, model, request], stdin=subprocess.DEVNULL, capture_output=True, check=False,
                          env=builds.environment(DIEN_ISA=isa)).returncode == 0:
            found.append((isa, False))
    worker = Worker(library, model, request, "reduced")
    if not worker.hello.endswith("float32"):
        found.insert(1, (found[0][0], True))
    worker.close()
    return found


def request_of(steps, candidates, models):
    """A file with a random request, the same in every run."""
    path = models / f"request-{steps}x{candidates}"
    drawn = random.Random(1000 * steps + candidates)

    def rows(count, bound):
        return [drawn.randrange(bound) for _ in range(count)]

    write_request([rows(1, 10_000), rows(steps, 10_000), rows(steps, 500), rows(candidates, 10_000), rows(candidates, 500)], path)
    return path


def measure(points, options):
    """The seconds of each point's calls."""
    workers, calls = [], []
    for point in points:
        request = request_of(point.steps, point.candidates, options.models)
        worker = Worker(options.library, options.models / point.model, request, *["reduced"] * point.reduced, DIEN_ISA=point.isa)
        point.precision = worker.hello.split(", ")[1]
        workers.append(worker)
        estimate = min(worker.ask("time", point.form, 3))
        calls.append(max(CALLS[0], min(CALLS[1], math.ceil(TURN_SECONDS / estimate))))
    for _ in range(max(1, ROUNDS // options.scale)):
        for point, worker, count in zip(points, workers, calls):
            point.seconds += worker.ask("time", point.form, count + 1)[1:]
    for worker in workers:
        worker.close()
    return points


def of_sets(sets, what, sizes, scale=1):
    """Points of the reference shape: (T, C, H) of sizes with each set."""
    return [Point(what, isa, max(1, steps // scale), max(1, count // scale), hidden, f"hidden-{hidden}", reduced=reduced)
            for isa, reduced in sets for steps, count, hidden in sizes]


def paper_points(sets):
    """Both compressions, both MLPs, the state kept and computed."""
    return [Point(f"paper's shape, MLP {'-'.join(map(str, mlp))}-2, state {'kept' if form == 'cached' else 'computed'}", isa,
                  PAPER_T, PAPER_C, hidden, paper_model(hidden, mlp), form, reduced)
            for isa, reduced in sets for hidden in PAPER_HIDDEN for mlp in PAPER_MLPS for form in ("cached", "uncached")]


def exponent(points):
    """Of the line through log time against log T x C, by least squares."""
    xs = [math.log(point.steps * point.candidates) for point in points]
    ys = [math.log(point.median) for point in points]
    x, y = statistics.mean(xs), statistics.mean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)


def show(points):
    for point in points:
        print(f"{point.what:<62}{point.kernels:<24}T={point.steps:<5}C={point.candidates:<5}H={point.hidden:<4}"
              f"{1e6 * point.median:>11.1f} us{len(point.seconds):>6} calls")


def show_exponents(points):
    """The exponent of each set and way to grow, beyond small sizes."""
    for kernels in dict.fromkeys(point.kernels for point in points):
        large = [point for point in points if point.kernels == kernels and point.steps * point.candidates >= LARGE]
        for name, chosen in (("C", [point for point in large if point.steps == T]),
                             ("T", [point for point in large if point.candidates == C]),
                             ("T x C", large)):
            if len(chosen) > 1:
                found = exponent(chosen)
                verdict = "" if EXPONENTS[0] <= found <= EXPONENTS[1] else f", not within {EXPONENTS[0]} to {EXPONENTS[1]}"
                print(f"exponent of time in {name:<6} {kernels:<24} {found:.3f}  "
                      f"({len(chosen)} points, T x C >= {LARGE}){verdict}")


def show_edges(points, letter, lanes):
    """What one more costs where a block is full: the time, and the time for each of them."""
    size = {"C": lambda point: point.candidates, "T": lambda point: point.steps}[letter]
    for kernels in dict.fromkeys(point.kernels for point in points):
        by_size = {size(point): point.median for point in points if point.kernels == kernels}
        steps = {edge: by_size[edge + 1] / by_size[edge] for edge in by_size if edge % lanes == 0 and edge + 1 in by_size}
        for edge, step in steps.items():
            print(f"edge {letter} = {edge} to {edge + 1:<4} {kernels:<24} time x {step:.3f}, "
                  f"for each x {step * edge / (edge + 1):.3f}")
        if steps:
            worst = max(steps, key=lambda edge: steps[edge] * edge / (edge + 1))
            print(f"largest step in {letter:<8} {kernels:<24} {letter} = {worst}: "
                  f"for each x {steps[worst] * worst / (worst + 1):.3f}")


def show_paper(points):
    for point in points:
        rate = 1 / point.median
        print(f"{point.what:<62}{point.kernels:<24}H={point.hidden:<4}{1e3 * point.median:>8.3f} ms{rate:>9.0f} a second, "
              f"{rate / PAPER_RATE:.1f} times the paper's {PAPER_RATE}")


def main():
    options = arguments()
    options.models.mkdir(parents=True, exist_ok=True)
    if options.export:
        export(options.models)
        return
    os.sched_setaffinity(0, {options.processor})  # this process and those it starts
    machine.check_quiet()
    scale = options.scale
    sets = sets_here(options.library, options.models / f"hidden-{H}", request_of(T, C, options.models))
    growth = measure(of_sets(sets, "score by C", [(T, count, H) for count in CANDIDATES], scale), options)
    growth += measure(of_sets(sets, "score by T", [(steps, C, H) for steps in BEHAVIOURS], scale), options)
    growth += measure(of_sets(sets, "score by T and C", [(steps, count, H) for steps, count in BOTH], scale), options)
    hidden = measure(of_sets(sets, "score by H", [(T, C, units) for units in HIDDEN], scale), options)
    edges_c = measure(of_sets(sets, "edge of lanes, C", [(T, count, H) for count in EDGES_C]), options)
    edges_t = measure(of_sets(sets, "edge of steps, T", [(steps, C, H) for steps in EDGES_T]), options)
    paper = measure(paper_points(sets), options)
    show(growth + hidden + edges_c + edges_t)
    show_exponents(growth)
    show_edges(edges_c, "C", LANES)
    show_edges(edges_t, "T", STEPS)
    show_paper(paper)
    path = machine.save("sweep", [point.row() for point in growth + hidden + edges_c + edges_t + paper], options.output)
    print(f"one thread on processor {options.processor}; rows in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
