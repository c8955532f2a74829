"""A normalization layer as what it is: a gain, a scale at each input, and whether it centers.

Convention. RMS norm and layer norm are both `norm(x) = scale(x) * gain * center(x) + bias`, with center(x) = x - mean(x) for a
layer norm and x itself for an RMS norm, whatever parametrisation the family uses (w, or 1 + w). Gain and scale are read off
what the module does, not off its parameters.

Left out: norms that mix positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nmri3d.models.sites import bias_of, weight_of, wide

PROBE = 64.0
"""Large beside epsilon (its square makes 1e-5 a relative 2e-9), small enough to be squared in float16."""


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A norm at given inputs [..., d]: gain [d], scale [..., 1], centered inputs [..., d], bias [d] (zeros where none)."""

    gain: torch.Tensor
    scale: torch.Tensor
    centered: torch.Tensor
    bias: torch.Tensor
    centers: bool

    def pull_back(self, gradients: torch.Tensor) -> torch.Tensor:
        """Gradients [..., d] at the norm's output, pulled back to its input (the exact transposed Jacobian)."""
        unit = self.scale * self.centered
        gained = gradients * self.gain
        pulled = self.scale * (gained - unit * (gained * unit).mean(dim=-1, keepdim=True))
        return pulled - pulled.mean(dim=-1, keepdim=True) if self.centers else pulled


def frozen_norm(norm: nn.Module, x: torch.Tensor) -> FrozenNorm:
    """The norm at x [..., d]; no hook fires."""
    x, weight, centers = wide(x), weight_of(norm), isinstance(norm, nn.LayerNorm)
    shift = bias_of(norm)
    bias = torch.zeros_like(wide(weight)) if shift is None else wide(shift)
    # a vector of mean 0 shows the gain; it is large, so that epsilon takes nothing of it (else the Jacobian is off by that)
    probe = torch.full((1, x.shape[-1]), PROBE, dtype=weight.dtype, device=weight.device)
    probe[:, 1::2] = -PROBE
    with torch.no_grad():
        gain = ((wide(norm.forward(probe)) - bias) * wide(probe.sign()))[0]
        centered = x - x.mean(dim=-1, keepdim=True) if centers else x
        normed = wide(norm.forward(x.to(weight.dtype))) - bias
        gained = centered * gain
        scale = torch.linalg.vector_norm(normed, dim=-1, keepdim=True)
        scale = scale / torch.linalg.vector_norm(gained, dim=-1, keepdim=True)
    return FrozenNorm(gain, scale, centered, bias, centers)
