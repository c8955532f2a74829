"""Messages between modules: a graph network of several hops, and the states that modules keep between steps.

Convention. Nodes are the modules; who listens to whom is a learned matrix (softmax over the senders), the same at every step.
A hop adds to each node what it makes of its neighbors' mean. After the last hop a module's state moves toward its node by
its gate: modules that the router lets through change, the others keep what they knew (highway).

Left out: graphs that change with the input.
"""

from __future__ import annotations

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint


class MessagePassing(nn.Module):
    """Hops over the graph of modules; `hooks.{hop}` pass the nodes after each, [batch, modules * width]."""

    def __init__(self, modules: int, width: int, hops: int) -> None:
        super().__init__()
        self.listens = nn.Parameter(2.0 * torch.eye(modules).repeat(hops, 1, 1))
        self.hear = nn.ModuleList(nn.Linear(width, width) for _ in range(hops))
        self.hooks = nn.ModuleList(HookPoint() for _ in range(hops))

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        """Nodes [batch, modules, width] after all hops."""
        for listens, hear, hook in zip(self.listens, self.hear, self.hooks, strict=True):
            heard = torch.einsum("ij,bjd->bid", listens.softmax(dim=1), nodes)
            nodes = hook((nodes + torch.relu(hear(heard))).flatten(1)).view_as(nodes)
        return nodes

    def settle(self, states: torch.Tensor, nodes: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """The modules' states after a step, [batch, modules, width]."""
        return states + gates[:, :, None] * (torch.tanh(nodes) - states)
