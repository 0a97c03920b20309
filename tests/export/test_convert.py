"""`dien convert` on other people's checkpoints (tests/golden): their scores are kept, in each file format."""

import pathlib

import numpy as np
import pytest
import torch

from dien.model import documents
from dien.model import safetensors
from dien.model.model_directory import Scorer, load, read_samples
from dien.sources import convert
from dien.sources import weights
from dien.sources.source import Source
from support.dien_command import run_dien

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())
SEPARATE = 1e-5  # scores closer than this may change places


def framework(case):
    """The framework is the first part of a case's name."""
    return next(name for name in convert.FRAMEWORKS if case.startswith(name))


def converted(case, file="state_dict.safetensors", change=None, **options):
    """Config and tensors of a case; `change` may edit the architecture file and the checkpoint's tensors."""
    architecture, tensors = documents.read(GOLDEN / case / "architecture.json"), weights.read(
        str(GOLDEN / case / file)
    )
    if change:
        change(architecture, tensors)
    return convert.convert(framework(case), architecture, Source(tensors), options)


def command(case, *more, file="state_dict.safetensors"):
    """`dien convert` on a case, as a person runs it."""
    return run_dien("convert", "--from", framework(case), "--architecture", GOLDEN / case / "architecture.json",
                    "--weights", GOLDEN / case / file, *more)


def test_every_framework_has_a_case():
    assert {framework(case) for case in CASES} == set(convert.FRAMEWORKS) and len(CASES) >= 11


@pytest.mark.parametrize("case", CASES)
def test_scores(case):
    """Every score within 1e-6 of the framework's own in float64, and the candidates in the same order."""
    requests = documents.read(GOLDEN / case / "requests.json")
    scorer, largest = Scorer(*converted(case)), 0.0
    for request in requests:
        scores, truth = scorer.score(request), np.array(request["scores"])
        largest = max(largest, np.abs(scores - truth).max())
        apart = truth[:, None] - truth[None, :] > SEPARATE
        assert ((scores[:, None] > scores[None, :]) | ~apart).all(), "the order of candidates"
    print(f"{case}: largest difference {largest:.3g} over {sum(len(request['scores']) for request in requests)} scores")
    assert largest < 1e-6


@pytest.mark.parametrize(
    "case",
    [
        "deepctr-torch-augru-prelu-bn",
        "fuxictr-augru-din-dice-sumpool",
        "recbole-dien-augru",
        "reference-tf1-prelu",
        "torch-rechub-dien",
    ],
)
def test_command(case, tmp_path):
    """Through the command line: the framework's scores become the samples, what plays no part is dropped by name."""
    run = command(case, "--samples", GOLDEN / case / "requests.json", "--output", tmp_path / "out")
    requests = documents.read(GOLDEN / case / "requests.json")
    assert run.returncode == 0, run.stderr
    assert f"over {sum(len(request['scores']) for request in requests)} scores" in run.stdout
    dropped = {
        "reference-tf1-prelu": "dropped f1gru/kernel: the auxiliary loss's net",
        "fuxictr-augru-din-dice-sumpool": "dropped aux_net.mlp.0.weight: the auxiliary loss's net",
        "recbole-dien-augru": "dropped interset_extractor.auxiliary_net.mlp_layers.1.weight: the auxiliary loss's net",
        "deepctr-torch-augru-prelu-bn": "dropped dnn.bn.0.num_batches_tracked: a count of batches",
        "torch-rechub-dien": "dropped mlp.mlp.1.num_batches_tracked: a count of batches",
    }
    assert dropped[case] in run.stdout
    assert [sample["scores"] for sample in read_samples(tmp_path / "out")] == [each["scores"] for each in requests]
    assert convert.largest_difference(load(tmp_path / "out"), requests) < 1e-6


def test_generated_samples(tmp_path):
    """Without scores of the framework's own the samples are random requests, scored by the converted network."""
    run = command("recbole-dien-augru", "--output", tmp_path / "out", "--name", "books", "--version", "7")
    assert run.returncode == 0 and "give some with --samples" in run.stdout
    scorer, samples = load(tmp_path / "out"), read_samples(tmp_path / "out")
    assert (scorer.config["name"], scorer.config["version"]) == ("books", "7")
    assert len(samples) == convert.RANDOM_SAMPLES and convert.largest_difference(scorer, samples) == 0
    lengths = {
        len(next(iter(sample["history"].values()), []))
        if isinstance(sample["history"], dict)
        else len(sample["history"])
        for sample in samples
    }
    assert {0, 1, 50, 51} <= lengths
    assert any("cate_id" not in sample["candidates"] for sample in samples)  # what the item decides may be left out


