"""Reading and showing the words of the induction task.

Convention. Word k of `WORDS` is token k + 1; token 0 starts every text. As in byte-level tokenizers a word's token is shown
with the space before it, so that texts grow by putting tokens behind them.
"""

from __future__ import annotations

from typing import Any

from nmri3d.errors import InputError
from nmri3d.phantoms.induction.task import START, WORDS

_TOKEN = {word: 1 + place for place, word in enumerate(WORDS)}


def read_words(text: str, *, start: bool = True) -> list[int]:
    """Token ids of words parted by spaces, in any case, behind the start token where asked.

    Raises InputError for what is no text, holds no word, or holds a word that the network does not know.
    """
    if not isinstance(text, str):
        raise InputError(f"a prompt is text, got {type(text).__name__}; write words such as {' '.join(WORDS[:3])}")
    words = text.split()
    if not words:
        raise InputError(f"the text has no word; write some, such as {' '.join(WORDS[10:15])}")
    strange = next((word for word in words if word.lower() not in _TOKEN), None)
    if strange is not None:
        shown = strange if len(strange) <= 40 else f"{strange[:40]}…"
        raise InputError(
            f"the induction network does not know {shown!r}; its words are {', '.join(WORDS)}, parted by spaces"
        )
    return [0] * start + [_TOKEN[word.lower()] for word in words]


def label(token: int) -> str:
    """Text of a token."""
    return START if token == 0 else f" {WORDS[token - 1]}"


class Tokenizer:
    """The words as a tokenizer of Hugging Face's form, as far as the backend of language models asks."""

    eos_token_id = None

    def __call__(
        self, text: str, *, add_special_tokens: bool = True, return_special_tokens_mask: bool = False
    ) -> dict[str, list[int]]:
        ids = read_words(text, start=add_special_tokens)
        return {"input_ids": ids, "special_tokens_mask": [int(token == 0) for token in ids]}

    def decode(self, ids: list[int]) -> str:
        """Text of tokens."""
        return "".join(label(token) for token in ids)

    def convert_ids_to_tokens(self, token: Any) -> str:
        """Text of one token."""
        return label(int(token))
