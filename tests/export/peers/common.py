"""What the peers share: random choices, random weights, and a request as the padded batch that a framework sees."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.set_default_dtype(torch.float32)


class Draw:
    """Choices of one seed."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def pick(self, *options):
        return options[int(self.random.integers(len(options)))]

    def chance(self, probability=0.5):
        return bool(self.random.random() < probability)

    def sizes(self, *options, least=1, most=3):
        return [self.pick(*options) for _ in range(int(self.random.integers(least, most + 1)))]


def randomise(module, random):
    """Weights that matter: float32 values in float64 parameters, so that a state dict loses nothing."""
    module.double().eval()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("num_batches_tracked"):
            continue
        last = name.rsplit(".", 1)[-1]
        if last == "running_var":
            values = random.uniform(0.2, 2, tensor.shape)
        elif "embed" in name and tensor.dim() == 2:
            values = random.normal(0, 0.7, tensor.shape)
        elif tensor.dim() >= 2:
            values = random.normal(0, 1.3 / np.sqrt(tensor.shape[-1]), tensor.shape)
        elif last == "weight" and tensor.dim() == 1:
            values = random.uniform(0.4, 1.6, tensor.shape)  # BatchNorm's gamma and PReLU's slopes
        else:
            values = random.normal(0, 0.4, tensor.shape)
        tensor.data.copy_(torch.from_numpy(values.astype(np.float32)))


def state_dict(module):
    """The module's state dict as a float32 checkpoint holds it."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy().copy()
        for name, tensor in module.state_dict().items()
    }


def lengths(random, max_length, count=9):
    """Histories of 1, of max_length and between; 0 and beyond are the caller's."""
    return [1, 2, max_length, *random.integers(1, max_length + 1, count - 3).tolist()]


def padded(ids, max_length, keep="last", value=0):
    """Ids cut to the kept end and padded behind."""
    ids = ids[-max_length:] if keep == "last" else ids[:max_length]
    return torch.tensor([*ids, *[value] * (max_length - len(ids))]), len(ids)


def run_gru(gru, x, count):
    """A packed nn.GRU over [B, T, E]: outputs with zeros for padding, and the last states."""
    packed = pack_padded_sequence(x, count, batch_first=True, enforce_sorted=False)
    out, last = gru(packed)
    return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0], last[0]


def gru(width, hidden=None):
    return nn.GRU(width, hidden or width, batch_first=True)


def ids(random, rows, count, first=1):
    """Random ids, none of them padding."""
    return random.integers(first, rows, count).tolist()


def with_scores(peer, requests):
    """The requests with the peer's scores."""
    with torch.no_grad():
        return [{**request, "scores": peer.score(request).tolist()} for request in requests]
