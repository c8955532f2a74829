"""An induction network computed a second time, from its parameters alone and in float64, and passes with plain hooks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
from torch.nn.functional import layer_norm

from nmri3d.components import component_id, parse_component_id
from nmri3d.phantoms.induction.backend import InductionBackend, open_backend
from nmri3d.phantoms.induction.model import Induction

CLEAN = "cat sun key owl pear moon cat sun key owl"
CORRUPT = "cat sun key pig pear moon cat ant key pig"
TARGET, FOIL = "pear", "ship"


@cache
def noisy_backend() -> InductionBackend:
    """An untrained network whose norms have gains and shifts of their own; tests share it and must not change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Induction()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.15 * torch.randn_like(parameter))
    return open_backend(network)


class Double:
    """A network by hand: every component's write, with additions where asked."""

    def __init__(self, network: Induction) -> None:
        self.p = {name: value.detach().double() for name, value in network.named_parameters()}
        self.n_layers, self.n_heads, self.d_head = (
            network.config.n_layers,
            network.config.n_heads,
            network.config.d_head,
        )

    def run(self, ids: torch.Tensor, added: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """`writes` by component id [steps, d_model], "final" the last residual and "logits"; additions join the writes."""
        added, p, found = added or {}, self.p, {}
        mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()

        def keep(name: str, write: torch.Tensor) -> torch.Tensor:
            found[name] = write + added.get(name, torch.zeros(()))
            return found[name]

        x = keep("embed", p["embed.weight"][ids] + p["pos_embed.weight"][: len(ids)])
        for layer in range(self.n_layers):
            own = f"blocks.{layer}."
            normed = self._norm(x, own + "ln1")
            total = x
            for head in range(self.n_heads):
                rows = slice(head * self.d_head, (head + 1) * self.d_head)
                q, k, v = (normed @ p[f"{own}attn.{slot}_proj.weight"][rows].T for slot in "qkv")
                scores = (q @ k.T / math.sqrt(self.d_head)).masked_fill(~mask, -math.inf)
                write = scores.softmax(-1) @ v @ p[own + "attn.o_proj.weight"][:, rows].T
                total = total + keep(component_id("head", layer, head), write)
            x = total
        found["final"] = x
        found["logits"] = self._norm(x, "ln_final") @ p["unembed.weight"].T
        return found

    def metric(
        self, ids: torch.Tensor, target: int, foil: int, added: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Logit of target minus logit of foil at the last step."""
        logits = self.run(ids, added)["logits"][-1]
        return logits[target] - logits[foil]

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x, x.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"])


def site_of(component: str) -> tuple[str, int | None]:
    """Hook point of a component's write in the module, and its head."""
    kind, layer, index = parse_component_id(component)
    return ("hook_embed", None) if kind == "embed" else (f"blocks.{layer}.attn.hook_z", index)
