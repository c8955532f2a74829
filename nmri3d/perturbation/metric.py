"""The metric that attributions and interventions are measured by: logit of the target minus logit of the foil.

Convention. Both at one position; by default the likeliest next token of the clean prompt and its runner-up, at the last
position. Logits are the model's own, after any final softcap; `linear` leaves the softcap out, as direct logit
attribution needs.

A network of signals has its outputs' values in place of logits: the metric is the value of the target, by default the
output of largest |value| at that position, and less that of the foil only where one is named.

Left out: metrics over many tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Stimulus
from nmri3d.models.checks import require_indices
from nmri3d.models.recording import Recording
from nmri3d.models.residual_backend import ResidualBackend
from nmri3d.models.unit_backend import UnitBackend


@dataclass(frozen=True)
class Metric:
    """Which outputs at which position: `target` minus `foil` (ids; None: the target alone) at `position` (from 0)."""

    model: Any
    target: int
    foil: int | None
    position: int

    @property
    def texts(self) -> tuple[str, str | None]:
        """Texts of target and foil."""
        return self.model.token_text(self.target), None if self.foil is None else self.model.token_text(self.foil)

    @property
    def named(self) -> tuple[tuple[str, int], tuple[str, int] | None]:
        """Text and id of target and foil."""
        target, foil = self.texts
        return (target, self.target), None if foil is None or self.foil is None else (foil, self.foil)

    @property
    def units(self) -> str:
        """Its unit in words: which output against which."""
        target, foil = self.texts
        if self.model.outputs == "logits":
            return f"logit of {target!r} minus logit of {foil!r}"
        return target if foil is None else f"{target} minus {foil}"


@dataclass(frozen=True)
class LogitDifference(Metric):
    """The metric as a function of the last residual; a foil is always there."""

    foil: int

    @property
    def texts(self) -> tuple[str, str]:
        """Texts of target and foil."""
        return self.model.token_text(self.target), self.model.token_text(self.foil)

    @property
    def named(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Text and id of target and foil."""
        return (self.texts[0], self.target), (self.texts[1], self.foil)

    def of_rows(self, residual: torch.Tensor) -> torch.Tensor:
        """The metric of residuals before the final norm at the position, [rows, d_model] -> [rows]; differentiable."""
        logits = self.model.token_logits(residual, self._tokens)
        return logits[..., 0] - logits[..., 1]

    def of_steps(self, residual: torch.Tensor) -> torch.Tensor:
        """The metric of one residual of all steps, [steps, d_model] -> scalar; differentiable."""
        return self.of_rows(residual[self.position])

    def of(self, recording: Recording) -> float:
        """The metric of a recorded pass."""
        with torch.no_grad():
            return float(self.of_steps(recording.at(-1)))

    def of_linear(self, recording: Recording) -> float:
        """The metric before any final softcap."""
        with torch.no_grad():
            logits = self.model.token_logits(recording.at(-1)[self.position], self._tokens, capped=False)
            return float(logits[0] - logits[1])

    @property
    def _tokens(self) -> torch.Tensor:
        return torch.tensor([self.target, self.foil])


@dataclass(frozen=True)
class OutputMetric(Metric):
    """The metric as a function of the outputs, of a network without a residual stream."""

    def of(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs [..., steps, outputs] -> [...]; differentiable."""
        here = outputs[..., self.position, :]
        return here[..., self.target] - (0 if self.foil is None else here[..., self.foil])


def logit_difference(
    model: ResidualBackend,
    final: torch.Tensor,
    target: str | int | None,
    foil: str | int | None,
    position: int,
) -> LogitDifference:
    """The metric that was asked for; where target or foil are None, the likeliest tokens after the position.

    final is the residual before the final norm of the clean run, [steps, d_model].

    Raises InputError for a position outside the prompt, a text that is not one token, and a target equal to the foil.
    """
    (position,) = require_indices("position", [position], len(final), "the prompt")
    first, second = (None if token is None else token_of(model, token) for token in (target, foil))
    best = [] if None not in (first, second) else model.lens(final.detach()[position]).topk(3).indices.tolist()
    if first is None:
        first = next(token for token in best if token != second)
    if second is None:
        second = next(token for token in best if token != first)
    _require_different(model, first, second)
    return LogitDifference(model, first, second, position)


def output_metric(
    model: UnitBackend,
    outputs: torch.Tensor,
    target: str | int | None,
    foil: str | int | None,
    position: int,
) -> OutputMetric:
    """The metric of a network without a residual stream; defaults from its outputs in the clean run, [steps, outputs].

    Raises InputError for a position outside the stimulus, an output that it has not, and a target equal to the foil.
    """
    (position,) = require_indices("position", [position], len(outputs), "the stimulus")
    first, second = (None if token is None else token_of(model, token) for token in (target, foil))
    logits, here = model.outputs == "logits", outputs[position]
    best = (here if logits else here.abs()).argsort(descending=True, stable=True).tolist()
    if first is None:
        first = next(token for token in best if token != second)
    if second is None and logits:
        second = next(token for token in best if token != first)
    _require_different(model, first, second)
    return OutputMetric(model, first, second, position)


def _require_different(model: Backend, target: int, foil: int | None) -> None:
    if target == foil:
        raise InputError(f"target and foil are the same token {model.token_text(target)!r}; choose two that differ")


def token_of(model: Backend, token: str | int) -> int:
    """Id of a token given by its text or its id. Raises InputError for one that the model does not have."""
    if isinstance(token, str):
        return model.token_id(token)
    if isinstance(token, bool) or not hasattr(token, "__index__") or not 0 <= token < model.info.d_vocab:
        raise InputError(
            f"a token is a text such as ' Mary', or an id from 0 to {model.info.d_vocab - 1:,}; got {token!r}"
        )
    return int(token)


def same_stimulus(model: Backend, one: Stimulus, other: Stimulus) -> bool:
    """Whether a model makes the same of two; a language model reads ids, any other network may read more of the words."""
    return np.array_equal(one.ids, other.ids) and (
        "residual" in model.abilities or one.text.split() == other.text.split()
    )


def require_same_length(model: Backend, clean: Stimulus, corrupt: Stimulus) -> None:
    """Raise InputError unless two prompts have equally many steps, and differ."""
    if len(clean) != len(corrupt):
        labels = f" ({' '.join(map(repr, clean.labels))} against {' '.join(map(repr, corrupt.labels))})"
        raise InputError(
            f"clean and corrupted prompt must have equally many {model.step_axis}s; they have {len(clean)} and {len(corrupt)}"
            + (labels if model.step_axis == "token" else "")
        )
    if same_stimulus(model, clean, corrupt):
        raise InputError("clean and corrupted prompt are the same, so nothing can be told from their difference")
