"""Parameters that several recurrent mixers start from, in the names and shapes of the published modules."""

import math

import torch
from torch import Tensor, nn


def depthwise(channels: int, taps: int, bias: bool = True) -> nn.Conv1d:
    """Hold the parameters of a short convolution; `ops.conv` computes it."""
    return nn.Conv1d(channels, channels, taps, groups=channels, padding=taps - 1, bias=bias)


def step_bias(channels: int) -> Tensor:
    """Biases `(channels,)` whose softplus, the first step sizes, is log-uniform in [0.001, 0.1] (Mamba, Sec. 3.6)."""
    dt = torch.exp(torch.empty(channels).uniform_(math.log(1e-3), math.log(1e-1))).clamp_(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))  # softplus of it is dt
