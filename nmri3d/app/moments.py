"""A moment of a recorded session: what stood on the page after an event, and the event in words.

Convention. A moment follows from the one before it and one event, which has `kind`, `data` and `result` (a
`SessionEvent`, or what is about to become one). A result is not looked into here; whoever shows it opens it. Data may come
from another machine: what does not fit is passed over, not believed.

Left out: opening results and showing them (parts/replaying.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nmri3d.results import MODES

EDIT_PAINTINGS = ("before", "after", "change")
PAINTINGS = {**dict.fromkeys(EDIT_PAINTINGS, "fMRI"), "sweep": "DTI"}
"""What may be painted instead of a tab's own scan, and in which tab."""

RUNS = ("trace", "sweep")
LONGEST_WORDS = 200


class Happening(Protocol):
    """An event, or what is about to become one."""

    @property
    def kind(self) -> str: ...

    @property
    def data(self) -> Mapping[str, Any]: ...

    @property
    def result(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Moment:
    """What stands after an event.

    model       event of the model that is loaded; scans: the last event of each mode on it
    edits       data of the edits that are in force, in their order; comparison: the event that measured them, None if
                there are none or their measurement was not recorded
    runs        the last trace and the last sweep, by name
    mode, step  the open tab and the step, None for the last; painting: what is painted instead of the tab's scan, or ""
    view        data of the last view, {} before the first
    note        the words of a note, "" for any other event
    """

    model: Happening | None = None
    scans: Mapping[str, Happening] = field(default_factory=dict)
    edits: tuple[Mapping[str, Any], ...] = ()
    comparison: Happening | None = None
    runs: Mapping[str, Happening] = field(default_factory=dict)
    mode: str = "T1"
    step: int | None = None
    painting: str = ""
    view: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def step_axis(self) -> str:
        """What a step is on the model that is loaded; sessions that do not say are of language models."""
        return ("" if self.model is None else _text(self.model.data, "step_axis")) or "token"

    def after(self, event: Happening) -> Moment:
        """What stands after one more event."""
        now, data = replace(self, note=""), event.data
        match event.kind:
            case "model":
                return Moment(model=event, view=self.view)
            case "scan" if data.get("mode") in MODES and data.get("level") != "neuron":
                return now._scanned(data["mode"], event)
            case "generate":
                return now._scanned("fMRI", event)
            case "edit":
                return replace(now, edits=(*now.edits, data))._compared(event)
            case "undo":
                return replace(now, edits=now.edits[:-1])._compared(event)
            case "reset":
                return replace(now, edits=())._compared(event)
            case "trace" | "sweep":
                now = replace(now, runs={**now.runs, event.kind: event})
                return replace(now, painting="sweep", mode="DTI", step=None) if event.kind == "sweep" else now
            case "view":
                return now._viewed(data)
            case "note":
                return replace(now, note=str(data.get("text", "")))
        return now

    def _scanned(self, mode: str, event: Happening) -> Moment:
        painting = "" if PAINTINGS.get(self.painting) == mode else self.painting
        return replace(self, scans={**self.scans, mode: event}, mode=mode, step=None, painting=painting)

    def _compared(self, event: Happening) -> Moment:
        """The stack of edits is another one, and was measured unless it is empty."""
        comparison = event if event.result and self.edits else None
        painting = self.painting
        if painting in EDIT_PAINTINGS and comparison is None:
            painting = ""
        elif comparison is not None and self.mode == "fMRI" and painting not in ("before", "after"):
            painting = "change"
        return replace(self, comparison=comparison, painting=painting)

    def _viewed(self, data: Mapping[str, Any]) -> Moment:
        mode, step = data.get("mode"), data.get("step")
        painting = data.get("painting", "")
        return replace(
            self,
            view=data,
            mode=mode if mode in MODES else self.mode,
            step=step if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None,
            painting=painting if isinstance(painting, str) and painting in PAINTINGS else "",
        )

    def retold(self) -> list[tuple[str, Mapping[str, Any], Any]]:
        """The fewest events, as (kind, data, result), after which the same stands; the view left out."""
        told = [] if self.model is None else [self.model]
        told += self.runs.values()
        told += sorted(self.scans.values(), key=lambda event: event.data.get("mode", "fMRI") == self.mode)
        events = [(event.kind, event.data, event.result) for event in told]
        measured = None if self.comparison is None else self.comparison.result
        last = len(self.edits) - 1
        return events + [("edit", data, measured if at == last else None) for at, data in enumerate(self.edits)]


def in_words(event: Happening, step_axis: str) -> str:
    """An event in one line, whoever recorded it; `step_axis` as in `Moment`."""
    data = event.data
    prompt = _text(data, "prompt") or _text(data, "clean")
    match event.kind:
        case "model":
            words = f"model: {_text(data, 'title') or _text(data, 'model_id')}"
        case "scan":
            words = f"{_text(data, 'mode')}{_count(data, 'steps', step_axis)}" + (f": {prompt}" if prompt else "")
        case "generate":
            tokens = data.get("tokens")
            words = (
                f"generated {len(tokens) if isinstance(tokens, list) else ''} tokens: {_text(data, 'text') or prompt}"
            )
        case "edit":
            words = edit_in_words(data.get("edit"), step_axis)
        case "undo":
            words = "the last edit taken back"
        case "reset":
            words = "the edits measured anew:" if data.get("again") is True else "all edits dropped"
        case "trace":
            words = f"causal trace: {prompt}"
        case "sweep":
            words = f"sweep: {prompt}"
        case "view":
            words = _view_in_words(data, step_axis)
        case "note":
            words = f"note: {_text(data, 'text')}"
        case other:
            words = other
    words = " ".join(words.split()) or event.kind
    return words if len(words) <= LONGEST_WORDS else words[: LONGEST_WORDS - 1] + "…"


def edit_in_words(record: Any, step_axis: str) -> str:
    """An edit's record, as `Edit.as_record` gives it, in words."""
    if not isinstance(record, Mapping):
        return "edit"
    kind, positions = _text(record, "kind"), record.get("positions")
    size = {"amplify": ("factor", "×"), "noise": ("sigma", " σ")}.get(kind)
    words = f"{kind} {_text(record, 'component')}"
    if size is not None and isinstance(record.get(size[0]), int | float):
        words = words.replace(" ", f" {record[size[0]]:g}{size[1]} ", 1)
    if kind == "patch":
        words += f", from “{_text(record, 'source')}”"
    if isinstance(positions, list) and positions:
        words += f", at {step_axis}{'s' if len(positions) > 1 else ''} {', '.join(map(str, positions))}"
    return words


def _view_in_words(data: Mapping[str, Any], step_axis: str) -> str:
    parts = [_text(data, "mode")]
    if isinstance(data.get("step"), int) and data.get("mode") in ("fMRI", "FLAIR"):
        parts.append(f"{step_axis} {data['step']}")
    if _text(data, "painting"):
        parts.append({"change": "change by the edits", "before": "before the edits", "after": "after the edits"}.get(
            data["painting"], _text(data, "painting")
        ))  # fmt: skip
    parts += [_text(data, "surface"), _text(data, "selected")]
    return "view: " + ", ".join(part for part in parts if part)


def _count(data: Mapping[str, Any], name: str, what: str) -> str:
    number = data.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        return ""
    return f", {number} {what}{'' if number == 1 else 's'}"


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
