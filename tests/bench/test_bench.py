"""The benchmarks run and agree; nothing is timed here."""

import collections
import csv
import json
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time
from xml.etree import ElementTree

import pytest

import machine
from support import builds

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = builds.TOP / "build" / "tools"


def run(script, *options):
    ran = subprocess.run([sys.executable, HERE / script, *map(str, options)], cwd=builds.TOP, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:]
    return ran.stdout


def rows_in(directory, benchmark):
    (path,) = directory.glob(f"*.{benchmark}.csv")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The reference shape."""
    output = tmp_path_factory.mktemp("bench") / "reference-shape"
    run("reference_shape.py", "--output", output)
    return output


@pytest.mark.only_on("release")
def test_peers_compute_the_same_scores(build, model, tmp_path):
    """ONNX Runtime takes part where `make bench-peers` has installed it."""
    engines = ["dien", "reduced", "torch"] + ["onnxruntime"] * (TOOLS / "node_modules" / "onnxruntime-node").exists()
    common = ("--model", model, "--graphs", tmp_path / "graphs", "--shapes", "6x3", "--engines", ",".join(engines))
    run("peers.py", *common, "--export")
    run("peers.py", *common, "--library", build.directory / "bench" / "library", "--rounds", 2, "--calls", 1,
        "--output", tmp_path)
    rows = rows_in(tmp_path, "peers")
    assert {row["engine"] for row in rows} == set(engines)
    for row in rows:
        assert float(row["median_ms"]) > 0
        if row["task"] != "nothing":
            assert float(row["largest_difference"]) < 1e-5, row


@pytest.mark.only_on("release")
def test_history_stores_are_measured(build, model, tmp_path):
    """Both engines, and the server with each: users are found, and requests by id alone are smaller."""
    run("histories.py", "--build", build.directory, "--model", model, "--store", tmp_path, "--users", 300, "--seconds", 0.1,
        "--counts", 10, "--output", tmp_path)
    rows = rows_in(tmp_path, "histories")
    assert {row["engine"] for row in rows} == {"LMDB", "Redis"}
    assert {row["what"] for row in rows} >= {"import", "open and first read", "open cold", "read", "read cold", "append"}
    assert all(float(row["p99_us"]) >= float(row["p50_us"]) for row in rows if row["p99_us"])
    assert any(row["p99_us"] for row in rows)
    wire = rows_in(tmp_path, "histories-wire")
    size = {row["form"]: int(row["request_bytes"]) for row in wire}
    assert size["user alone"] < size["whole history"]


@pytest.mark.only_on("release")
def test_open_loop_counts_every_answer(start, demo, build, tmp_path):
    """Good answers, refusals and percentiles that are in order; nothing is lost."""
    bodies = tmp_path / "bodies"
    rng = random.Random(8)
    requests = [demo.request(rng, history=5, candidates=3) for _ in range(20)]
    requests[7] = {**requests[7], "no such member": 1}  # a 400, one in twenty
    bodies.write_text("".join(json.dumps(request) + "\n" for request in requests))
    host, port = start().address
    ran = subprocess.run([build.directory / "bench" / "openloop", f"{host}:{port}", bodies, "--rate", "200", "--seconds", "1",
                          "--connections", "8"], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    got = json.loads(ran.stdout)
    assert (got["offered"], got["good"]["count"], got["other"]) == (200, 190, 10)
    assert got["refused"]["count"] == got["failed"] == got["unanswered"] == 0
    assert 0 < got["good"]["p50"] <= got["good"]["p99"] <= got["good"]["max"]


@pytest.mark.only_on("release")
def test_open_loop_counts_from_when_a_request_was_due(tmp_path, build):
    """A server that answers nothing for 0.5 s: on one connection, what waits for it within the program counts."""
    (tmp_path / "bodies").write_text("{}\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=slow_server, args=(listening, 0.5))
        server.start()
        ran = subprocess.run([build.directory / "bench" / "openloop", f"127.0.0.1:{listening.getsockname()[1]}",
                              tmp_path / "bodies", "--rate", "100", "--seconds", "0.5", "--connections", "1"],
                             stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        server.join()
    good = json.loads(ran.stdout)["good"]
    assert good["count"] == 50
    assert good["p50"] > 200_000, "the requests behind the slow one were not counted from when they were due"


def slow_server(listening, seconds):
    """One connection: the first answer takes its time, the others none."""
    connection, _ = listening.accept()
    with connection:
        pending = b""
        while True:
            more = connection.recv(65536)
            if not more:
                return
            pending += more
            while b"\r\n\r\n{}" in pending:
                pending = pending.split(b"\r\n\r\n{}", 1)[1]
                time.sleep(seconds)
                seconds = 0
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.only_on("release")
def test_sweep_has_every_size(build, tmp_path):
    """Each size, edge and shape of the paper, of each set of kernels; the figures are drawn of its rows."""
    run("sweep.py", "--models", tmp_path / "models", "--export")
    run("sweep.py", "--models", tmp_path / "models", "--library", build.directory / "bench" / "library", "--scale", 50,
        "--output", tmp_path)
    rows = rows_in(tmp_path, "sweep")
    assert all(float(row["seconds_median"]) > 0 for row in rows)
    for kernels in {row["kernels"] for row in rows if " " not in row["kernels"]}:
        counts = collections.Counter(row["what"].split(",")[0] for row in rows if row["kernels"] == kernels)
        assert counts == {"score by C": 13, "score by T": 7, "score by T and C": 2, "score by H": 8, "edge of lanes": 9,
                          "edge of steps": 6, "paper's shape": 8}
    (path,) = tmp_path.glob("*.sweep.csv")
    run("figures.py", "--results", tmp_path, "--slug", path.name.removesuffix(".sweep.csv"))
    assert len(list(tmp_path.glob("*.sweep-[CTH].svg"))) == 3


@pytest.mark.only_on("release")
def test_exponentials_are_within_their_bounds(build, tmp_path):
    """Every 65,521st float; tests/unit/test_exponentials.c holds denser ones to each function's own bound."""
    path = tmp_path / "exponentials.csv"
    subprocess.run([build.directory / "bench" / "exponentials", "--stride", "65521", "--csv", path], check=True, timeout=120,
                   stdout=subprocess.DEVNULL)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["function"] for row in rows} >= {"sigmoid", "tanh", "softmax", "update gate"}
    assert all(0 < float(row["largest_error"]) < 5e-7 for row in rows), rows


