"""The auxiliary loss (section 4.3 of the paper, eq. 6): h_t should tell behaviour t + 1 from a negative."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

MLP_UNITS = (100, 50)


class InnerProduct(nn.Module):
    """The paper's form: the sigmoid of the inner product of h_t and the embedded behaviour, so H = E."""

    def forward(self, states: Tensor, behaviours: Tensor) -> Tensor:
        return (states * behaviours).sum(-1)


class Net(nn.Module):
    """The form of the authors' code: a small net on both."""

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        first, second = MLP_UNITS
        self.layers = nn.Sequential(nn.Linear(width, first), nn.Sigmoid(), nn.Linear(first, second), nn.Sigmoid(),
                                    nn.Linear(second, 1))
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0, (2 / sum(parameter.shape)) ** 0.5, generator=generator)
                else:
                    parameter.zero_()

    def forward(self, states: Tensor, behaviours: Tensor) -> Tensor:
        return self.layers(torch.cat([states, behaviours], -1)).squeeze(-1)


def auxiliary_loss(net: nn.Module, states: Tensor, following: Tensor, negative: Tensor) -> Tensor:
    """Mean negative log-likelihood over [B, T - 1] states, each with the behaviour that followed and a negative."""
    return (softplus(-net(states, following)) + softplus(net(states, negative))).mean()
