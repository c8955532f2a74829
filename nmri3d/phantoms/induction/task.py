"""The induction task: random words, part of which comes again after a random lag; and the words.

Convention. A text is the start token and words: `first` different ones at random, and from then on word t is word t - lag.
So the words before place first - lag stand alone, the rest repeats, and what follows a word that was there before is what
followed it then; nothing tells the lag but the words themselves. A place is *determined* when it lies behind the first
repeated word: by the words before it, the next word is certain. The *second copy* is the determined places of the first
repeat; later copies repeat it again.

Lags that are multiples of HELD_OUT never occur in training; tests have texts of both kinds.

Left out: words that come twice before the repeat begins, which would leave the next word open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

START = "|start|"
_VOCABULARY = (
    "ant ape arm ash bay bee bell bird boat bone book bow cap cat cave cow cup deer desk dog door drum duck ear egg elm "
    "eye fan fig fish fox gem goat hat hen hill ink jam jar key kite lake lamp leaf lion map moon nest nut oak owl pan "
    "pear pen pig ring rose sea ship star sun tree wolf"
)
WORDS = tuple(_VOCABULARY.split())
"""The words in alphabetical order; with START, which is id 0, they are the vocabulary."""

FEWEST_FIRST, MOST_FIRST = 8, 50
SHORTEST_LAG = 4
HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class Texts:
    """A batch of texts.

    ids    int64 [texts, steps], the start token first
    first  int64 [texts], different words at the beginning
    lag    int64 [texts]
    """

    ids: np.ndarray
    first: np.ndarray
    lag: np.ndarray

    @property
    def second_copy(self) -> np.ndarray:
        """bool [texts, steps]: whether the token at a step is a determined one of the first repeat."""
        place = np.arange(self.ids.shape[1])[None] - 1  # of the word, the start token having none
        first, lag = self.first[:, None], self.lag[:, None]
        return (place > first) & (place < first + lag)


def texts(random: np.random.Generator, count: int, steps: int, lags: np.ndarray, most_first: int = MOST_FIRST) -> Texts:
    """Random texts of so many steps whose lags come from `lags`; `first` is from the lag to `most_first`."""
    lag = random.choice(lags, count)
    first = random.integers(np.maximum(lag, FEWEST_FIRST), most_first + 1)
    drawn = random.permuted(np.tile(np.arange(1, len(WORDS) + 1), (count, 1)), axis=1)
    ids = np.zeros((count, steps), dtype=np.int64)
    beginning = min(most_first, steps - 1)
    ids[:, 1 : beginning + 1] = drawn[:, :beginning]
    rows = np.arange(count)
    for place in range(FEWEST_FIRST, steps - 1):
        repeated = place >= first
        copied = ids[rows, np.maximum(1 + place - lag, 0)]
        ids[:, 1 + place] = np.where(repeated, copied, ids[:, 1 + place])
    return Texts(ids, first, lag)


def trained_lags(longest: int = MOST_FIRST) -> np.ndarray:
    """Lags that training uses, int64."""
    lags = np.arange(SHORTEST_LAG, longest + 1)
    return lags[lags % HELD_OUT != 0]


def held_out_lags() -> np.ndarray:
    """Lags that it never uses, int64."""
    lags = np.arange(SHORTEST_LAG, MOST_FIRST + 1)
    return lags[lags % HELD_OUT == 0]
