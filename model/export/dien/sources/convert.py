"""Convert another framework's DIEN checkpoint to a model directory, or say why that cannot be done faithfully.

    dien convert --from fuxictr --architecture architecture.json --weights state_dict.pt --samples requests.json --output DIR

Requests that bring the framework's own scores are the proof. If one of them differs from the converted network by more
than 1e-5 in float64, nothing is written. Without --samples the scores come from the converted network itself, so they
prove only the server. CONVERTING.md has an example for each framework.
"""
from __future__ import annotations

import argparse
import importlib
import pickle
import re
from typing import Any, Mapping, Optional

import numpy as np

from dien.model import documents
from dien.model import inspection
from dien.model import model_directory
from dien.model import quantise
from dien.model.config import Config
from dien.model.model_directory import Scorer
from dien.model.samples import RequestMaker
from dien.model.wire import RequestError, tables_of
from dien.sources import calibrate
from dien.sources import weights
from dien.sources.source import ConversionError, Source

FRAMEWORKS = {"reference-tf1": "dien.sources.reference_tf1", "deepctr-torch": "dien.sources.deepctr_torch",
              "deepctr": "dien.sources.deepctr",
              "fuxictr": "dien.sources.fuxictr", "torch-rechub": "dien.sources.torch_rechub", "recbole": "dien.sources.recbole"}
RANDOM_SAMPLES = 16
NO_OPTIONS: dict[str, Any] = {"keep": None, "attention_softmax": None, "calibrate": None, "calibrate_file": "--calibrate",
                              "vocabularies": {}}
# Names of tensors by which checkpoints are recognised, first those that --from does not list.
PADDLEREC = re.compile(r"(hist|target|target_item|neg)\w*_emb_attr[.]weight|item_b_attr[.]weight")
SIGNS = {
    "deepctr": r"(.*/)?sparse_(seq_)?emb_\w+(/.*)?",
    "deepctr-torch": r"embedding_dict[.].*|interest_evolution[.]attention[.]local_att[.].*",
    "fuxictr": r"embedding_layer[.](embedding_layer[.])?(embedding_layers|feature_encoders)[.].*|"
               r"(extraction|evolving)_modules[.].*",
    "torch-rechub": r"embedding[.]embed_dict[.].*|interest_(extractor|evolving)_layers[.].*",
    "recbole": r"interset_extractor[.].*|embedding_layer[.](token|float)\w*_embedding_table[.].*",
    "reference-tf1": r"(.*/)?((uid|mid|cat)_embedding_var|f1_att1_1/kernel)",
}
NAMES = {"deepctr": "DeepCTR", "deepctr-torch": "DeepCTR-Torch", "fuxictr": "FuxiCTR", "torch-rechub": "torch-rechub",
         "recbole": "RecBole", "reference-tf1": "the authors' TensorFlow 1 code"}


class _PlainUnpickler(pickle.Unpickler):
    """Loads dicts of strings and numbers, and nothing that runs code."""

    def find_class(self, module: str, name: str) -> Any:
        raise ConversionError(f"a vocabulary is a dict of string to index: this file holds a {module}.{name}")


def read_vocabulary(path: str) -> dict[str, int]:
    """A vocabulary, {string: index}: a pickle, of Python 2 too, or JSON."""
    with open(path, "rb") as file:
        if path.endswith(".json"):
            loaded = documents.parse(file.read(), path)
        else:
            try:
                loaded = _PlainUnpickler(file, encoding="bytes").load()
            except (pickle.UnpicklingError, EOFError, ValueError) as error:
                raise ConversionError(f"{path}: {error}") from error
    if not isinstance(loaded, dict):
        raise ConversionError(f"{path}: a vocabulary is a dict of string to index")
    return {key.decode() if isinstance(key, bytes) else str(key): int(row) for key, row in loaded.items()}


def recognise(framework: str, source: Source) -> None:
    """Stop at checkpoints that cannot be scored as their framework does, whatever the architecture file says."""
    if any(PADDLEREC.fullmatch(name) for name in source.left):
        raise ConversionError(f"these are PaddleRec's tensors. {weights.PADDLEREC}")
    if not source.left:
        raise ConversionError("the file holds no tensors")
    found = [name for name, sign in SIGNS.items() if any(re.fullmatch(sign, tensor) for tensor in source.left)]
    if framework not in found and found:
        raise ConversionError(f"these are {NAMES[found[0]]}'s tensors: convert them with --from {found[0]}")
    if framework not in found:
        shown = ", ".join(sorted(source.left)[:3])
        raise ConversionError(f"these are not {NAMES[framework]}'s tensors, nor another framework's that is known here ({shown}"
                              f"{', ...' if len(source.left) > 3 else ''})")


