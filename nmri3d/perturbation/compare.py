"""A prompt run as it is and run with edits, side by side.

Convention. `Comparison` in `nmri3d.results` says what is kept. Values are fMRI values, the L2 norm of each component's
write at each token, of both runs; the edited component's own value is that of what it wrote after the edit. KL is
KL(before || after) over the whole vocabulary at the last position, in nats, summed in float64.

Cost. One pass for the edited run, and one for the clean run unless it is given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, SiteEdit, Stimulus, no_progress
from nmri3d.models.provenance import provenance
from nmri3d.perturbation.edits import Edit, EditTarget, site_edits, target_of
from nmri3d.results import Comparison, Prediction

UNITS = "L2 norm of the write"


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
    k: int = 10,
    clean: CleanRun | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Run a prompt with edits and compare.

    k      how many of the likeliest next tokens to list
    clean  the unedited run of the same prompt on the same model, if it is at hand

    Raises InputError for a bad prompt or edit (nothing is run then), and whatever `progress` raises.
    """
    started = time.perf_counter()
    edits = [edits] if isinstance(edits, Edit) else list(edits)
    for edit in edits:
        if not isinstance(edit, Edit):
            raise InputError(f"edits are nmri3d.Edit objects, got {type(edit).__name__}")
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= model.info.d_vocab:
        raise InputError(f"k is a whole number from 1 to {model.info.d_vocab:,}, got {k!r}")
    stimulus = model.stimulus(prompt)
    targets = [target_of(model, edit.component) for edit in edits]
    changes = site_edits(model, stimulus, edits, progress=progress)
    if clean is None:
        clean = CleanRun(stimulus, *_measure(model, stimulus, [], [], progress))
    elif not np.array_equal(clean.stimulus.ids, stimulus.ids):
        raise InputError("the clean run belongs to another prompt; leave it out, or run that prompt")
    values, logits = _measure(model, stimulus, changes, targets, progress)
    before, after = _log_softmax(clean.logits), _log_softmax(logits)
    top = int(clean.logits.argmax())
    return Comparison(
        before=_top(model, clean.logits, before, k),
        after=_top(model, logits, after, k),
        token=_prediction(model, clean.logits, before, top),
        logit_after=float(logits[top]),
        probability_after=float(np.exp(after[top])),
        kl=float((np.exp(before) * (before - after)).sum()),
        values_before=clean.values,
        values_after=values,
        units=UNITS,
        components=model.components,
        tokens=stimulus.labels,
        edits=tuple(edit.as_record() for edit in edits),
        provenance=provenance(model, started, {"edits": [edit.as_record() for edit in edits]}, prompt),
    )


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
    edited = {target.site: target for target in targets if target.row is not None and target.column is not None}
    own = {site: lambda writes: np.linalg.norm(writes.float().cpu().numpy(), axis=-1) for site in edited}
    run = model.run(stimulus, {**plan.reads, **own}, edits=changes, logits=[-1], progress=progress)
    values = plan.collect(run)
    for target in targets:
        if target.row is not None and target.column is not None:
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
