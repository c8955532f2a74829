"""The generation's part of the page: the model writes on, and each new token is scanned and shown as it comes.

Convention. The prompt itself is scanned first; after that each token costs the browser 4 bytes a component. When the text
is whole, its scan is sent once more, with a display range of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.app.parts.scanning import Scanning
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_text, require_whole
from nmri3d.models.backend import Progress

if TYPE_CHECKING:
    from nmri3d.results import GenerationStep

MOST_TOKENS = 200


class Generating:
    """Streams what the model writes."""

    def __init__(self, visit: Visit, scanning: Scanning) -> None:
        self._visit = visit
        self._scanning = scanning

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {"generate": self._on_generate}

    def _on_generate(self, prompt: Any, count: Any) -> None:
        self._visit.show_error("prompt", "")
        self._visit.task(self._generate(prompt, count), "prompt")

    async def _generate(self, prompt: Any, count: Any) -> None:
        visit = self._visit
        prompt = require_text(prompt, "prompt")
        count = require_whole(count, 1, MOST_TOKENS, "number of tokens")
        visit.require_idle()
        await self._scanning.scan("fMRI", prompt, follow_up=False)
        first, epoch = visit.scans.get("fMRI"), visit.epoch
        if first is None or first.provenance.prompt != prompt:  # withdrawn
            return
        loop = asyncio.get_running_loop()
        steps: list[GenerationStep] = []

        def on_step(step: GenerationStep) -> None:
            """Called in the worker thread, after each token."""
            loop.call_soon_threadsafe(show, step)

        def show(step: GenerationStep) -> None:
            if epoch != visit.epoch:
                return
            steps.append(step)
            scan = step.scan
            values = np.ascontiguousarray(scan.values[-1], dtype="<f4").tobytes()
            visit.set(generated={"number": scan.n_steps - 1, "token": scan.tokens[-1], "values": values})

        def work(progress: Progress) -> Any:
            return visit.service.generate(prompt, count, on_step, progress=progress)

        try:
            await visit.run_shown("GENERATE", work, "The generation")
        finally:
            if steps and epoch == visit.epoch:
                written = "".join(step.token.token for step in steps)
                visit.log.add(f"Generated {len(steps)} tokens: {written!r}")
                visit.set(generated=None)
                ids = [step.token.token_id for step in steps]
                data = {"prompt": prompt, "n_tokens": len(ids), "temperature": 0.0, "seed": 0, "tokens": ids}
                data["text"] = written
                visit.task(self._scanning.keep_generated(steps[-1].scan, len(steps), data), "prompt")
