"""The corpus' words, and how strongly each speaks for a value of a hidden level.

Four levels contain one another: a society contains places, a place topics of talk, a topic scenes. Every value of a level
has four words of its own: two strong, one medium, one faint. Beside them stand four words that announce which level the next
word speaks of ("while", "about", "at", "in") and three marks that end a sentence, a paragraph and a discourse.

Convention. Levels are numbered from the quickest: 0 scene, 1 topic, 2 place, 3 society. A word's strength is the log
likelihood ratio, in nats, of its own value against any other value of the level.

Left out: sounds, spelling, inflection, agreement.
"""

from __future__ import annotations

import numpy as np

LEVELS = ("scene", "topic", "place", "society")
"""Hidden variables from the quickest to the slowest; the network's levels token, sentence, paragraph, discourse."""

VALUES: tuple[dict[str, tuple[str, str, str, str]], ...] = (
    {
        "arriving": ("enters", "greets", "waves", "comes"),
        "waiting": ("waits", "yawns", "looks", "still"),
        "talking": ("asks", "answers", "says", "words"),
        "laughing": ("laughs", "jokes", "smiles", "bright"),
        "paying": ("pays", "counts", "coins", "hand"),
        "leaving": ("leaves", "farewell", "walks", "away"),
    },
    {
        "football": ("goal", "referee", "match", "team"),
        "weather": ("rain", "forecast", "cloud", "warm"),
        "music": ("song", "guitar", "concert", "loud"),
        "work": ("deadline", "salary", "project", "busy"),
        "family": ("sister", "wedding", "child", "old"),
        "food": ("recipe", "spice", "dinner", "sweet"),
    },
    {
        "cafe": ("barista", "espresso", "table", "cup"),
        "market": ("stall", "vendor", "basket", "price"),
        "office": ("desk", "printer", "manager", "clock"),
        "park": ("bench", "pond", "trees", "path"),
        "station": ("platform", "train", "ticket", "crowd"),
        "home": ("kitchen", "sofa", "door", "lamp"),
    },
    {
        "korea": ("seoul", "hangul", "kimchi", "mountain"),
        "france": ("paris", "metro", "baguette", "wine"),
        "brazil": ("rio", "samba", "feijoada", "beach"),
        "egypt": ("cairo", "nile", "pyramid", "desert"),
    },
)
"""Words of each value of each level: strong, strong, medium, faint."""

CUES = ("while", "about", "at", "in")
"""The word that announces a word of level 0, 1, 2, 3."""

MARKS = (".", "¶", "§")
"""Ends of a sentence (level 1), a paragraph (2), a discourse (3)."""

FAINT = 3
"""Position of the faint word in a value's words."""

_CONTENT = tuple(word for level in VALUES for words in level.values() for word in words)
WORDS = (*_CONTENT, *CUES, *MARKS)
"""The vocabulary; a token id is an index into it."""

TOKEN = {word: token for token, word in enumerate(WORDS)}

N_CLASSES = len(LEVELS) + len(CUES) + len(MARKS)
"""Classes of words: content of level 0 to 3, the four cues, the three marks."""

WORD_CLASS = np.array(
    [level for level, values in enumerate(VALUES) for _ in range(4 * len(values))] + list(range(4, N_CLASSES))
)
"""Class of every token id, int64 [words]."""


def words_of(level: int, value: int) -> np.ndarray:
    """Token ids, int64 [4], of a value's words: strong, strong, medium, faint."""
    return np.array([TOKEN[word] for word in list(VALUES[level].values())[value]])


OWN = tuple(np.flatnonzero(level == WORD_CLASS) for level in range(len(LEVELS)))
"""Token ids of the content words of each level."""
