"""A prompt run as it is and run with edits, side by side.

Convention. `Comparison` in `nmri3d.results` says what is kept. Values are fMRI values, the L2 norm of each component's
write at each token (or, without a residual stream, of its activation, single units with their sign), of both runs; the
edited component's own value is that of what it wrote after the edit. KL is KL(before || after) over the whole vocabulary at
the last position, in nats, summed in float64. Signals have values instead of logits, and neither probabilities nor KL.

Cost. One pass for the edited run, and one for the clean run unless it is given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, EditTarget, Progress, SiteEdit, Stimulus, no_progress
from nmri3d.models.provenance import provenance
from nmri3d.models.unit_backend import activity_units
from nmri3d.perturbation.edits import Edit, site_edits
from nmri3d.perturbation.metric import same_stimulus
from nmri3d.results import Comparison, Prediction

UNITS = "L2 norm of the write"
LISTED = 10
"""How many of the likeliest tokens are listed unless told otherwise."""


@dataclass(frozen=True, eq=False)
class CleanRun:
    """A pass without edits: fMRI values float32 [steps, components], logits float32 [d_vocab] at the last position."""

    stimulus: Stimulus
    values: np.ndarray
    logits: np.ndarray


def clean_run(model: Backend, prompt: str, *, progress: Progress = no_progress) -> CleanRun:
    """The unedited side of a comparison, to be kept for the next one."""
    stimulus = model.stimulus(prompt)
    return CleanRun(stimulus, *_measure(model, stimulus, [], [], progress))


def perturb(
    model: Backend,
    prompt: str,
    edits: Sequence[Edit] | Edit,
    *,
    k: int = LISTED,
    clean: CleanRun | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Run a prompt with edits and compare.

    k      how many of the likeliest next tokens to list; of fewer there are, or of signals, all
    clean  the unedited run of the same prompt on the same model, if it is at hand

    Raises InputError for a bad prompt or edit (nothing is run then), and whatever `progress` raises.
    """
    started = time.perf_counter()
    edits = [edits] if isinstance(edits, Edit) else list(edits)
    for edit in edits:
        if not isinstance(edit, Edit):
            raise InputError(f"edits are nmri3d.Edit objects, got {type(edit).__name__}")
    most = max(LISTED, model.info.d_vocab)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise InputError(f"k is a whole number from 1 to {most:,}, got {k!r}")
    stimulus = model.stimulus(prompt)
    targets = [model.target(edit.component) for edit in edits]
    changes = site_edits(model, stimulus, edits, progress=progress)
    if clean is None:
        clean = CleanRun(stimulus, *_measure(model, stimulus, [], [], progress))
    elif not same_stimulus(model, clean.stimulus, stimulus):
        raise InputError("the clean run belongs to another prompt; leave it out, or run that prompt")
    values, logits = _measure(model, stimulus, changes, targets, progress)
    answers = _answers if model.outputs == "logits" else _signals
    units, signed = (UNITS, False) if "residual" in model.abilities else activity_units(model, "l2_norm")
    return Comparison(
        **answers(model, clean.logits, logits, k),
        values_before=clean.values,
        values_after=values,
        units=units,
        components=model.components,
        tokens=stimulus.labels,
        edits=tuple(edit.as_record() for edit in edits),
        provenance=provenance(model, started, {"edits": [edit.as_record() for edit in edits]}, prompt),
        outputs=model.outputs,
        step_axis=model.step_axis,
        signed=signed,
    )


def _answers(model: Backend, before: np.ndarray, after: np.ndarray, k: int) -> dict[str, Any]:
    """What a comparison holds of two runs' logits [d_vocab]."""
    log_before, log_after = _log_softmax(before), _log_softmax(after)
    top = int(before.argmax())
    return {
        "before": _top(model, before, log_before, k),
        "after": _top(model, after, log_after, k),
        "token": _prediction(model, before, log_before, top),
        "logit_after": float(after[top]),
        "probability_after": float(np.exp(log_after[top])),
        "kl": float((np.exp(log_before) * (log_before - log_after)).sum()),
    }


def _signals(model: Backend, before: np.ndarray, after: np.ndarray, k: int) -> dict[str, Any]:
    """What a comparison holds of two runs' signals: all of them, in their own order."""

    def listed(values: np.ndarray) -> tuple[Prediction, ...]:
        return tuple(Prediction(model.token_text(n), n, None, float(value)) for n, value in enumerate(values))

    moved = int(np.abs(after - before).argmax())
    return {
        "before": listed(before),
        "after": listed(after),
        "token": listed(before)[moved],
        "logit_after": float(after[moved]),
        "probability_after": None,
        "kl": None,
    }


def _measure(
    model: Backend,
    stimulus: Stimulus,
    changes: Sequence[SiteEdit],
    targets: Sequence[EditTarget],
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """fMRI values [steps, components] and the last logits [d_vocab] of one pass."""
    plan = model.write_plan("l2_norm", frozenset(range(model.info.n_layers)))
    # a head's value is read from what its projection is given; an edit of its write comes after that
    heads = [target for target in targets if target.row is not None and target.site not in plan.reads]
    edited = {target.site: target for target in heads}
    own = {site: lambda writes: np.linalg.norm(writes.float().cpu().numpy(), axis=-1) for site in edited}
    run = model.run(stimulus, {**plan.reads, **own}, edits=changes, logits=[-1], progress=progress)
    values = plan.collect(run)
    for target in heads:
        values[:, target.row] = run.reads[target.site][:, target.column]
    return values, run.logits[0].float().cpu().numpy()


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def _prediction(model: Backend, logits: np.ndarray, log_probabilities: np.ndarray, token: int) -> Prediction:
    return Prediction(model.token_text(token), token, float(np.exp(log_probabilities[token])), float(logits[token]))


def _top(model: Backend, logits: np.ndarray, log_probabilities: np.ndarray, k: int) -> tuple[Prediction, ...]:
    best = np.argsort(-logits, kind="stable")[:k].tolist()
    return tuple(_prediction(model, logits, log_probabilities, token) for token in best)
