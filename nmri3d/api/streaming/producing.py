"""The work of a stream, in its worker thread: measure, then hand out frames as fast as they are taken.

Convention. The model is held only while something is measured: between frames the work may wait for the client as long as
it likes. Scans come from the service's kept results where they are there.

Left out: how a stream begins and ends (streams.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from nmri3d.api.context import Context
from nmri3d.api.recording import Recording
from nmri3d.api.scan_links import ScanLinks
from nmri3d.api.schema import ArrayLink
from nmri3d.api.streaming.client_messages import DtiStream, GenerateStream, ScanStream
from nmri3d.api.streaming.frames import MOST_FRAME_NUMBERS, MOST_PATTERN_NUMBERS, Frames
from nmri3d.api.streaming.server_messages import (
    ActivationFrame,
    Done,
    Edges,
    Measured,
    Numbered,
    ScanFrame,
    StreamProgress,
    TokenFrame,
)
from nmri3d.errors import InputError
from nmri3d.models.backend import Progress
from nmri3d.models.residual_backend import refusal
from nmri3d.results import Scan

if TYPE_CHECKING:
    from nmri3d.results import GenerationStep

PROGRESS_SECONDS = 0.2
"""Between two `progress` messages."""


class Outlet(Protocol):
    """Where messages go."""

    def emit(self, kind: type[Numbered], **fields: Any) -> None:
        """Add a message; never waits."""

    def wait_for_room(self, check: Callable[[], None]) -> None:
        """Wait until the client has taken enough; `check` may raise meanwhile."""

    @property
    def waits(self) -> bool:
        """Whether a message is there that was not sent."""


def produce_scan(outlet: Outlet, context: Context, asked: ScanStream, recording: Recording, progress: Progress) -> None:
    """Scan and send it. Raises what the scan raises, InputError for a scan too large for one frame, and Cancelled."""
    telling = _Telling(outlet, progress)
    options = asked.options()
    scan = context.service.scan(asked.mode, asked.prompt, progress=telling, **options)
    recording.record("scan", {"mode": asked.mode, "prompt": asked.prompt, "options": options}, scan)
    tokens = tuple(scan.details["prompt_tokens"].tolist()) if asked.mode == "DTI" else scan.tokens
    by_token = asked.token_step and bool(tokens)
    if not by_token and scan.values.size > MOST_FRAME_NUMBERS:
        raise InputError(
            f"{scan.values.size:,} values do not fit into one frame (at most {MOST_FRAME_NUMBERS:,}); ask for "
            "token_step, or fetch them over REST."
        )
    patterns, links = None, None
    if isinstance(asked, DtiStream):
        patterns, links = _attention(context, asked, scan, tokens, by_token, telling)
    frames = Frames(scan, tokens, patterns)
    outlet.emit(
        Measured,
        mode=scan.mode,
        tokens=list(tokens),
        units=scan.units,
        signed=scan.signed,
        activations_of=_scope(scan, tokens),
        n_frames=len(tokens) if by_token else 1,
        compute_time_ms=1e3 * scan.provenance.seconds,
        provenance=asdict(scan.provenance),
        attention_patterns=links,
    )
    if isinstance(asked, DtiStream) and scan.tracts is not None:
        _send_edges(outlet, scan, asked.share)
    if by_token:
        _send_tokens(outlet, frames, progress)
    else:
        outlet.wait_for_room(lambda: progress(1.0, "waiting for the client"))
        outlet.emit(ScanFrame, tokens=list(tokens), layers=frames.all_layers(), figures=frames.all_figures())
    outlet.emit(Done, n_frames=len(tokens) if by_token else 1)


def produce_generation(
    outlet: Outlet, context: Context, asked: GenerateStream, recording: Recording, progress: Progress
) -> None:
    """Let the model write and send each token as it is made. Raises what `Service.generate` raises, and Cancelled."""

    def on_step(step: GenerationStep) -> None:
        outlet.wait_for_room(lambda: progress((step.index + 1) / asked.n_tokens, "waiting for the client"))
        outlet.emit(
            TokenFrame,
            token_idx=step.index,
            token=step.token.token,
            token_id=step.token.token_id,
            probability=step.token.probability,
            layers=Frames(step.scan, step.scan.tokens).layers(-1),
        )

    written = context.service.generate(
        asked.prompt,
        asked.n_tokens,
        on_step,
        temperature=asked.temperature,
        seed=asked.seed,
        progress=_Telling(outlet, progress),
    )
    data = asked.model_dump(include={"prompt", "n_tokens", "temperature", "seed"})
    recording.record("generate", {**data, "tokens": [token.token_id for token in written.tokens]}, written.scan)
    outlet.emit(Done, n_frames=len(written.tokens))


class _Telling:
    """Progress that is told to the client, now and then, while nothing else waits to be sent."""

    def __init__(self, outlet: Outlet, progress: Progress) -> None:
        self._outlet, self._progress = outlet, progress
        self._next = 0.0

    def __call__(self, share: float, what: str) -> None:
        self._progress(share, what)
        now = time.monotonic()
        if now >= self._next and not self._outlet.waits:
            self._next = now + PROGRESS_SECONDS
            self._outlet.emit(StreamProgress, share=share, what=what)


def _scope(scan: Scan, tokens: tuple[str, ...]) -> Literal["token", "prompt", "model"]:
    if not tokens:
        return "model"
    return "token" if scan.tokens else "prompt"


def _send_tokens(outlet: Outlet, frames: Frames, progress: Progress) -> None:
    n_tokens = len(frames.tokens)
    for place, token in enumerate(frames.tokens):
        share = place / n_tokens
        outlet.wait_for_room(lambda share=share: progress(share, "waiting for the client"))  # type: ignore[misc]
        progress(share, f"token {place + 1} of {n_tokens}")
        outlet.emit(
            ActivationFrame,
            token_idx=place,
            token=token,
            layers=frames.layers(place),
            figures=frames.figures(place),
        )


def _send_edges(outlet: Outlet, scan: Scan, share: float) -> None:
    assert scan.tracts is not None
    drawn, ids = scan.tracts.pruned(share), scan.components.ids
    outlet.emit(
        Edges,
        source=[ids[row] for row in drawn.source.tolist()],
        target=[ids[row] for row in drawn.target.tolist()],
        slot=drawn.slot.tolist(),
        score=drawn.score.tolist(),
        total=drawn.total,
        count=drawn.count,
    )


def _attention(
    context: Context, asked: DtiStream, scan: Scan, tokens: tuple[str, ...], by_token: bool, progress: Progress
) -> tuple[dict[int, np.ndarray] | None, dict[str, ArrayLink] | None]:
    """The attention patterns by block where a frame holds them, else links to them by layer."""
    table = scan.components
    if refusal(context.service.require_backend(), "attention") is not None:
        return None, None
    blocks = sorted(set(table.layer[table.rows("head")].tolist()))
    numbers = len(table.rows("head")) * len(tokens) * (1 if by_token else len(tokens))
    if numbers > MOST_PATTERN_NUMBERS:
        links = ScanLinks(
            context.service, context.arrays, scan, asked.mode, asked.prompt, asked.options(), tokens=tokens
        )
        return None, {f"blocks.{block}.attn": links.attention(block) for block in blocks}
    patterns = {}
    for place, block in enumerate(blocks):
        progress(place / len(blocks), f"attention of block {block}")
        patterns[block] = context.service.attention(asked.prompt, block, progress=progress)
    return patterns, None
