"""Slow, obviously right twins of the fast operators, differentiated by autograd.

Tests compare both outputs and gradients with them. A twin has the name and arguments of its operator.
"""

from lingen_kit.ops.naive.attention import attention, window_attention
from lingen_kit.ops.naive.conv import causal_conv1d
from lingen_kit.ops.naive.gated_delta import chunk_gated_delta_rule
from lingen_kit.ops.naive.linear_attention import linear_attention
from lingen_kit.ops.naive.norm import rmsnorm_fn
from lingen_kit.ops.naive.quasiseparable import quasiseparable_scan
from lingen_kit.ops.naive.selective_scan import selective_scan_fn
from lingen_kit.ops.naive.ssd import mamba_chunk_scan_combined

__all__ = [
    "attention",
    "causal_conv1d",
    "chunk_gated_delta_rule",
    "linear_attention",
    "mamba_chunk_scan_combined",
    "quasiseparable_scan",
    "rmsnorm_fn",
    "selective_scan_fn",
    "window_attention",
]
