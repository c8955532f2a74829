"""The notebooks run from top to bottom on the real model, and what they show is really there."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def outputs(book: Any, kind: str) -> list[Any]:
    """Contents of one media type, over all cells."""
    shown = [output.get("data", {}) for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return [data[kind] for data in shown if kind in data]


def printed(book: Any) -> str:
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_valid_and_carry_no_outputs(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.model
@pytest.mark.timeout(900)
def test_the_quick_start_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.delenv("NMRI3D_JUPYTER", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH", "")]))
    book = nbformat.read(NOTEBOOKS / "quick_start.ipynb", as_version=4)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    said = printed(book)
    assert "30 layers of 9 heads" in said
    before = next(line for line in said.splitlines() if line.lstrip().startswith("before"))
    after = next(line for line in said.splitlines() if line.lstrip().startswith("after"))
    assert before.split()[1:3] == ["'", "Mary'"]  # the answer, before anything is silenced
    assert before != after

    # each brain shows itself twice over: live, and as a picture where nothing is behind it
    pictures = [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in outputs(book, "image/png")]
    assert len(pictures) == 3
    assert len(outputs(book, "application/vnd.jupyter.widget-view+json")) == 3
    for picture in pictures:
        assert (np.ptp(np.asarray(picture).astype(int), axis=-1) > 60).mean() > 0.01

    files = {path.name: path.stat().st_size for path in (tmp_path / "quick_start_files").iterdir()}
    assert set(files) == {"figure.png", "tokens.gif", "brain.html", "brain.glb"}
    with Image.open(tmp_path / "quick_start_files" / "tokens.gif") as movie:
        assert movie.size == (640, 360)
        assert movie.n_frames > 14  # one a token would be a slide show


@pytest.mark.timeout(900)
def test_the_calibration_finds_what_it_says(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.delenv("NMRI3D_JUPYTER", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH", "")]))
    book = nbformat.read(NOTEBOOKS / "calibration.ipynb", as_version=4)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = printed(book)
    assert "phantom:cerebellum" in said
    assert said.count("not found") >= 7
    (table,) = outputs(book, "text/markdown")
    assert table.count("| found |") >= 7
    assert "MISSED" not in table
    assert len(list((tmp_path / "calibration_files").glob("cerebellum-*.png"))) >= 7
    assert len(outputs(book, "image/png")) == 2
