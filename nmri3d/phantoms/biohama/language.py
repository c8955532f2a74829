"""The little language that BioHama runs: a program is a list of steps, a step an operation with or without a symbol.

    composition   put c, put a, put d, put b, reverse, turn     a list is loaded and changed; the answer is its front
    chains        visit a, visit d, lift, visit b, visit a, at b, hop, back
                                                                a path is walked (lift: walk on elsewhere); hop and back go
                                                                along it from where one is; the answer is where one is then
    context       red, see c, blue, see a, red, see b           a cue changes the rule by which a symbol is answered:
                                                                red: the symbol seen last under red; blue: the symbol's
                                                                successor; gold: the symbol seen last under any cue

Convention. Symbols are a ring of eight letters. `interpret` is the ground truth: the answer due at every step, as an output
number (0 is the answer "-", nothing; symbols from 1), or None where none is due. It is plain Python and shares no code with
the networks.
`zig` is a word without a meaning: networks are never trained on it, it is given one when few-shot adaptation is measured.

Left out: which programs are drawn (`nmri3d.phantoms.biohama.tasks`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nmri3d.errors import InputError

SYMBOLS = "abcdefgh"
WITH_SYMBOL = ("put", "visit", "at", "see")
LIST_OPERATIONS = ("reverse", "turn", "swap", "shift")
MOVES = ("hop", "back")
CUES = ("red", "blue", "gold")
OPERATIONS = ("wait", *WITH_SYMBOL, *LIST_OPERATIONS, *MOVES, "lift", *CUES, "zig")
OUTPUTS = ("-", *SYMBOLS)

LONGEST = 48
"""Steps that a program may have."""

Step = tuple[str, str | None]


def read(text: str) -> tuple[Step, ...]:
    """The steps of a program that a person typed; commas, semicolons and line ends are spaces.

    A symbol without an operation repeats the operation before it: "put c a" is "put c, put a". Raises InputError.
    """
    words = re.sub(r"[,;]", " ", text.lower()).split() if isinstance(text, str) else []
    if not words:
        raise InputError("a program has at least one step; try: put c a d b, reverse, turn")
    steps: list[Step] = []
    waiting: str | None = None
    for word in words:
        if waiting is not None and word not in SYMBOLS:
            raise InputError(f"{waiting!r} needs a symbol of {' '.join(SYMBOLS)}, got {word!r}")
        if word in SYMBOLS and len(word) == 1:
            operation = waiting or (steps[-1][0] if steps and steps[-1][1] else None)
            if operation is None:
                raise InputError(
                    f"the symbol {word!r} has no operation; write one of {', '.join(WITH_SYMBOL)} before it"
                )
            steps.append((operation, word))
            waiting = None
        elif word in WITH_SYMBOL:
            waiting = word
        elif word in OPERATIONS:
            steps.append((word, None))
        else:
            raise InputError(f"there is no operation {word!r}; the operations are {', '.join(OPERATIONS)}")
    if waiting is not None:
        raise InputError(f"{waiting!r} needs a symbol of {' '.join(SYMBOLS)}, and the program ends")
    if len(steps) > LONGEST:
        raise InputError(f"a program has at most {LONGEST} steps, this one has {len(steps)}; shorten it")
    return tuple(steps)


def write(steps: Sequence[Step]) -> str:
    """The inverse of `read`."""
    return ", ".join(label(step) for step in steps)


def label(step: Step) -> str:
    """A step as it is shown."""
    return step[0] if step[1] is None else f"{step[0]} {step[1]}"


def successor(symbol: str) -> str:
    """The next symbol on the ring."""
    return SYMBOLS[(SYMBOLS.index(symbol) + 1) % len(SYMBOLS)]


def rule_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """What each step asks for: its operation, and for `see` the cue with it ("see/red")."""
    cue, rules = "", []
    for operation, _ in steps:
        cue = operation if operation in CUES else cue
        rules.append(f"see/{cue}" if operation == "see" and cue else operation)
    return tuple(rules)


def interpret(steps: Sequence[Step], zig: str | None = None) -> tuple[int | None, ...]:
    """The answer due at every step, as a number of `OUTPUTS`; None where none is due.

    zig   the operation that "zig" stands for, or "mirror" (every symbol becomes its opposite: a h, b g, ...)
    """
    listed: list[str] = []
    after: dict[str, str] = {}
    before: dict[str, str] = {}
    here: str | None = None
    last: str | None = None
    cue: str | None = None
    seen: dict[str, str] = {}
    answers: list[int | None] = []
    for word, symbol in steps:
        operation = zig if word == "zig" and zig else word
        answer: str | None = None
        if operation == "put" and symbol:
            listed.append(symbol)
        elif operation in (*LIST_OPERATIONS, "mirror"):
            listed = _changed(listed, operation)
            answer = listed[0] if listed else None
        elif operation == "visit" and symbol:
            if last is not None:
                after[last], before[symbol] = symbol, last
            last = symbol
        elif operation == "lift":
            last = None
        elif operation == "at":
            here = symbol
        elif operation in MOVES and here is not None:
            here = (after if operation == "hop" else before).get(here)
            answer = here
        elif operation in CUES:
            cue = operation
        elif operation == "see" and symbol and cue:
            answer = {"red": seen.get("red", "-"), "blue": successor(symbol), "gold": seen.get("any", "-")}[cue]
            seen[cue] = seen["any"] = symbol
        answers.append(None if answer is None else OUTPUTS.index(answer))
    return tuple(answers)


def _changed(listed: list[str], operation: str) -> list[str]:
    match operation:
        case "reverse":
            return listed[::-1]
        case "turn":
            return listed[1:] + listed[:1]
        case "swap":
            return listed[1::-1] + listed[2:]
        case "shift":
            return [successor(symbol) for symbol in listed]
    return [SYMBOLS[len(SYMBOLS) - 1 - SYMBOLS.index(symbol)] for symbol in listed]
