"""The reference text: ordinary English of many kinds, written for this project, a few thousand tokens in all.

`reference.txt` holds the passages, an empty line between two of them: news, stories, dialogue, science, instructions,
lists, arithmetic, code, questions, formal and casual writing, proverbs. They begin with many different words, since the
first position is kept apart, and they vary from three tokens to about seventy.

A change of the text is a new template: `text_digest` is part of its name in the cache. A network that reads no English has
reference stimuli of its own, which take the passages' place everywhere.

Left out: other languages but for a few lines, long documents, and anything taken from a corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nmri3d.models.backend import Backend


@cache
def passages() -> tuple[str, ...]:
    """The passages in their order; their index is the number by which a template names them."""
    text = files("nmri3d.template").joinpath("reference.txt").read_text(encoding="utf-8")
    return tuple(passage.strip("\n") for passage in text.split("\n\n"))


def reference_of(model: Backend) -> tuple[str, ...]:
    """The model's own reference stimuli, or the passages where it has none."""
    return tuple(model.reference()) or passages()


def text_digest(texts: Sequence[str]) -> str:
    """Short hash of all passages or stimuli."""
    return hashlib.sha256("\n\n".join(texts).encode()).hexdigest()[:12]