def write_rows(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_rows_are_kept_with_their_origin(tmp_path):
    """record.py puts a program's rows in place of the last run's, and says where they were measured."""
    source = tmp_path / "source.csv"
    for number in (1, 2):
        write_rows(source, [{"what": "a", "us": number}, {"what": "b", "us": number}])
        run("record.py", "--output", tmp_path, "copied", "sh", "-c", f'cp {source} "$2"', "program")
    rows = rows_in(tmp_path, "copied")
    assert [(row["what"], row["us"]) for row in rows] == [("a", "2"), ("b", "2")]
    assert all(row["date"] and row["machine"] and row["busy_before_percent"] for row in rows)


def test_rows_of_other_kinds_stay(tmp_path):
    machine.save("kinds", [{"kind": "a", "us": 1}, {"kind": "b", "us": 1}], tmp_path)
    machine.save("kinds", [{"kind": "b", "us": 2}], tmp_path, replaces=lambda row: row["kind"] == "b")
    assert [(row["kind"], row["us"]) for row in rows_in(tmp_path, "kinds")] == [("a", "1"), ("b", "2")]
    with pytest.raises(SystemExit, match="other columns"):
        machine.save("kinds", [{"kind": "b", "ms": 2}], tmp_path, replaces=lambda row: row["kind"] == "b")
    assert len(rows_in(tmp_path, "kinds")) == 2


def test_figures_from_rows(tmp_path):
    with open(tmp_path / "x.sweep.csv", "w") as file:
        file.write("what,kernels,T,C,H,seconds_median\n")
        for count in (1, 10, 100):
            file.write(f"score by C,ref,100,{count},36,{count * 1e-4}\n")
    run("figures.py", "--results", tmp_path, "--slug", "x")
    drawing = ElementTree.parse(tmp_path / "x.sweep-C.svg")
    assert len([each for each in drawing.iter() if each.tag.endswith("circle")]) == 3


@pytest.mark.only_on("release")
def test_server_is_measured_in_both_loops(build, model, tmp_path):
    run("server.py", "--server", build.server, "--model", model, "--openloop", build.directory / "bench" / "openloop",
        "--kinds", "cached", "--shape", "3x2", "--servers", "dien", "--seconds", 0.3, "--output", tmp_path)
    rows = rows_in(tmp_path, "server")
    assert [(row["path"], row["loop"], row["load"]) for row in rows] == [
        ("/score", "closed", "1"), *[("/score", "open", "0.7")] * 3, ("/score", "open", "1.1"), ("/health/live", "closed", "1")]
    for row in rows:
        assert row["errors"] == "0" and float(row["good_per_second"]) > 0, row
        assert (row["late_p99_us"] != "") == (row["loop"] == "open"), row


@pytest.mark.only_on("release")
def test_small_requests_have_a_row_for_every_form(build, model, tmp_path):
    run("server.py", "--server", build.server, "--model", model, "--kinds", "small", "--steps", "3", "--seconds", 1,
        "--output", tmp_path)
    rows = rows_in(tmp_path, "server")
    assert [(row["form"], row["path"]) for row in rows] == [
        (form, path) for form in ("history", "token", "message") for path in ("/score", "/health/live")]
    for row in rows:
        assert row["errors"] == "0" and float(row["good_per_second"]) > 0 and float(row["share_of_live"]) > 0, row


@pytest.mark.only_on("release")
def test_the_access_log_is_measured_in_pairs(build, model, tmp_path):
    """Every answer has its line, with the server and without."""
    run("access_log.py", "--build", build.directory, "--model", model, "--rounds", 1, "--seconds", 1, "--output", tmp_path)
    rows = rows_in(tmp_path, "access-log")
    assert [row["what"] for row in rows] == ["live", "live, 2 times", "C=1 by token", "C=1 by token, 2 times"]
    for row in rows:
        assert int(row["lines"]) > 0, row
        if row["answers"]:
            assert float(row["ratio"]) > 0 and int(row["lines"]) + int(row["dropped"]) >= int(row["answers"]), row


@pytest.mark.only_on("release")
def test_training_is_measured_and_served(build, tmp_path):
    """Each part has a row, and the server takes the model. Tables of this size have sparse gradients."""
    run("training.py", "--clicks", 5000, "--items", 25_000, "--steps", 2, "--csv", tmp_path / "rows.csv")
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == ["read", "prepare and check", "train", "freeze"]
    assert rows[-1]["note"] == "served" and all(int(row["peak_mib"]) > 0 for row in rows)


@pytest.mark.only_on("release")
def test_reloads_under_load(build, tmp_path):
    """Each turn has a row, and loads a version of its own: the way back would need none."""
    told = run("reload.py", "--server", build.server, "--openloop", build.directory / "bench" / "openloop", "--models",
               tmp_path / "models", "--items", 3000, "--turns", 4, "--seconds", 1, "--output", tmp_path)
    rows = rows_in(tmp_path, "reload")
    assert [row["turn"] for row in rows] == ["1", "2", "3", "4"]
    assert all(float(row["p99_swap_us"]) > 0 and int(row["own_bytes"]) > 0 for row in rows)
    assert "median p99 ratio" in told
