"""Which programs are drawn: three task families, their lengths, and what is held out.

Convention. Everything that is held out is fixed here, by rule, before anything was trained:

    training     lengths up to the family's own (`TRAINING`), without the family's held-out pair of operations, and not in
                 the tenth of all programs whose hash says "test"
    in-dist      the same lengths and pairs, hash says "test"
    longer       lengths of `LONGER`, without the held-out pairs
    combinations training lengths, at least one held-out pair
    validation, validation-longer, validation-combinations
                 as these three, with another hash that none of them has: what was chosen was chosen on these

A length is the number of list operations, of moves, or of stretches under one cue. Held-out pairs (one right after the
other): "reverse" before "swap" and "shift" before "turn"; "back" before "hop"; "gold" before "red".
A batch is int64 arrays [programs, steps], padded by "wait"; `answers` is -1 where none is due.

Left out: what the answers are (`nmri3d.phantoms.biohama.language`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from nmri3d.phantoms.biohama.language import (
    CUES,
    LIST_OPERATIONS,
    MOVES,
    OPERATIONS,
    SYMBOLS,
    Step,
    interpret,
    write,
)

Family = Literal["composition", "chains", "context"]
Split = Literal[
    "training", "in-dist", "longer", "combinations", "validation", "validation-longer", "validation-combinations"
]

FAMILIES: tuple[Family, ...] = ("composition", "chains", "context")
SPLITS: tuple[Split, ...] = get_args(Split)
LISTED = 4
TRAINING = {"composition": (1, 5), "chains": (1, 3), "context": (1, 3)}
LONGER = {"composition": (6, 10), "chains": (4, 6), "context": (4, 6)}
HELD_OUT = frozenset({("reverse", "swap"), ("shift", "turn"), ("back", "hop"), ("gold", "red")})

NONE_DUE = -1

_TEST, _VALIDATION, _SHARES = 0, 1, 10


@dataclass(frozen=True, eq=False)
class Batch:
    """Programs as arrays: operations, symbols (0: none) and answers [n, steps], and the length of each [n]."""

    operations: np.ndarray
    symbols: np.ndarray
    answers: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.operations)

    def take(self, chosen: np.ndarray) -> Batch:
        """Some of the programs, without steps that all of them only wait."""
        operations = self.operations[chosen]
        steps = int(np.flatnonzero(operations.any(axis=0)).max(initial=0)) + 1
        return Batch(
            operations[:, :steps], self.symbols[chosen, :steps], self.answers[chosen, :steps], self.lengths[chosen]
        )


def programs(family: Family, split: Split, n: int, random: np.random.Generator) -> list[tuple[Step, ...]]:
    """Draw n programs of a family from a split."""
    low, high = (LONGER if split.endswith("longer") else TRAINING)[family]
    if split.endswith("combinations"):
        low = max(low, 2)
    drawn: list[tuple[Step, ...]] = []
    while len(drawn) < n:
        steps = _DRAW[family](int(random.integers(low, high + 1)), split.endswith("longer"), random)
        if belongs(steps, split):
            drawn.append(steps)
    return drawn


def batch(drawn: list[tuple[Step, ...]], zig: str | None = None) -> Batch:
    """Programs as arrays, with their answers."""
    steps = max(len(program) for program in drawn)
    operations, symbols = np.zeros((2, len(drawn), steps), np.int64)
    answers = np.full((len(drawn), steps), NONE_DUE, np.int64)
    for row, program in enumerate(drawn):
        due = interpret(program, zig)
        for column, (operation, symbol) in enumerate(program):
            operations[row, column] = OPERATIONS.index(operation)
            symbols[row, column] = 0 if symbol is None else 1 + SYMBOLS.index(symbol)
            answers[row, column] = NONE_DUE if (answer := due[column]) is None else answer
    return Batch(operations, symbols, answers, np.array([length_of(program) for program in drawn]))


def length_of(steps: tuple[Step, ...]) -> int:
    """Length of a program as its family counts it."""
    return sum(operation in (*LIST_OPERATIONS, *MOVES, *CUES, "zig") for operation, _ in steps)


def pairs_of(steps: tuple[Step, ...]) -> set[tuple[str, str]]:
    """Operations right after each other, of those that the program's length counts."""
    counted = [operation for operation, _ in steps if operation in (*LIST_OPERATIONS, *MOVES, *CUES)]
    return set(pairwise(counted))


def belongs(steps: tuple[Step, ...], split: Split) -> bool:
    """Whether a program is of a split, by its pairs and its hash; its length is not looked at."""
    if bool(pairs_of(steps) & HELD_OUT) != split.endswith("combinations"):
        return False
    share = zlib.crc32(write(steps).encode()) % _SHARES
    if split.startswith("validation"):
        return share == _VALIDATION
    return share != _VALIDATION and (share == _TEST if split == "in-dist" else split != "training" or share != _TEST)


def _composition(length: int, longer: bool, random: np.random.Generator) -> tuple[Step, ...]:
    loaded: list[Step] = [("put", SYMBOLS[i]) for i in random.integers(len(SYMBOLS), size=LISTED)]
    return (*loaded, *((LIST_OPERATIONS[i], None) for i in random.integers(len(LIST_OPERATIONS), size=length)))


def _chains(length: int, longer: bool, random: np.random.Generator) -> tuple[Step, ...]:
    """A path in two pieces, in either order, and moves along it that never leave it."""
    path = [
        SYMBOLS[i]
        for i in random.permutation(len(SYMBOLS))[: random.integers(7, 9) if longer else random.integers(4, 7)]
    ]
    cut = int(random.integers(1, len(path) - 1))
    pieces = [path[: cut + 1], path[cut:]]
    if random.random() < 0.5:
        pieces.reverse()
    steps: list[Step] = [("visit", symbol) for symbol in pieces[0]]
    steps += [("lift", None), *(("visit", symbol) for symbol in pieces[1])]
    place = int(random.integers(len(path)))
    steps.append(("at", path[place]))
    onward = random.random() < 0.5
    for _ in range(length):
        if random.random() < 0.3:
            onward = not onward
        if not 0 <= place + (1 if onward else -1) < len(path):
            onward = not onward
        place += 1 if onward else -1
        steps.append(("hop" if onward else "back", None))
    return tuple(steps)


def _context(length: int, longer: bool, random: np.random.Generator) -> tuple[Step, ...]:
    steps: list[Step] = []
    cue = ""
    for _ in range(length):
        cue = str(random.choice([other for other in CUES if other != cue]))
        steps.append((cue, None))
        steps += [("see", SYMBOLS[i]) for i in random.integers(len(SYMBOLS), size=random.integers(1, 4))]
    return tuple(steps)


_DRAW = {"composition": _composition, "chains": _chains, "context": _context}
