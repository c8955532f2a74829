"""One event of a session, what its data may be, and what the events of a session add up to.

Convention. Data are plain JSON values as a reader of the file gets them: tuples become lists, numpy's numbers become plain
ones. What JSON cannot say is refused, not bent: NaN and infinities, lone surrogates, whole numbers beyond 64 bits.

Left out: the disk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmri3d.errors import InputError

EVENT_KINDS = ("model", "scan", "edit", "undo", "reset", "trace", "sweep", "generate", "view", "note")

MOST_EVENT_BYTES = 16 * 2**20
"""Bytes of one event's data; larger things are results, which are files."""

_MOST_DEPTH = 32


@dataclass(frozen=True)
class SessionEvent:
    """One thing that happened.

    number  from 0 on, without gaps
    at      time, ISO 8601 with offset
    kind    one of EVENT_KINDS
    data    plain JSON values, by kind (further names may stand beside these):
              model     {"model_id", "fingerprint"}; "step_axis" beside them where a step is no token
              scan      {"mode", "prompt", "options"}; {"level": "neuron"} beside them for a scan of neurons
              edit      {"prompt", "edit"}, the edit as `Edit.as_record()`; the result is the comparison of the whole stack
              undo      {"prompt"}; the last edit is taken back; a result is the comparison of what is left
              reset     {}; all edits are taken back
              trace     {"clean", "corrupt", "options"}
              sweep     {"prompt", "options"}
              generate  {"prompt", "n_tokens", "temperature", "seed", "tokens"}, the tokens as ids; a result is the last scan
              view      {"camera", "step", "mode", "surface", "selected"}
              note      {"text"}
            `options` are those of the function of `nmri3d` that measures it
    result  hash of its result's file, "" without one
    """

    number: int
    at: str
    kind: str
    data: Mapping[str, Any]
    result: str = ""


def stack_of_edits(events: Iterable[SessionEvent]) -> tuple[Mapping[str, Any], ...]:
    """The stack of edits that events leave, as plain records: edit pushes, undo pops, reset and model clear."""
    stack: list[Mapping[str, Any]] = []
    for event in events:
        if event.kind == "edit":
            stack.append(event.data["edit"])
        elif event.kind == "undo":
            del stack[-1:]
        elif event.kind in ("reset", "model"):
            stack.clear()
    return tuple(stack)


def last_fingerprint(events: Sequence[SessionEvent]) -> str | None:
    """Fingerprint of the weights that the last event was about, None before any "model" event."""
    return next((event.data["fingerprint"] for event in reversed(events) if event.kind == "model"), None)


def plain_data(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of an event of this kind as plain JSON values. Raises InputError for what an event cannot hold."""
    if kind not in EVENT_KINDS:
        raise InputError(f"there is no event {kind!r}; the events are {', '.join(EVENT_KINDS)}")
    plain = _plain(data, "data", 0)
    if not isinstance(plain, dict):
        raise InputError(f"the data of an event are a mapping of names to values, not {type(data).__name__}")
    if kind == "edit" and not isinstance(plain.get("edit"), dict):
        raise InputError("an event 'edit' needs its edit as a record; give data with the name 'edit'")
    if kind == "model" and not all(isinstance(plain.get(name), str) for name in ("model_id", "fingerprint")):
        raise InputError("an event 'model' needs the texts 'model_id' and 'fingerprint'")
    return plain


def json_text(value: Any) -> str:
    """Plain values as one line of JSON; equal values give equal texts."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, where)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InputError(f"{where} is a whole number of more than 64 bits, which cannot be recorded")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{where} is {value}, which JSON cannot say; leave it out, or give null")
        return float(value)
    if depth >= _MOST_DEPTH:
        raise InputError(f"an event's data are nested more than {_MOST_DEPTH} deep; make them flatter")
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_plain_name(name, where): _plain(item, f"{where}.{name}", depth + 1) for name, item in value.items()}
    raise InputError(
        f"{where} is a {type(value).__name__}; an event holds texts, numbers, true, false, null, lists and mappings"
    )


def _plain_name(name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise InputError(f"a name in {where} is {name!r}; names of an event's data are texts")
    return _plain_text(name, f"a name in {where}")


def _plain_text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where!a} holds half a character (a lone surrogate), which cannot be written") from None
    return str(text)
