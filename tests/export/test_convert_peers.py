"""The converters against the frameworks' forward passes, written again in tests/export/peers, on random checkpoints: other
sizes and options than the golden cases have."""

import functools
import importlib

import numpy as np
import pytest

from dien.model.config import field_of
from dien.model.model_directory import Scorer
from dien.sources import convert
from dien.sources.source import Source

SEEDS = range(30)
PEERS = ("deepctr_torch", "deepctr", "fuxictr", "torch_rechub", "recbole", "reference_tf1", "prediction_flow", "eat_pytorch",
         "longctr")


@functools.lru_cache(maxsize=None)
def compare(peer, seed):
    """The config of the converted case, and how far its scores are from the peer's."""
    module = importlib.import_module(f"peers.{peer}")
    architecture, tensors, options, requests = module.case(seed)
    framework = getattr(module, "FRAMEWORK", peer.replace("_", "-"))
    config, stored = convert.convert(framework, architecture, Source(tensors), options)
    return (
        config,
        convert.largest_difference(Scorer(config, stored), requests),
        np.concatenate([each["scores"] for each in requests]),
    )


@pytest.mark.parametrize("peer", PEERS)
def test_random_checkpoints(peer):
    largest, spread = 0.0, []
    for seed in SEEDS:
        _, difference, scores = compare(peer, seed)
        assert difference < 1e-6, (peer, seed)
        largest, spread = max(largest, difference), [*spread, scores.std()]
    print(f"{peer}: largest difference {largest:.3g} over {len(SEEDS)} checkpoints")
    assert np.median(spread) > 0.05  # the scores differ, or nothing was shown


def test_the_seeds_cover_the_options():
    seen = set()
    for peer in PEERS:
        for seed in SEEDS:
            config, _, _ = compare(peer, seed)
            seen |= {(peer, "interests", len(config["interests"])), (peer, "vocabulary", "vocabularies" in config)}
            seen |= {(peer, "activation", layer["activation"]) for layer in config["mlp"]["layers"]}
            seen |= {(peer, "input", source.split(".")[0]) for source in config["mlp"]["inputs"]}
            seen |= {(peer, "pool", each["pool"]) for each in config["fields"] if "pool" in each}
            seen |= {
                (peer, "dense", "units" in field_of(config, each["name"]))
                for each in config["fields"]
                if each["kind"] == "dense"
            }
            seen |= {
                (peer, "folded", place)
                for places in config["metadata"].get("batch_norm_folded", {}).values()
                for place in places
            }
            for interest in config["interests"]:
                attention = interest["attention"]
                seen |= {
                    (peer, "cell", interest["evolution"]["cell"]),
                    (peer, "attention", attention["kind"]),
                    (peer, "normalise", attention.get("normalise")),
                }
                seen |= {(peer, "attention activation", layer["activation"]) for layer in attention.get("layers", ())}
    wanted = {("deepctr_torch", "cell", cell) for cell in ("gru+pooling", "aigru", "agru", "augru-and")}
    wanted |= {("deepctr", "cell", cell) for cell in ("gru+pooling", "aigru", "agru", "augru-or")}
    wanted |= {("deepctr", "pool", pool) for pool in ("sum", "mean", "max")}
    wanted |= {("deepctr", "normalise", kind) for kind in ("softmax", "none")}
    wanted |= {("deepctr", "attention activation", kind) for kind in ("dice", "relu", "sigmoid", "tanh", "silu", "linear")}
    wanted |= {("deepctr", "activation", kind) for kind in ("relu", "dice", "prelu", "sigmoid", "tanh")}
    wanted |= {("deepctr", "dense", False), ("deepctr", "folded", "after")}
    wanted |= {("recbole", "cell", cell) for cell in ("gru+pooling", "aigru", "agru", "augru-and")}
    wanted |= {("reference_tf1", "cell", cell) for cell in ("gru+pooling", "aigru", "agru", "augru-or")}
    wanted |= {("prediction_flow", "cell", cell) for cell in ("gru+pooling", "aigru", "agru", "augru-keep")}
    wanted |= {("eat_pytorch", "cell", cell) for cell in ("gru+pooling", "aigru", "agru", "augru-and")}
    wanted |= {(peer, "pool", "max") for peer in ("prediction_flow", "eat_pytorch")} | {("eat_pytorch", "activation", "dice")}
    wanted |= {("prediction_flow", "interests", count) for count in (1, 2)} | {("prediction_flow", "folded", "after")}
    wanted |= {("longctr", "cell", cell) for cell in ("gru", "agru", "augru-and")}
    wanted |= {("longctr", "pool", pool) for pool in ("sum", "mean")}
    wanted |= {("longctr", "input", "product"), ("longctr", "dense", True)}
    wanted |= {("fuxictr", "cell", cell) for cell in ("gru", "agru", "augru-and")}
    wanted |= {("fuxictr", "attention", kind) for kind in ("none", "dot", "bilinear", "mlp")}
    wanted |= {
        (peer, "normalise", kind) for peer in ("deepctr_torch", "fuxictr", "recbole") for kind in ("softmax", "none")
    }
    wanted |= {
        ("deepctr_torch", "attention activation", kind) for kind in ("relu", "sigmoid", "dice", "prelu", "linear")
    }
    wanted |= {("deepctr_torch", "activation", kind) for kind in ("relu", "sigmoid", "prelu")}
    wanted |= {
        ("fuxictr", "activation", kind) for kind in ("relu", "dice", "prelu", "silu", "sigmoid", "tanh", "linear")
    }
    wanted |= {("fuxictr", "interests", count) for count in (1, 2, 3)} | {
        ("torch_rechub", "interests", count) for count in (1, 2, 3)
    }
    wanted |= {("fuxictr", "input", kind) for kind in ("history_sum", "product")} | {("fuxictr", "vocabulary", True)}
    wanted |= {("fuxictr", "folded", "before"), ("fuxictr", "folded", "after"), ("deepctr_torch", "folded", "after")}
    wanted |= {
        ("reference_tf1", "activation", "dice"),
        ("reference_tf1", "activation", "prelu"),
        ("reference_tf1", "vocabulary", True),
    }
    wanted |= {("fuxictr", "pool", pool) for pool in ("sum", "mean")}
    wanted |= {
        ("fuxictr", "dense", True),
        ("recbole", "dense", True),
        ("deepctr_torch", "dense", False),
        ("torch_rechub", "dense", False),
    }
    assert wanted <= seen, wanted - seen
