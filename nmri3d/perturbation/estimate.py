"""How long a replay of many edits will take, and asking before a long one.

The time is measured, not guessed: a few of the edits are replayed first, and the rest is scaled by what they must
compute. It is printed with the progress, and whoever asks decides whether to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from nmri3d.errors import Cancelled
from nmri3d.models.backend import Progress, Readout, no_progress
from nmri3d.models.recording import Recording
from nmri3d.models.replay import StreamEdit, edit_work
from nmri3d.models.residual_backend import ResidualBackend

PROBE_EDITS = 24

Confirm = Callable[[float], bool]
"""Takes the estimate in seconds; whether to go on."""


def replay_estimate(
    model: ResidualBackend, recording: Recording, edits: Sequence[StreamEdit], readout: Readout, step: int
) -> float:
    """Seconds that a replay of these edits will take: some that begin at a middle step are replayed, the rest scaled.

    Edits that begin at the same step run as one batch, so a sample of one step's is as fast a piece of work as the whole.
    """
    n_layers, last = model.info.n_layers, range(len(recording))[step]
    work = [edit_work(edit, n_layers, last) for edit in edits]
    order = sorted((i for i in range(len(edits)) if work[i]), key=lambda i: (edits[i].start, edits[i].point))
    if len(order) <= 2 * PROBE_EDITS:
        return 0.0
    middle = edits[order[len(order) // 2]].start
    beside = [index for index in order if edits[index].start == middle]
    probe = beside[:: max(1, len(beside) // PROBE_EDITS)]
    started = time.perf_counter()
    model.replay(recording, [edits[index] for index in probe], readout, step=step)
    return (time.perf_counter() - started) / sum(work[index] for index in probe) * sum(work)


def replay_with_estimate(
    model: ResidualBackend,
    recording: Recording,
    edits: Sequence[StreamEdit],
    readout: Readout,
    *,
    step: int = -1,
    confirm: Confirm | None = None,
    progress: Progress = no_progress,
    repeats: int = 1,
) -> torch.Tensor:
    """`model.replay`, after telling how long it (and `repeats - 1` more like it) will take.

    Raises Cancelled where `confirm`, which is told the seconds, refuses.
    """
    if confirm is not None:
        seconds = repeats * replay_estimate(model, recording, edits, readout, step)
        progress(0.0, f"about {seconds:.0f} s for {repeats * len(edits):,} interventions")
        if not confirm(seconds):
            raise Cancelled(f"The run of about {seconds:.0f} s was not started.")
    return model.replay(recording, edits, readout, step=step, progress=progress)
