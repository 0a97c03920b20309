"""One request on one thread: this library beside ONNX Runtime and PyTorch, same weights, same request, in one run.

    make bench-peers
    python3 tests/bench/peers.py --export && python3 tests/bench/peers.py

All engines run on one and the same processor and take turns within each round, so that a slow moment of the machine
hits them all. The first call of each turn is not counted. Scores are compared with PyTorch in float64. The rows go to
tests/bench/results/PROCESSOR.peers.csv.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "model/export"))
import machine  # noqa: E402
from dien.model import model_directory  # noqa: E402
import peer_export  # noqa: E402
from support import builds  # noqa: E402
from worker import Worker, write_request  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
GRAPHS = ("once", "tiled", "best", "encoder", "scorer", "nothing")
LARGEST_DIFFERENCE = 1e-4  # of any engine's scores from float64: beyond it they did not compute the same

# What is shown: engine, its task, what it is, and whether the user's part was computed before the clock started.
TASKS = (
    ("dien", "cached", "this library, user state kept", True),
    ("dien", "restored", "this library, core of the state kept", True),
    ("dien", "uncached", "this library, user state computed", False),
    ("reduced", "cached", "this library, reduced precision, state kept", True),
    ("reduced", "uncached", "this library, reduced precision, computed", False),
    ("onnxruntime", "scorer", "ONNX Runtime, graph for speed, user side kept", True),
    ("onnxruntime", "best", "ONNX Runtime, graph for speed, user once", False),
    ("onnxruntime", "once", "ONNX Runtime, export, user once", False),
    ("onnxruntime", "tiled", "ONNX Runtime, export, user tiled", False),
    ("torch", "once", "PyTorch eager, user once", False),
    ("torch", "tiled", "PyTorch eager, user tiled", False),
    ("onnxruntime", "nothing", "ONNX Runtime, a call that does nothing", True),
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", type=pathlib.Path, default=builds.TOP / "build/bench/reference-shape")
    parser.add_argument("--library", type=pathlib.Path, default=builds.TOP / "build/release/bench/library")
    parser.add_argument("--tools", type=pathlib.Path, default=builds.TOP / "build/tools")
    parser.add_argument("--shapes", default="100x100,50x100,100x10,100x1", help="TxC, each with graphs of its own")
    parser.add_argument("--graphs", type=pathlib.Path, default=builds.TOP / "build/bench/peers", help="where graphs are kept")
    parser.add_argument("--export", action="store_true", help="write the graphs; measure nothing")
    parser.add_argument("--engines", default="dien,reduced,onnxruntime,torch", help="those that take part")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--calls", type=int, default=4, help="counted calls of each engine in each round")
    parser.add_argument("--processor", type=int, default=max(os.sched_getaffinity(0)), help="where all engines run")
    parser.add_argument("--output", type=pathlib.Path, default=machine.RESULTS)
    return parser.parse_args()


class Torch:
    """PyTorch, in this process."""

    hello = f"PyTorch {torch.__version__}"

    def __init__(self, network, inputs):
        self.module = peer_export.Traced(network).eval()
        self.inputs = {"once": peer_export.once(inputs), "tiled": peer_export.tiled(inputs)}

    def ask(self, what, name, calls=1):
        seconds = []
        with torch.inference_mode():
            for _ in range(int(calls)):
                start = time.perf_counter()
                scores = self.module(**self.inputs[name])
                seconds.append(time.perf_counter() - start)
        return seconds if what == "time" else scores.flatten().tolist()

    def close(self):
        pass


def random_inputs(config, steps, count):
    random = torch.Generator().manual_seed(1000 * steps + count)
    rows = {name: table["rows"] for name, table in config["tables"].items()}

    def drawn(table, size):
        return torch.randint(rows[table], (size,), generator=random)

    values = drawn("user", 1), drawn("item", steps), drawn("category", steps), drawn("item", count), drawn("category", count)
    return dict(zip(peer_export.INPUTS, values))


def measure(engines, tasks, options):
    seconds = {task[:2]: [] for task in tasks}
    for _ in range(options.rounds):
        for engine, name in seconds:
            seconds[engine, name] += engines[engine].ask("time", name, options.calls + 1)[1:]
    return seconds


def differences(engines, tasks, network, inputs):
    """The largest difference of each task's scores from PyTorch's in float64."""
    truth = torch.tensor(Torch(network, inputs).ask("scores", "once"), dtype=torch.float64)
    found = {}
    for engine, name, _, _ in tasks:
        if name != "nothing":
            scores = torch.tensor(engines[engine].ask("scores", name), dtype=torch.float64)
            found[engine, name] = (scores - truth).abs().max().item()
    return found


def show(rows):
    columns = {"times_ours": "times ours", "least_times_ours": "(of least)", "times_reduced": "reduced",
               "largest_difference": "from float64"}
    shape = f"T={rows[0]['T']} C={rows[0]['C']}"
    print(f"\n{shape:<48}{'median':>10}{'least':>10}" + "".join(f"{title:>14}" for title in columns.values()))
    for row in rows:
        print(f"{row['what']:<48}{row['median_ms']:>7.3f} ms{row['least_ms']:>7.3f} ms"
              + "".join(f"{row[column]:>14}" for column in columns))


def export(options, networks, inputs, directory):
    directory.mkdir(parents=True, exist_ok=True)
    write_request([rows.tolist() for rows in inputs.values()], directory / "request")
    peer_export.export_all(networks[torch.float32], inputs, directory, GRAPHS)


def start(options, networks, inputs, directory):
    """The engines that take part, by name."""
    made = {"dien": lambda: Worker(options.library, options.model, directory / "request"),
            "reduced": lambda: Worker(options.library, options.model, directory / "request", "reduced"),
            "onnxruntime": lambda: Worker("node", HERE / "peer_onnx.mjs", options.tools, directory),
            "torch": lambda: Torch(networks[torch.float32], inputs)}
    return {name: made[name]() for name in options.engines.split(",")}


def compare(options, networks, inputs, directory):
    """One shape: its rows."""
    engines = start(options, networks, inputs, directory)
    tasks = [task for task in TASKS if task[0] in engines]
    differing = differences(engines, tasks, networks[torch.float64], inputs)
    seconds = measure(engines, tasks, options)
    for engine in engines.values():
        engine.close()
    medians = {task: statistics.median(times) for task, times in seconds.items()}
    rows = []
    for engine, name, what, kept in tasks:
        form = "cached" if kept else "uncached"
        ours, reduced = ("dien", form), ("reduced", form)
        rows.append({
            "T": len(inputs["items"]), "C": len(inputs["candidate_items"]), "engine": engine, "task": name, "what": what,
            "median_ms": round(1e3 * medians[engine, name], 4), "least_ms": round(1e3 * min(seconds[engine, name]), 4),
            "calls": len(seconds[engine, name]), "user_side": "kept" if kept else "computed",
            "times_ours": "" if name == "nothing" else f"{medians[engine, name] / medians[ours]:.2f}",
            "least_times_ours": "" if name == "nothing" else f"{min(seconds[engine, name]) / min(seconds[ours]):.2f}",
            "times_reduced": "" if name == "nothing" or reduced not in medians
                             else f"{medians[engine, name] / medians[reduced]:.2f}",
            "largest_difference": f"{differing[engine, name]:.1e}" if (engine, name) in differing else "",
            "said": engines[engine].hello})
    show(rows)
    apart = {task: value for task, value in differing.items() if value > LARGEST_DIFFERENCE}
    assert not apart, f"not the same scores: {apart}"
    return rows


def main():
    options = arguments()
    os.sched_setaffinity(0, {options.processor})  # this process and those it starts
    torch.set_num_threads(1)
    config = model_directory.read_config(options.model)
    networks = {dtype: model_directory.load(options.model, dtype).network for dtype in (torch.float32, torch.float64)}
    if not options.export:
        machine.check_quiet()
    rows = []
    for shape in options.shapes.split(","):
        inputs = random_inputs(config, *map(int, shape.split("x")))
        if options.export:
            export(options, networks, inputs, options.graphs / shape)
        else:
            rows += compare(options, networks, inputs, options.graphs / shape)
    if options.export:
        return
    path = machine.save("peers", rows, options.output)
    print(f"\none thread on processor {options.processor}, medians of {rows[0]['calls']} calls in turns; `times ours`: against "
          "this library\nwith its user state kept where the peer's is, else computed; `reduced`: against the same in reduced "
          "precision")
    print(f"rows in {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
