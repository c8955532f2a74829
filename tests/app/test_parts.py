"""What a person types for an experiment, read without a browser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nmri3d
from nmri3d.app.findings import MOST_EDGES, comparison_finding, paths_finding
from nmri3d.app.parts.experiments import read_metric, read_token, require_fit
from nmri3d.app.parts.stimulation import _read_edit
from nmri3d.errors import InputError
from tests.models.backends import tiny_backend

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_backend("llama")


def test_a_word_means_the_token_with_a_space_unless_it_is_quoted(model: Any) -> None:
    spaced, bare = model.token_id(" is"), model.token_id("is")
    assert spaced != bare
    for text in ("is", " is", "·is", '"·is"', '" is"'):
        assert read_token(model, text, "target") == spaced
    assert read_token(model, '"is"', "target") == bare
    assert read_token(model, "", "target") is None
    assert read_token(model, "  ", "target") is None
    with pytest.raises(InputError):
        read_token(model, "several words here", "target")
    with pytest.raises(InputError, match="target"):
        read_token(model, 7, "target")


def test_a_metric_of_empty_fields_is_the_default(model: Any) -> None:
    empty = {"corrupt": " ", "target": "", "foil": "", "position": -1}
    assert read_metric(model, empty) == {"corrupt": None, "target": None, "foil": None, "position": -1}
    for wrong in ({**empty, "position": "0"}, {**empty, "corrupt": None}, {}, None):
        with pytest.raises(InputError):
            read_metric(model, wrong)


def test_prompts_that_do_not_fit_are_told_with_their_lengths(model: Any) -> None:
    require_fit(model, PROMPT, None)
    counts = [len(model.stimulus(text)) for text in (PROMPT, "a")]
    with pytest.raises(InputError, match=f"they have {counts[0]} and {counts[1]}"):
        require_fit(model, PROMPT, "a")
    with pytest.raises(InputError, match="are the same"):
        require_fit(model, PROMPT, PROMPT)


@pytest.mark.parametrize(
    "message",
    [
        {"row": -1, "kind": "zero"},
        {"row": 1, "kind": "explode"},
        {"row": 1, "neuron": 0, "kind": "zero"},  # a head has no neurons
        {"row": 1, "kind": "amplify", "factor": math.inf},
        {"row": 1, "kind": "amplify", "factor": ""},
        {"row": 1, "kind": "noise", "sigma": -1, "seed": 0},
        {"row": 1, "kind": "noise", "sigma": 1, "seed": 0.5},
        {"row": 1, "kind": "inject", "values": "nan"},
        {"row": 1, "kind": "inject", "values": ""},
        {"row": 1, "kind": "zero", "position": 99},
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(model: Any, message: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        _read_edit(model, message, 7)


def test_an_edit_is_read_whole(model: Any) -> None:
    row = model.components.row("blocks.1.mlp")
    edit = _read_edit(model, {"row": row, "neuron": 3, "kind": "inject", "values": " 2.5 ", "position": 4.0}, 7)
    assert (edit.component, edit.kind, edit.values, edit.positions) == ("blocks.1.mlp.neuron_3", "inject", 2.5, (4,))
    many = _read_edit(model, {"row": row, "kind": "inject", "values": "1, 2;3\n4"}, 7)
    assert many.values == [1.0, 2.0, 3.0, 4.0]


def test_a_comparison_names_the_token_of_the_largest_change(model: Any) -> None:
    comparison = nmri3d.perturb(model, PROMPT, nmri3d.Edit("blocks.0.mlp", "zero"))
    told = comparison_finding(comparison)
    change = comparison.change
    for one in told["affected"]:
        column = np.abs(change[:, one["row"]])
        assert np.abs(one["change"]) == pytest.approx(column.max())
        assert one["token"] == comparison.tokens[one["step"]]
    sizes = [abs(one["change"]) for one in told["affected"]]
    assert sizes == sorted(sizes, reverse=True)


def test_only_the_strongest_edges_are_listed_and_all_are_counted(model: Any) -> None:
    scan = nmri3d.scan(model, "DTI", PROMPT, effect="zero", method="atp")
    told = paths_finding(scan, model, own_target=False, own_foil=True)
    assert told["count"] == scan.tracts.count
    assert len(told["items"]) == min(MOST_EDGES, len(scan.tracts))
    sizes = [abs(score) for *_, score in told["items"]]
    assert sizes == sorted(sizes, reverse=True)
    assert (told["own_target"], told["own_foil"]) == (False, True)
