"""Stimulus text of the cerebellum phantom: a reach in words and numbers, or the name of a scenario.

    reach to 30 10 0 20 5 bias 2 0 0 0 0 noise 0.3 correlation 0.95 delay 2 trials 4 steps 16 seed 1
    ... local    ... contexts 2    ... push 0 3 0 0 0 at 40    ... drift 0.2 0 0 0 0

Convention. Five numbers are x, y, z (mm), theta_a, theta_b (degrees). Everything but the place is optional, in any order.

Left out: paths other than a reach from home.
"""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from math import isfinite
from typing import Any

from nmri3d.errors import InputError
from nmri3d.phantoms.cerebellum.config import AXES, Config
from nmri3d.phantoms.cerebellum.plant import Scenario

NAMED = {
    "calm reach": "reach to 30 10 0 20 5 noise 0.1",
    "loose tool": "reach to 30 10 0 20 5 bias 2 0 0 0 0",
    "two tools": "reach to -30 20 10 -15 10 bias 1 -1 0 2 0 contexts 2 trials 4",
    "worn spot": "reach to -20 30 20 0 -20 bias 0 2 0 0 1 local",
    "sudden push": "reach to 30 10 0 20 5 push 0 4 0 0 0 at 40",
    "warming up": "reach to -40 0 20 10 0 drift 0.5 0 0.5 0 0 trials 8 steps 8",
}
"""Scenarios by name."""

_FIVE = ("bias", "push", "drift")
_WHOLE = {"delay": (1, None), "trials": (1, None), "steps": (4, None), "seed": (0, 2**31), "contexts": (1, None)}
_REAL = {"noise": (0.0, 5.0), "correlation": (0.0, 0.99)}


def read_scenario(text: str, config: Config) -> Scenario:
    """The scenario that a text describes. Raises InputError that names the word that does not fit and what would."""
    asked = " ".join(text.lower().split()) if isinstance(text, str) else ""
    words = NAMED.get(asked, asked).replace(",", " ").split()
    if words[:2] != ["reach", "to"]:
        near = get_close_matches(asked, NAMED, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"or name one of {', '.join(NAMED)}"
        raise InputError(f"a stimulus starts with 'reach to' and five numbers (x y z theta_a theta_b); {hint}")
    found: dict[str, Any] = {"place": _five(words, 2, "reach to")}
    at = 7
    while at < len(words):
        word = words[at]
        if word in found:
            raise InputError(f"{word!r} stands twice in the stimulus; keep one")
        if word == "local":
            found["local"], at = True, at + 1
        elif word in _FIVE:
            found[word], at = _five(words, at + 1, word), at + 6
            if word == "push":
                if words[at : at + 1] != ["at"]:
                    raise InputError("a push needs the step at which it starts: push 0 3 0 0 0 at 40")
                found["push_at"], at = _number(words, at + 1, "at", whole=True), at + 2
        elif word in _WHOLE or word in _REAL:
            found[word], at = _number(words, at + 1, word, whole=word in _WHOLE), at + 2
        else:
            near = get_close_matches(word, (*_FIVE, *_WHOLE, *_REAL, "local"), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "it knows " + ", ".join((*_FIVE, *_WHOLE, *_REAL, "local"))
            raise InputError(f"the stimulus has no word {word!r}; {hint}")
    scenario = _fitted(found, config)
    check(scenario, config)
    return scenario


def write_scenario(scenario: Scenario) -> str:
    """The text that reads as this scenario."""
    words = ["reach to", *map(_text, scenario.place)]
    for field in fields(Scenario):
        value = getattr(scenario, field.name)
        if field.name in ("place", "push_at") or (field.name in _FIVE and not any(value)):
            continue
        if field.name == "local":
            words += ["local"] * value
        elif field.name in _FIVE:
            words += [field.name, *map(_text, value), *(["at", str(scenario.push_at)] if field.name == "push" else [])]
        else:
            words += [field.name, _text(value)]
    return " ".join(words)


def check(scenario: Scenario, config: Config) -> None:
    """Raises InputError where a scenario is outside what the machine can do."""
    for axis, value, reach in zip(AXES, scenario.place, config.reach, strict=True):
        if abs(value) > reach:
            raise InputError(f"{axis} {_text(value)} is out of reach; keep it between {-reach:g} and {reach:g}")
    upper = {"delay": config.max_delay, "contexts": config.contexts}
    for word, (low, high) in (_WHOLE | _REAL).items():
        value, high = getattr(scenario, word), upper.get(word, high)
        if value < low or (high is not None and value > high):
            limits = f"between {low:g} and {high:g}" if high is not None else f"at least {low:g}"
            raise InputError(f"{word} {_text(value)} is out of range; it must be {limits}")
    for word in _FIVE:
        if max(map(abs, getattr(scenario, word))) > 20:
            raise InputError(f"a {word} is at most 20 on each axis; make it smaller")
    total = scenario.trials * scenario.steps
    if total > config.max_steps:
        raise InputError(
            f"{scenario.trials} trials of {scenario.steps} steps are {total} steps, and a stimulus holds {config.max_steps}; "
            "take fewer trials or fewer steps"
        )
    if any(scenario.push) and not 0 <= scenario.push_at < total:
        raise InputError(
            f"the push starts at step {scenario.push_at}, and there are steps 0 to {total - 1}; choose one of these"
        )


def _fitted(found: dict[str, Any], config: Config) -> Scenario:
    """Trials and steps as given; what is missing follows from the room that there is."""
    if "trials" in found and "steps" not in found and found["trials"] > 0:
        found["steps"] = max(4, min(16, config.max_steps // found["trials"]))
    elif "steps" in found and "trials" not in found and found["steps"] > 0:
        found["trials"] = max(1, min(4, config.max_steps // found["steps"]))
    return Scenario(**found)


def _five(words: list[str], at: int, after: str) -> tuple[float, ...]:
    if len(words) < at + 5:
        raise InputError(f"{after!r} needs five numbers: x y z in mm, theta_a theta_b in degrees")
    return tuple(_number(words, at + axis, f"{after} ({name})") for axis, name in enumerate(AXES))


def _number(words: list[str], at: int, after: str, whole: bool = False) -> Any:
    kind = "a whole number" if whole else "a number"
    if at >= len(words):
        raise InputError(f"{after!r} needs {kind} after it")
    try:
        value = int(words[at]) if whole else float(words[at])
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise InputError(f"{after!r} needs {kind} after it, not {words[at]!r}")
    return value


def _text(value: float) -> str:
    return repr(value).removesuffix(".0")
