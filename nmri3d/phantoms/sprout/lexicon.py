"""The words of SPROUT's English, cut into stems and suffixes, and how typed text is read.

Convention. A token is a stem ("cat", "walk", "the") or a suffix ("+s", "+ed", "+ing"); "+s" marks the plural of a noun and
the third person of a verb, as in English. Every word is regular: its forms are stem and suffix joined. The marks held out
of training are fixed by position in these lists:

    nouns   every fourth one (0, 4, 8, ...) never occurs in the plural
    verbs   every fifth one (0, 5, 10, ...) never occurs with +ing

Left out: what may follow what (`nmri3d.phantoms.sprout.grammar`).
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from nmri3d.errors import InputError

ADVERBS = ("now", "then", "often", "yesterday")
DETERMINERS = {"the": None, "some": None, "this": False, "every": False, "these": True, "many": True}
"""Whether a determiner asks for a plural noun; None: either."""
ADJECTIVES = ("big", "small", "old", "young", "red", "tall")
ANIMATE = (
    *("cat", "dog", "horse", "girl", "boy", "teacher", "bird", "farmer", "doctor", "rabbit"),
    *("singer", "king", "queen", "lion", "tiger", "monkey", "frog", "pilot", "sailor", "spider"),
)
INANIMATE = (
    *("rock", "lamp", "car", "wheel", "boat", "table", "chair", "door", "window", "apple"),
    *("candle", "flower", "engine", "bottle", "stone", "tower", "wagon", "bell", "train", "ball"),
)
PREPOSITIONS = ("near", "behind")
BE = ("is", "are", "was", "were")
ANIMATE_VERBS = ("walk", "jump", "play", "rest", "wait", "climb", "listen", "work", "shout", "talk")
INANIMATE_VERBS = ("crack", "burn", "melt", "leak", "float", "roll", "rust", "boil", "turn", "glow")
TRANSITIVE_VERBS = ("follow", "help", "paint", "lift", "kick", "pull", "visit", "greet", "call", "clean")
SUFFIXES = ("+s", "+ed", "+ing")
STOP = "."

NOUNS = ANIMATE + INANIMATE
VERBS = ANIMATE_VERBS + INANIMATE_VERBS + TRANSITIVE_VERBS
NEVER_PLURAL = frozenset(NOUNS[::4])
NEVER_PROGRESSIVE = frozenset(VERBS[::5])
ATTACHES = {"+s": frozenset(NOUNS + VERBS), "+ed": frozenset(VERBS), "+ing": frozenset(VERBS)}
"""The stems that a suffix can follow."""

VOCABULARY = tuple(
    dict.fromkeys((STOP, *SUFFIXES, *ADVERBS, *DETERMINERS, *ADJECTIVES, *NOUNS, *PREPOSITIONS, *BE, *VERBS))
)
TOKEN = {text: number for number, text in enumerate(VOCABULARY)}
_FORMS = {
    f"{stem}{suffix[1:]}": (stem, suffix) for suffix, stems in ATTACHES.items() for stem in VOCABULARY if stem in stems
}
_PIECE = re.compile(r"\+?[a-z]+|\.|\S")


def read(text: str) -> list[str]:
    """Cut typed text into tokens: "the cats", "the cat s" and "the cat +s" are the same three.

    Raises InputError for a word that is not in the lexicon, with the nearest that are.
    """
    tokens: list[str] = []
    for piece in _PIECE.findall(text.lower()):
        if piece in TOKEN:
            tokens.append(piece)
        elif piece in _FORMS:
            tokens += _FORMS[piece]
        elif f"+{piece}" in SUFFIXES and tokens:
            tokens.append(f"+{piece}")
        else:
            near = get_close_matches(piece, [*VOCABULARY, *_FORMS], n=3) or ["the", "cat", "these", "dogs"]
            raise InputError(f"SPROUT does not know the word {piece!r}; it knows, for example, {', '.join(near)}")
    return tokens


def write(tokens: list[str] | tuple[str, ...]) -> str:
    """Tokens as a person would write them; the inverse of `read` where every suffix follows a stem that it attaches to."""
    words: list[str] = []
    for token in tokens:
        if token in SUFFIXES and words and words[-1] in ATTACHES[token]:
            words[-1] += token[1:]
        else:
            words.append(token)
    return " ".join(words)
