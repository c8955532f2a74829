"""Text that a language model can read: prompts to tokens, single tokens to ids, each refusal with its remedy.

Left out: labels of tokens (`nmri3d.models.token_labels`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import ModelInfo, Stimulus
from nmri3d.models.token_labels import token_label


def tokenized(tokenizer: Any, text: str, info: ModelInfo) -> Stimulus:
    """A prompt with the special tokens that the tokenizer adds.

    Raises InputError for what is no text, is empty, is longer than the model reads, or holds a token that it lacks.
    """
    if not isinstance(text, str):
        raise InputError(f"a prompt is text, got {type(text).__name__}; pass the sentence itself")
    if not text:
        raise InputError("the prompt is empty; write at least one word")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the prompt holds half of a character (a lone surrogate) at place {error.start}; delete it and type it again"
        ) from None
    encoded = tokenizer(text, return_special_tokens_mask=True)
    ids = np.asarray(encoded["input_ids"], dtype=np.int64)
    if len(ids) == 0:
        raise InputError("the tokenizer makes no token of this prompt; write at least one word")
    if len(ids) > info.n_context:
        raise InputError(
            f"the prompt has {len(ids):,} tokens, and {info.title} reads at most {info.n_context:,}; shorten it"
        )
    if (largest := int(ids.max())) >= info.d_vocab:
        raise InputError(
            f"the prompt holds {token_label(tokenizer, largest)!r}, a token that the tokenizer has and {info.title} has not; "
            "leave it out"
        )
    labels = tuple(token_label(tokenizer, token) for token in ids.tolist())
    return Stimulus(text, ids, labels, np.asarray(encoded["special_tokens_mask"], dtype=bool))


def single_token(tokenizer: Any, text: str) -> int:
    """Id of a text that is exactly one token. Raises InputError, naming the pieces, for any other."""
    if not isinstance(text, str) or not text:
        raise InputError(f"a target token is a text such as ' Mary', got {text!r}")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        pieces = " + ".join(repr(token_label(tokenizer, token)) for token in ids)
        hint = "" if text.startswith(" ") else f"; within a sentence it may be {' ' + text!r}, with a space before it"
        raise InputError(f"{text!r} is {len(ids)} tokens ({pieces}), and a target is one{hint}")
    return int(ids[0])


def end_tokens(hf_model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that end a generation: the model's own setting, else the tokenizer's."""
    configured = getattr(getattr(hf_model, "generation_config", None), "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured, tokenizer.eos_token_id]
    return frozenset(token for token in ids if token is not None)
