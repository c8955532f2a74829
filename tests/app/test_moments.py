"""What stands after the events of a session, worked out by hand and by laws; no browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.app.moments import LONGEST_WORDS, Moment, edit_in_words, in_words
from nmri3d.app.parts.recording import read_view
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.service.sessions import EVENT_KINDS


@dataclass(frozen=True)
class Event:
    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    result: str | None = ""


def after(*events: Event) -> Moment:
    return reduce(lambda moment, event: moment.after(event), events, Moment())


MODEL = Event("model", {"model_id": "a/b", "fingerprint": "f", "title": "B"})
T1 = Event("scan", {"mode": "T1"}, "t1")
FMRI = Event("scan", {"mode": "fMRI", "prompt": "Hello", "steps": 3}, "fmri")
VIEW = Event("view", {"mode": "fMRI", "step": 1, "painting": "", "surface": "pial", "selected": "embed"})


def zero(component: str, result: str | None = "c") -> Event:
    return Event("edit", {"prompt": "Hello", "edit": {"component": component, "kind": "zero"}}, result)


def test_a_scan_is_shown_at_its_last_token_until_the_view_says_otherwise() -> None:
    assert (after(MODEL, T1).mode, after(MODEL, T1, FMRI).mode, after(MODEL, T1, FMRI).step) == ("T1", "fMRI", None)
    moment = after(MODEL, T1, FMRI, VIEW)
    assert (moment.mode, moment.step, dict(moment.view)) == ("fMRI", 1, VIEW.data)
    assert moment.scans == {"T1": T1, "fMRI": FMRI}
    again = moment.after(Event("scan", {"mode": "fMRI", "prompt": "Other"}, "x"))
    assert (again.step, again.scans["fMRI"].result, again.view) == (None, "x", VIEW.data)


def test_another_model_leaves_the_view_alone() -> None:
    moment = after(MODEL, T1, FMRI, zero("embed"), VIEW, MODEL)
    assert (dict(moment.scans), moment.edits, moment.comparison, moment.runs, moment.mode) == ({}, (), None, {}, "T1")
    assert moment.view == VIEW.data


def test_the_stack_of_edits_and_what_it_paints() -> None:
    first, second = zero("embed", "c1"), zero("blocks.0.mlp", "c2")
    moment = after(MODEL, FMRI, first, second)
    assert (moment.edits, moment.comparison, moment.painting) == ((first.data, second.data), second, "change")
    back = moment.after(Event("undo", {"prompt": "Hello"}, "c1"))
    assert (back.edits, back.comparison.result, back.painting) == ((first.data,), "c1", "change")
    none = back.after(Event("undo", {"prompt": "Hello"}))
    assert (none.edits, none.comparison, none.painting) == ((), None, "")
    assert moment.after(Event("reset")).edits == ()
    # One in the middle is taken out: all dropped, and the others measured again.
    retold = moment.after(Event("reset", {"again": True})).after(zero("embed", None)).after(zero("unembed", "c3"))
    assert [one["edit"]["component"] for one in retold.edits] == ["embed", "unembed"]
    assert retold.comparison.result == "c3"
    # In another tab than fMRI nothing else is painted.
    assert after(MODEL, FMRI, T1, first).painting == ""


def test_a_new_scan_takes_the_place_of_what_was_painted_over_it() -> None:
    swept = after(MODEL, FMRI, Event("sweep", {"prompt": "Hello"}, "s"))
    assert (swept.mode, swept.painting) == ("DTI", "sweep")
    assert swept.after(Event("scan", {"mode": "DTI"}, "d")).painting == ""
    assert swept.after(FMRI).painting == "sweep"


def test_a_note_is_of_its_own_event_only() -> None:
    noted = after(MODEL, Event("note", {"text": "look"}))
    assert (noted.note, noted.after(T1).note) == ("look", "")


EVENTS = st.lists(
    st.sampled_from([
        T1, FMRI, VIEW, zero("embed"), zero("blocks.0.mlp"), Event("undo", {}, "u"), Event("reset"),
        Event("trace", {"clean": "Hello"}, "t"), Event("sweep", {"prompt": "Hello"}, "s"), Event("note", {"text": "x"}),
        Event("generate", {"prompt": "Hello", "tokens": [1]}, "g"), Event("scan", {"mode": "DTI"}, "d"),
    ]),
    max_size=12,
)  # fmt: skip


@given(EVENTS)
def test_retold_in_the_fewest_events_the_same_stands(events: list[Event]) -> None:
    moment = after(MODEL, *events)
    told = after(*(Event(*one) for one in moment.retold()))
    assert told.scans.keys() == moment.scans.keys()
    assert {mode: event.result for mode, event in told.scans.items()} == {
        mode: event.result for mode, event in moment.scans.items()
    }
    assert told.edits == moment.edits
    assert {name: run.result for name, run in told.runs.items()} == {
        name: run.result for name, run in moment.runs.items()
    }
    if moment.edits:
        assert (told.comparison and told.comparison.result) == (moment.comparison and moment.comparison.result)
    assert len(moment.retold()) <= len(events) + 1
    if moment.mode in moment.scans:
        assert moment.painting == "sweep" or told.mode == moment.mode


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    "mode",
    "prompt",
    "steps",
    "edit",
    "text",
    "title",
    "model_id",
    "tokens",
    "step",
    "painting",
    "selected",
    "again",
)


@given(st.sampled_from(EVENT_KINDS), st.dictionaries(st.sampled_from(NAMES), JSON))
def test_whatever_stands_in_a_file_there_are_short_words_for_it(kind: str, data: dict[str, Any]) -> None:
    words = in_words(Event(kind, data, "r"), "token")
    assert 0 < len(words) <= LONGEST_WORDS
    assert "\n" not in words
    moment = Moment().after(Event(kind, data, "r"))
    assert moment.mode in ("T1", "T2", "fMRI", "DTI", "FLAIR")
    assert moment.step is None or moment.step >= 0


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (MODEL, "model: B"),
        (Event("model", {"model_id": "a/b"}), "model: a/b"),
        (T1, "T1"),
        (FMRI, "fMRI, 3 tokens: Hello"),
        (Event("scan", {"mode": "fMRI", "prompt": "Hello"}), "fMRI: Hello"),
        (zero("blocks.3.attn.head_7"), "zero blocks.3.attn.head_7"),
        (Event("undo"), "the last edit taken back"),
        (Event("reset"), "all edits dropped"),
        (Event("trace", {"clean": "Hello", "corrupt": "Bye"}), "causal trace: Hello"),
        (Event("generate", {"prompt": "Hello", "tokens": [1, 2], "text": " wide\nworld"}), "generated 2 tokens: wide world"),
        (VIEW, "view: fMRI, token 1, pial, embed"),
        (Event("note", {"text": "look\nhere"}), "note: look here"),
    ],
)  # fmt: skip
def test_words(event: Event, words: str) -> None:
    assert in_words(event, "token") == words


def test_steps_have_the_name_that_the_model_gives_them() -> None:
    """A session of a language model need not say, as those did not that were recorded before other networks were."""
    rounds = Event("model", {**MODEL.data, "step_axis": "task step"})
    axis = after(rounds, FMRI).step_axis
    assert in_words(FMRI, axis) == "fMRI, 3 task steps: Hello"
    assert in_words(VIEW, axis) == "view: fMRI, task step 1, pial, embed"
    record = {"component": "embed", "kind": "zero", "positions": [4]}
    assert in_words(Event("edit", {"edit": record}), axis) == "zero embed, at task step 4"
    assert after(rounds, FMRI, MODEL).step_axis == after(MODEL).step_axis == after().step_axis == "token"
    assert after(Event("model", {"step_axis": 3})).step_axis == "token"


def test_an_edit_in_words_names_its_size_source_and_tokens() -> None:
    amplify = {"component": "embed", "kind": "amplify", "factor": 2.5}
    assert edit_in_words(amplify, "token") == "amplify 2.5× embed"
    noise = {"component": "embed", "kind": "noise", "sigma": 1.0, "seed": 3}
    assert edit_in_words(noise, "token") == "noise 1 σ embed"
    patch = {"component": "embed", "kind": "patch", "source": "Bye", "positions": [1, 2]}
    assert edit_in_words(patch, "token") == "patch embed, from “Bye”, at tokens 1, 2"


COMPONENTS = ComponentTable(np.array(["embed", "head", "mlp"]), [-1, 0, 0], [-1, 0, -1], [4, 3, 2])

WELL = {
    "mode": "fMRI",
    "step": 2.0,
    "painting": "change",
    "selected": "blocks.0.mlp",
    "surface": "pial",
    "layout": "anatomical",
    "view": "overview",
    "threshold": 0.5,
    "palette": "standard",
    "glass": True,
    "camera": {"position": [0, 0, 400], "focalPoint": [0, 0, 0], "viewUp": [0, 1, 0], "viewAngle": 30},
}


def test_a_view_is_read_whole_and_its_own_reading_is_read_again() -> None:
    view = read_view(WELL, COMPONENTS, None)
    assert view["step"] == 2
    assert view["camera"]["position"] == [0.0, 0.0, 400.0]
    assert read_view(view, COMPONENTS, None) == view


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "T9"},
        {"step": -1},
        {"step": True},
        {"painting": "nothing"},
        {"selected": None},
        {"selected": "blocks.99.mlp"},
        {"surface": "../x"},
        {"threshold": 2},
        {"palette": 1},
        {"camera": None},
        {"camera": {**WELL["camera"], "position": [0, 0, float("nan")]}},  # type: ignore[dict-item]
        {"camera": {**WELL["camera"], "viewUp": [0, 0, 1]}},  # type: ignore[dict-item]
    ],
)
def test_a_view_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        read_view({**WELL, **change}, COMPONENTS, None)