def convert(framework: str, architecture: Mapping[str, Any], source: Source,
            options: Optional[Mapping[str, Any]] = None) -> tuple[Config, dict[str, np.ndarray]]:
    """Config and the tensors to store. Every tensor of the checkpoint is used, or dropped for a reason."""
    recognise(framework, source)
    options = {**NO_OPTIONS, **(options or {})}
    config, tensors = importlib.import_module(FRAMEWORKS[framework]).convert(architecture, source, options)
    source.finish()
    layers, statistics = source.calibrate
    if options["calibrate"] is not None:
        model_directory.check_requests(Scorer(config, tensors), options["calibrate"], options["calibrate_file"])
        if not layers:
            source.note("nothing in this model takes statistics from data: --calibrate changes nothing")
    if layers and statistics is not None:
        rows = calibrate.freeze(config, tensors, layers, statistics, options["calibrate"])
        source.note(f"Dice: statistics of {rows} pairs of user and candidate")
    stored = {name: np.ascontiguousarray(tensor, np.float32 if tensor.dtype.kind == "f" else None)
              for name, tensor in tensors.items()}
    for name, tensor in stored.items():
        if not np.isfinite(tensor).all():
            raise ConversionError(f"tensor {name} is not finite")
    return config, stored


def largest_difference(scorer: Scorer, samples: list[dict[str, Any]]) -> float:
    """How far the network is from the scores that the samples bring."""
    return max(model_directory.difference(scorer.score(sample), sample["scores"]) for sample in samples)


def _check_scores(request: Mapping[str, Any], count: int) -> None:
    """The scores that a request brings; an absent member is none, null is a mistake."""
    if "scores" not in request:
        return
    scores = request["scores"]
    if not isinstance(scores, list) or not all(isinstance(score, (int, float)) and not isinstance(score, bool)
                                               for score in scores):
        raise RequestError("The scores must be an array of numbers.", "scores")
    if len(scores) != count:
        raise RequestError("There must be one score for each candidate.", "scores")


def requests_of(path: str) -> list[dict[str, Any]]:
    """A JSON list of requests, or samples.json's form."""
    read = documents.read(path)
    requests = read["samples"] if isinstance(read, dict) and "samples" in read else read
    if not isinstance(requests, list) or not requests:
        raise ConversionError(f"{path}: not a list of one request or more")
    for place, request in enumerate(requests):
        try:
            _check_scores(request, tables_of(request)["candidates"].count)
        except RequestError as error:
            raise ConversionError(f"{path}: request {place}: {error}") from error
    return requests


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that the command line gives beside the architecture file."""
    vocabularies = {}
    for each in arguments.vocabulary:
        name, _, path = each.partition("=")
        if not path:
            raise ConversionError(f"--vocabulary {each}: FIELD=FILE was expected")
        vocabularies[name] = read_vocabulary(path)
    return {"keep": arguments.keep, "attention_softmax": arguments.attention_softmax, "vocabularies": vocabularies,
            "calibrate": requests_of(arguments.calibrate) if arguments.calibrate else None,
            "calibrate_file": arguments.calibrate}


def _architecture(arguments: argparse.Namespace) -> dict[str, Any]:
    """The architecture file, with the names and the framework's files that the command line adds."""
    architecture = documents.read(arguments.architecture)
    if not isinstance(architecture, dict):
        raise ConversionError(f"{arguments.architecture}: not a JSON object")
    for key in ("feature_map", "feature_vocab"):
        if getattr(arguments, key):
            architecture[key] = documents.read(getattr(arguments, key))
    for key in ("name", "version"):
        if getattr(arguments, key):
            architecture[key] = getattr(arguments, key)
    return architecture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--from", dest="framework", choices=sorted(FRAMEWORKS))
    parser.add_argument("--architecture", help="what a state dict does not hold, as JSON")
    parser.add_argument("--weights", help="the checkpoint: .pt, .pth, .safetensors, .npz, .h5, .pb, or a TensorFlow "
                        "checkpoint's prefix")
    parser.add_argument("--output", help="directory to write")
    parser.add_argument("--samples", help="requests, with the framework's scores, as a JSON list: the proof")
    parser.add_argument("--name", help="the model's name (default: the framework's)")
    parser.add_argument("--version", help="the model's version (default: 1)")
    parser.add_argument("--keep", choices=("first", "last"), help="which end of a history beyond max_length is used "
                        "(default: the framework's: fuxictr first, the others last)")
    parser.add_argument("--feature-map", help="fuxictr: its feature_map.json")
    parser.add_argument("--feature-vocab", help="fuxictr: its feature_vocab.json; ids are then its tokens")
    parser.add_argument("--vocabulary", action="append", default=[], metavar="FIELD=FILE",
                        help="reference-tf1: a vocabulary, {string: index}, as .pkl or .json; may be repeated")
    parser.add_argument("--attention-softmax", choices=("on", "off"), help="recbole: on for 1.2.0 and later, off before")
    parser.add_argument("--calibrate", help="requests, as a JSON list, to freeze a Dice's statistics on that has none")
    parser.add_argument("--tables", choices=quantise.TABLE_TYPES, default="f32",
                        help="the type that embedding tables are stored in; "
                        "the samples then have the scores of the rounded tables (default: f32)")
    parser.add_argument("--inspect", action="store_true", help="print what was understood, as tables; writes only with --output")
    parser.add_argument("--model", help="with --inspect alone: a model directory, as `dien inspect` takes it")


