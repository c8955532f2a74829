"""How long a replay of many edits will take, and asking before a long one.

The time is measured, not guessed: a few of the edits that restart near the top are replayed first, and the rest is scaled
by what they must compute. It is printed with the progress, and whoever asks decides whether to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from nmri3d.errors import Cancelled
from nmri3d.models.backend import Backend, Progress, Readout, no_progress
from nmri3d.models.recording import Recording
from nmri3d.models.replay import StreamEdit, edit_work

PROBE_EDITS = 24

Confirm = Callable[[float], bool]
"""Takes the estimate in seconds; whether to go on."""


def replay_estimate(
    model: Backend, recording: Recording, edits: Sequence[StreamEdit], readout: Readout, step: int
) -> float:
    """Seconds that a replay of these edits will take, by replaying a few that are near the top."""
    n_layers = model.info.n_layers
    work = [edit_work(edit, n_layers, range(len(recording))[step]) for edit in edits]
    worth = [index for index in sorted(range(len(edits)), key=lambda i: work[i]) if work[index]]
    if len(worth) <= 2 * PROBE_EDITS:
        return 0.0
    probe = worth[:PROBE_EDITS]
    started = time.perf_counter()
    model.replay(recording, [edits[index] for index in probe], readout, step=step)
    return (time.perf_counter() - started) / sum(work[index] for index in probe) * sum(work)


def replay_with_estimate(
    model: Backend,
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