def test_every_file_format_is_the_same(tmp_path):
    """.pt, .pth around a dict, .safetensors and .npz."""
    case = "deepctr-torch-agru"
    expected = converted(case)[1]
    state = torch.load(GOLDEN / case / "state_dict.pt", map_location="cpu")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "wrapped.pth")
    torch.save(
        {f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "parallel.h5"
    )  # the name says nothing
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    tensors = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez(tmp_path / "a.npz", **tensors)
    safetensors.write(tmp_path / "a.safetensors", tensors)
    paths = [GOLDEN / case / "state_dict.pt", *sorted(tmp_path.iterdir())]
    assert len(paths) == 6
    for path in paths:
        found = converted(case, file=path)[1]
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected), path


def test_half_precision_checkpoints(tmp_path):
    """What a checkpoint holds in bfloat16 is widened, exactly."""
    case = "deepctr-torch-agru"
    state = {name: tensor.bfloat16() for name, tensor in torch.load(GOLDEN / case / "state_dict.pt").items()}
    torch.save(state, tmp_path / "a.pt")
    found = converted(case, file=tmp_path / "a.pt")[1]
    assert np.array_equal(found["tables.user"], state["embedding_dict.user.weight"].float().numpy())


@pytest.mark.parametrize("case", CASES)
def test_lengths(case):
    """Histories of none, one, max_length and beyond: beyond it, what the framework cuts changes nothing."""
    config, tensors = converted(case)
    scorer = Scorer(config, tensors)
    request = documents.read(GOLDEN / case / "requests.json")[-2]
    limits = {name: interest["max_length"] for interest in config["interests"] for name in interest["history"]}
    random = np.random.default_rng(0)

    def with_history(columns):
        return scorer.score({**request, "history": columns})

    rows = {field["name"]: config["tables"][field["table"]]["rows"] for field in config["fields"] if "table" in field}
    several = {field["name"] for field in config["fields"] if "pool" in field}

    def drawn(name, count):
        found = random.integers(1, rows[name], count).tolist()
        return [[each] for each in found] if name in several else found

    longest = {name: drawn(name, limit) for name, limit in limits.items()}
    extra = {name: drawn(name, 3) for name in limits}
    keep = config["interests"][0]["keep"]
    assert keep == ("first" if case.startswith(("fuxictr", "prediction-flow", "eat-pytorch")) else "last")
    full = with_history(longest)
    cut = {name: extra[name] + longest[name] if keep == "last" else longest[name] + extra[name] for name in limits}
    assert np.array_equal(with_history(cut), full)
    wrong = {name: longest[name] + extra[name] if keep == "last" else extra[name] + longest[name] for name in limits}
    assert np.abs(with_history(wrong) - full).max() > 1e-4
    one = with_history({name: column[:1] for name, column in longest.items()})
    empty = with_history({name: [] for name in limits})
    assert np.isfinite(one).all() and np.abs(one - empty).max() > 1e-4 and np.abs(one - full).max() > 1e-4


def test_keep_is_the_users_to_say():
    assert converted("fuxictr-augru-bilinear", keep="last")[0]["interests"][0]["keep"] == "last"


@pytest.mark.parametrize(
    "change",
    [
        ("deepctr-torch-augru", ("interests", 0, "evolution", "cell"), "augru-or"),
        ("deepctr-torch-augru", ("interests", 0, "attention", "inputs"), ["k", "q", "q-k", "q*k"]),
        ("deepctr-torch-gru", ("interests", 0, "evolution", "cell"), "aigru"),
        ("deepctr-torch-aigru", ("interests", 0, "attention", "normalise"), "softmax"),
        ("deepctr-torch-agru", ("interests", 0, "evolution", "cell"), "augru-and"),
        ("recbole-dien-augru", ("interests", 0, "attention", "scale"), 1.0),
        ("recbole-dien-augru", ("mlp", "layers", 0, "activation"), "relu"),
        ("torch-rechub-dien", ("mlp", "layers", 0, "epsilon"), 1.0),
        ("fuxictr-agru-two-sequences", ("interests", 1, "attention", "normalise"), "none"),
        ("reference-tf1-prelu", ("interests", 0, "evolution", "cell"), "augru-and"),
        ("reference-tf1-prelu", ("output", "positive"), 1),
    ],
    ids=lambda change: f"{change[0]}-{change[1][-1]}",
)
def test_a_wrong_convention_shows(change):
    """The golden scores tell each convention from its neighbour."""
    case, (*path, key), value = change
    config, tensors = converted(case)
    place = config
    for step in path:
        place = place[step]
    assert place[key] != value
    place[key] = value
    assert (
        convert.largest_difference(Scorer(config, tensors), documents.read(GOLDEN / case / "requests.json")) > 1e-4
    )
