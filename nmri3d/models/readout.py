"""From the residual stream to logits: final norm, unembedding, bias, softcap. The logit lens is this, applied early.

Convention. `lens(x) = cap(W_U norm(x) + b_U)`, nostalgebraist's logit lens (2020): the model's own final norm, with the
scale of x itself. On the last residual it is the model's output, which is checked when a model is loaded.

Left out: output scales other than Gemma-2's softcap; a model that has one fails the check and is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

from nmri3d.models.backend import DirectReadout
from nmri3d.models.norms import frozen_norm
from nmri3d.models.sites import ModuleMap, bias_of, weight_of, wide


class Readout:
    """Final norm and unembedding of a model. Weights are the live ones, looked at on every call."""

    def __init__(self, modules: ModuleMap, config: Any) -> None:
        self._modules = modules
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)

    def normed(self, residual: torch.Tensor) -> torch.Tensor:
        """Final norm of a residual [..., d_model], in the dtype of the weights."""
        # `forward`, since a call would set off the hooks of a pass that is under way
        return self._modules.final_norm.forward(residual.to(weight_of(self._modules.unembed).dtype))

    def lens(self, residual: torch.Tensor) -> torch.Tensor:
        """Logits float32 [..., d_vocab] of a residual [..., d_model]."""
        return self.capped(wide(linear(self.normed(residual), self._weight, self._bias)))

    def token_logits(self, residual: torch.Tensor, tokens: torch.Tensor, *, capped: bool = True) -> torch.Tensor:
        """Logits float32 [..., k] of k tokens only; before the softcap where not `capped`."""
        tokens = tokens.to(residual.device)
        bias = None if self._bias is None else self._bias[tokens]
        logits = wide(linear(self.normed(residual), self._weight[tokens], bias))
        return self.capped(logits) if capped else logits

    def capped(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's softcap of its logits, where it has one."""
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def direct(self, residual: torch.Tensor, tokens: torch.Tensor) -> DirectReadout:
        """The readout of k tokens as a linear map of one residual [d_model], the scale of the final norm frozen."""
        tokens = tokens.to(residual.device)
        weight = wide(self._weight[tokens])
        norm = frozen_norm(self._modules.final_norm, residual)
        directions = weight * norm.gain * norm.scale
        if norm.centers:
            directions = directions - directions.mean(dim=-1, keepdim=True)
        constant = weight @ norm.bias
        if self._bias is not None:
            constant = constant + wide(self._bias[tokens])
        return DirectReadout(directions, constant)

    @property
    def _weight(self) -> torch.Tensor:
        return weight_of(self._modules.unembed)

    @property
    def _bias(self) -> torch.Tensor | None:
        return bias_of(self._modules.unembed)