def narrow(scorer: Scorer, tensors: Mapping[str, np.ndarray], samples: list[dict[str, Any]],
           kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tensors with tables of this type, and the samples with the scores that these tensors give.

    Rounding changes the model. The framework's scores must therefore agree with the unrounded model first, so that the
    whole change is due to rounding.
    """
    model_directory.scored(scorer, samples)
    stored = quantise.tables(tensors, kind)
    rounded = Scorer(scorer.config, stored)
    samples = [{**sample, "scores": scorer.score(sample).tolist()} for sample in samples]
    change = largest_difference(rounded, samples)
    print(f"note: tables as {kind} change the scores by up to {change:.3g}; the samples have the scores after that")
    return stored, [{**sample, "scores": rounded.score(sample).tolist()} for sample in samples]


def write(arguments: argparse.Namespace) -> None:
    """Convert, prove, write and report as the command line asks."""
    notes: list[str] = []
    source = Source(weights.read(arguments.weights, notes.append))
    source.notes.extend(notes)
    samples = requests_of(arguments.samples) if arguments.samples else None
    source.proven = samples is not None and all("scores" in sample for sample in samples)
    config, tensors = convert(arguments.framework, _architecture(arguments), source, _options(arguments))
    for name, reason in source.dropped.items():
        print(f"dropped {name}: {reason}")
    for note in source.notes:
        print(f"note: {note}")
    scorer = Scorer(config, tensors)
    if samples is not None:
        model_directory.check_requests(scorer, samples, arguments.samples)
    else:
        samples = RequestMaker(config, scorer.wire.vocabularies, np.random.default_rng(0)).requests(RANDOM_SAMPLES)
    brought = [sample for sample in samples if "scores" in sample]
    stored: Mapping[str, Any] = tensors
    if arguments.tables != "f32":
        stored, samples = narrow(scorer, tensors, samples, arguments.tables)
    if arguments.inspect:
        print(inspection.describe(config, stored))
    if arguments.output:
        model_directory.save(arguments.output, config, stored, samples)
    if not brought:
        print("note: no scores of the framework's own to compare with: give some with --samples")
    else:
        count = sum(len(sample["scores"]) for sample in brought)
        print(f"largest difference from the framework: {largest_difference(scorer, brought):.3g} over {count} scores")


def show(directory: str) -> None:
    """Print a model directory's tables."""
    try:
        print(inspection.describe_directory(directory))
    except KeyError as error:
        raise ValueError(f"{directory}: config.json: {error}") from error


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Convert or inspect, after a look at the options that go together."""
    if arguments.model and arguments.inspect:
        show(arguments.model)
        return
    missing = [f"--{name}" for name, value in (("from", arguments.framework), ("architecture", arguments.architecture),
                                               ("weights", arguments.weights)) if not value]
    if not arguments.output and not arguments.inspect:
        missing.append("--output")
    if missing or arguments.model:
        parser.error(f"missing: {', '.join(missing)}" if missing else "--model goes with --inspect")
    write(arguments)
