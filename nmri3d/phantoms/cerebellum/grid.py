"""The grid engine: a position on five axes as phases of periodic modules, and place cells that read them.

A grid cell of axis a, module k and preferred phase q fires as exp(cos(2 pi (s_a - home) / period_k - q) - 1), a von Mises bump.
A place cell sums, over all modules, how alike the phases are to those of its own center, and place cells compete by softmax:

    place_j = softmax_j( sharpness_j * similarity(grid, grid at center_j) )

so that its field is a product of periodic bumps over axes and modules, which is unique within the largest period (Fiete, Burak
and Brookings 2008). Positions are those of the planned path (path integration from home), not of what the sensor says.

Left out: hexagonal fields; an axis is a line, and its grid cells are the one-dimensional kind.
"""

from __future__ import annotations

from math import pi

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

from nmri3d.phantoms.cerebellum.config import AXES, Config


class Grid5DEngine(nn.Module):
    """phase [5 * modules * phases]: preferred phase of every grid cell, in order of axis, module, phase."""

    period: torch.Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        shape = (len(AXES), len(config.periods), config.phases)
        even = torch.arange(config.phases) * (2 * pi / config.phases)
        offset = torch.rand(*shape[:2], 1) * (2 * pi / config.phases)
        self.shape = shape
        self.phase = nn.Parameter((even + offset).flatten())
        self.register_buffer("period", torch.tensor(config.periods), persistent=False)
        self.hook_rate = HookPoint()

    def phase_vector(self, position: torch.Tensor) -> torch.Tensor:
        """Phase of every module in radians, [..., 5, modules], of positions [..., 5]."""
        return 2 * pi * position[..., None] / self.period

    def forward(self, position: torch.Tensor) -> torch.Tensor:
        """Rates of the grid cells, in (0, 1], [..., cells]."""
        phase = self.phase_vector(position)[..., None]
        return torch.exp(torch.cos(phase - self.phase.view(self.shape)) - 1).flatten(-3)

    def centered(self, rates: torch.Tensor) -> torch.Tensor:
        """Rates less the mean of their module: what inhibition within a module leaves."""
        by_module = rates.unflatten(-1, self.shape)
        return (by_module - by_module.mean(-1, keepdim=True)).flatten(-3)


class PlaceCells(nn.Module):
    """share [places, 5]: centers as shares of the workspace's half width; sharpness [places]."""

    reach: torch.Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.rand(config.places, len(AXES)) * 2 - 1)
        self.sharpness = nn.Parameter(torch.full((config.places,), 16.0))
        self.register_buffer("reach", torch.tensor(config.reach), persistent=False)
        self.hook_rate = HookPoint()

    @property
    def centers(self) -> torch.Tensor:
        """Where the place cells' fields are, [places, 5] in mm and degrees."""
        return self.share * self.reach

    def synapses(self, grid: Grid5DEngine) -> torch.Tensor:
        """Weights from grid to place cells, [places, grid cells]: the grid's code of each center, of unit length a cell."""
        code = grid.centered(grid(self.centers))
        return code / code.square().sum(-1, keepdim=True)

    def forward(self, grid: Grid5DEngine, rates: torch.Tensor, synapses: torch.Tensor) -> torch.Tensor:
        """Rates of the place cells, [batch, places], summing to 1, from those of the grid cells."""
        return torch.softmax(self.sharpness * (grid.centered(rates) @ synapses.T), -1)
