"""The model directory (FORMAT.md): written whole, read back as the network in float64 that scores requests."""
from __future__ import annotations

import json
import os
from typing import Any, Iterable, Mapping

import numpy as np
import torch

from dien.model import documents, safetensors
from dien.model.config import Config, attribute_shapes, weight_shapes
from dien.model.network import DIEN, score
from dien.model.vocabulary import Vocabulary
from dien.model.wire import Request, RequestError, Wire


# The largest allowed difference between a framework's score and ours in float64. The server has this bound (FORMAT.md).
# The golden cases agree within 6e-8, the rounding to float32 after folding. Other people's scores may be in float32.
SAMPLES_TOLERANCE = 1e-5


def difference(scores: Any, truth: Any) -> float:
    """The largest difference between scores; infinite where one is missing or not a number."""
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    if scores.shape != truth.shape or not np.isfinite(scores).all() or not np.isfinite(truth).all():
        return float("inf")
    return float(np.abs(scores - truth).max(initial=0))


def dequantise(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors with I8 tables as the numbers they stand for, in float64."""
    plain = dict(tensors)
    for name, tensor in tensors.items():
        if name.startswith("tables.") and tensor.dtype == np.int8:
            scale = plain.pop(f"{name}.scale", None)
            if scale is None:
                raise ValueError(f"tensor {name}.scale is missing")
            plain[name] = tensor * scale[:, None].astype(np.float64)
    return plain


def vocabulary_names(config: Config) -> list[str]:
    """The tensors that the vocabularies need."""
    return [f"vocabularies.{name}.{part}" for name, entry in config.get("vocabularies", {}).items()
            for part in (("slots", "offsets", "bytes") if entry["type"] == "string" else ("slots", "keys"))]


class Scorer:
    """A model as the training code sees it: scores requests in float64."""

    def __init__(self, config: Config, tensors: Mapping[str, safetensors.Tensor], dtype: torch.dtype = torch.float64,
                 network: type[DIEN] = DIEN):
        self.config = config
        plain = {name: tensor.widened() if isinstance(tensor, safetensors.BF16) else tensor
                 for name, tensor in tensors.items()}
        plain = dequantise(plain)
        self._check_names(plain)
        self.network = network(config, dtype)
        self.network.load_weights({name: torch.from_numpy(np.array(plain[name])) for name in weight_shapes(config)})
        vocabularies = {}
        for name, entry in config.get("vocabularies", {}).items():
            prefix = f"vocabularies.{name}."
            parts = {key[len(prefix):]: value for key, value in plain.items() if key.startswith(prefix)}
            vocabularies[name] = Vocabulary(parts, entry["probe"])
        self.wire = Wire(config, vocabularies,
                         {name.split(".", 1)[1]: plain[name] for name in attribute_shapes(config)})

    def _check_names(self, tensors: Mapping[str, np.ndarray]) -> None:
        expected = [*weight_shapes(self.config), *attribute_shapes(self.config), *vocabulary_names(self.config)]
        for name in expected:
            if name not in tensors:
                raise ValueError(f"tensor {name} is missing")
        for name in set(tensors).difference(expected):
            raise ValueError(f"tensor {name} is none of this model's")

    def score(self, request: Request) -> np.ndarray:
        """The score of each candidate, in the request's order."""
        return self.explain(request)[0]

    def explain(self, request: Request) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The scores [C], and for each interest the attention scores [C, T] of the kept behaviours, oldest first."""
        scores, attention = score(self.network, self.wire.batch(request))
        return scores[0].numpy(), {name: values[0].numpy() for name, values in attention.items()}


def read_config(directory: str | os.PathLike[str]) -> Config:
    """The directory's config.json."""
    return documents.read(os.path.join(directory, "config.json"))


def read_samples(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The directory's samples."""
    path = os.path.join(directory, "samples.json")
    read = documents.read(path)
    if not isinstance(read, dict) or not isinstance(read.get("samples"), list):
        raise ValueError(f"{path}: not an object with a list of samples")
    return read["samples"]


def load(directory: str | os.PathLike[str], dtype: torch.dtype = torch.float64) -> Scorer:
    """The model of a directory."""
    return Scorer(read_config(directory), safetensors.read_stored(os.path.join(directory, "model.safetensors")), dtype)


def check_requests(scorer: Scorer, requests: Iterable[Request], name: str) -> None:
    """Refuse a request that the server would refuse, with its words; `name` is the file's."""
    for place, request in enumerate(requests):
        try:
            scorer.wire.batch(request)
        except RequestError as error:
            raise ValueError(f"{name}: request {place}: {error}") from error


def scored(scorer: Scorer, requests: Iterable[Request]) -> list[dict[str, Any]]:
    """The requests as samples. Scores that a request brings from its own framework stay, if the network agrees."""
    samples = []
    for place, request in enumerate(requests):
        scores = scorer.score(request)
        given = np.asarray(request.get("scores", scores), np.float64)
        if given.shape != scores.shape:
            raise ValueError(f"sample {place}: {len(given)} scores for {len(scores)} candidates")
        if not np.isfinite(scores).all():
            raise ValueError(f"sample {place}: the network's score is not a number")
        if difference(given, scores) > SAMPLES_TOLERANCE:
            raise ValueError(f"sample {place}: the network's score differs by {difference(given, scores):.3g}")
        samples.append({**request, "scores": given.tolist()})
    return samples


def save(directory: str | os.PathLike[str], config: Config, tensors: Mapping[str, safetensors.Tensor],
         requests: Iterable[Request]) -> Scorer:
    """Write the three files. The samples' scores are those that the requests bring, or the network's in float64."""
    scorer = Scorer(config, tensors)
    samples = scored(scorer, requests)
    if not samples:
        raise ValueError("a model needs one sample or more")
    os.makedirs(directory, exist_ok=True)
    safetensors.write(os.path.join(directory, "model.safetensors"), tensors)
    with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    with open(os.path.join(directory, "samples.json"), "w", encoding="utf-8") as file:
        lines = ",\n".join(json.dumps(sample, ensure_ascii=False) for sample in samples)
        file.write(f'{{"samples": [\n{lines}\n]}}\n')
    return scorer


def weight_tensors(network: DIEN) -> dict[str, np.ndarray]:
    """The network's weights as float32 arrays, by tensor name."""
    return {name: parameter.detach().to(torch.float32).numpy().copy() for name, parameter in network.weights().items()}
