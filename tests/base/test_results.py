"""Saving, opening and labelling scans."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError, InputError
from nmri3d.results import Provenance, Scan, open_scan
from tests.base.test_components import table

labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def scan_of(values: np.ndarray, tokens: tuple[str, ...], components: ComponentTable | None = None) -> Scan:
    return Scan(
        mode="fMRI",
        values=values,
        units="L2 norm of the write",
        components=components or table(),
        tokens=tokens,
        provenance=Provenance("tiny", "0" * 64, "a prompt", {"aggregation": "l2_norm"}, {"numpy": "2"}, seconds=0.5),
        details={"residual": np.ones((3, len(tokens)), dtype=np.float32)},
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_saved_scan_opens_as_it_was(data):
    tokens = tuple(data.draw(st.lists(labels, min_size=1, max_size=4)))
    floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
    values = data.draw(hnp.arrays(np.float32, (len(tokens), len(table())), elements=floats))
    scan = scan_of(values, tokens)
    with tempfile.TemporaryDirectory() as folder:
        again = open_scan(scan.save(Path(folder) / "scan"))
    np.testing.assert_array_equal(again.values, scan.values)
    assert again.values.dtype == scan.values.dtype
    assert (again.tokens, again.units, again.mode, again.signed) == (scan.tokens, scan.units, scan.mode, scan.signed)
    assert again.components == scan.components
    assert again.provenance == scan.provenance
    np.testing.assert_array_equal(again.details["residual"], scan.details["residual"])


def test_values_that_do_not_fit_the_table_are_refused():
    with pytest.raises(AlignmentError, match=r"\(2, 8\), got \(2, 7\)"):
        scan_of(np.zeros((2, 7), dtype=np.float32), ("a", "b"))


def test_labelled_forms_hold_the_values_under_their_names():
    values = np.arange(16, dtype=np.float32).reshape(2, 8)
    scan = scan_of(values, ("The", " cat"))
    array = scan.to_xarray()
    assert float(array.sel(component="blocks.1.mlp").isel(step=1)) == values[1, 6]
    assert array.attrs["units"] == scan.units
    frame = scan.to_pandas()
    assert len(frame) == 16
    row = frame[(frame.step == 1) & (frame.component == "blocks.1.attn.head_1")].iloc[0]
    assert (row.value, row.token, row.layer) == (values[1, 5], " cat", 1)


def test_opening_what_is_no_scan_is_refused_in_words(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        open_scan(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(InputError, match="not a result that nmri3d saved"):
        open_scan(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    with pytest.raises(InputError, match="not a result that nmri3d saved"):
        open_scan(tmp_path / "other.npz")


def test_a_save_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    scan = scan_of(np.zeros((1, 8), dtype=np.float32), ("a",))
    pickled = Scan(**{**scan.__dict__, "details": {"bad": np.array([object()])}})
    with pytest.raises(InputError, match="details/bad"):
        pickled.save(tmp_path / "scan")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_refused(tmp_path):
    path = scan_of(np.zeros((1, 8), dtype=np.float32), ("a",)).save(tmp_path / "scan.npz")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="damaged"):
        open_scan(path)
