"""Where a model lies: the type that finding a model ends with.

Left out: the finding (`locate`), the fetching (`hub`, `embedded`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = "smollm2-135m"

SizeCheck = Callable[[str, int, str], object]
"""Called with title, number of parameters and stored dtype before weights are fetched; raises what refuses the model."""


def any_size(title: str, n_params: int, stored: str) -> None:
    """The SizeCheck that lets every model pass."""


@dataclass(frozen=True)
class Location:
    """Where a model's files are, and what to call it.

    folder    holds config.json, weights and tokenizer, or the .gguf file
    gguf      name of the .gguf file in the folder, or None for safetensors
    model_id  what finds it again; title, for people; source, in words
    """

    folder: Path
    model_id: str
    title: str
    source: str
    gguf: str | None = None
    warnings: tuple[str, ...] = ()
