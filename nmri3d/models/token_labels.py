"""Labels of single tokens, for chips and tables.

A token is shown as the text that it decodes to. Byte-level tokenizers (GPT-2's and its kin) also have tokens that are a
part of a character; such a token is shown by its bytes, as Python writes them: `\\xe6\\x9d`.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def token_label(tokenizer: Any, token: int) -> str:
    """Text of one token id; the bytes of a token that is no whole character, or its spelling where it has no bytes."""
    text: str = tokenizer.decode([token])
    if "\ufffd" not in text:
        return text
    spelled: str = tokenizer.convert_ids_to_tokens(token)
    byte_of = _byte_of_character()
    if any(character not in byte_of for character in spelled):
        return spelled
    return bytes(byte_of[character] for character in spelled).decode("utf-8", "backslashreplace")


@cache
def _byte_of_character() -> dict[str, int]:
    """The byte that each character stands for in the vocabularies of byte-level tokenizers (Radford et al. 2019).

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(rest)}
