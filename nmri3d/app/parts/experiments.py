"""What experiments share: the prompt that they are about, and the metric, as a browser asks for it.

Convention. A text that is left empty means the default. A token may be written as a chip shows it, with `·` for a space.
Most words of a text begin with a space, so a word without one means the token with a space where there is such a token;
"quotes" take it as it stands.
"""

from __future__ import annotations

import contextlib
from typing import Any

from nmri3d.app.findings import subject_finding
from nmri3d.app.parts.visit import Handlers, Visit
from nmri3d.app.state import require_message, require_text, require_whole
from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Stimulus

FARTHEST_POSITION = 2**31 - 1
"""Positions that are read at all; the measurement itself knows how many steps its prompt has."""


class Experiments:
    """The prompt that was scanned last, and the check of a corrupted one."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.subject: Stimulus | None = None

    def handlers(self) -> Handlers:
        """What the browser may ask for."""
        return {"check_corrupt": self._on_check}

    def forget(self) -> None:
        """The model has gone."""
        self.subject = None
        self._visit.set(subject=None)

    def begin(self, prompt: str) -> bool:
        """A prompt was scanned: from now on experiments are about it. Returns whether it is another than before."""
        stimulus = self._visit.require_backend().stimulus(prompt)
        if self.subject is not None and self.subject.text == stimulus.text:
            return False
        self.subject = stimulus
        self._visit.set(subject=subject_finding(stimulus))
        return True

    def require_subject(self) -> Stimulus:
        """The prompt that experiments are about. Raises InputError before there is one."""
        if self.subject is None:
            raise InputError("no prompt was scanned yet; type one and press SCAN, then this can be measured on it")
        return self.subject

    def _on_check(self, prompt: Any, corrupt: Any) -> None:
        """Tell at once whether a corrupted prompt fits the prompt."""
        visit = self._visit
        prompt, corrupt = require_text(prompt, "prompt"), require_text(corrupt, "corrupted prompt")
        visit.show_error("corrupt", "")
        backend = visit.require_backend()
        if prompt.strip() and corrupt.strip():

            async def check() -> None:
                await visit.run(lambda progress: require_fit(backend, prompt, corrupt), "The check of the prompts")

            visit.task(check(), "corrupt")


def read_metric(backend: Backend, message: Any) -> dict[str, Any]:
    """Options of a metric, {"corrupt", "target", "foil", "position"}, from what a browser sends; None where left empty.

    Raises InputError for a text that is no token and for wrong types.
    """
    message = require_message(message)
    corrupt = require_text(message.get("corrupt"), "corrupted prompt")
    return {
        "corrupt": corrupt if corrupt.strip() else None,
        "target": read_token(backend, message.get("target"), "target"),
        "foil": read_token(backend, message.get("foil"), "foil"),
        "position": require_whole(message.get("position"), -1, FARTHEST_POSITION, "position"),
    }


def read_token(backend: Backend, text: Any, name: str) -> int | None:
    """Id of a token as a person writes it; None for nothing."""
    text = require_text(text, name)
    if len(text) > 2 and text[0] == text[-1] == '"':
        return backend.token_id(text[1:-1].replace("·", " "))
    text = text.replace("·", " ")
    if not text.strip():
        return None
    if not text[0].isspace():
        with contextlib.suppress(InputError):
            return backend.token_id(" " + text)
    return backend.token_id(text)


def require_fit(backend: Backend, prompt: str, corrupt: str | None) -> None:
    """Raises InputError unless both prompts have equally many steps and differ, with the counts."""
    if corrupt is None:
        return
    from nmri3d.perturbation.metric import require_same_length  # torch comes with it

    require_same_length(backend, backend.stimulus(prompt), backend.stimulus(corrupt))
