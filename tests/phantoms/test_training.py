"""Studies that can be stopped and taken up again, and figures as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nmri3d.errors import Cancelled, ModelFormatError, ModelNotFoundError
from nmri3d.models.backend import Progress
from nmri3d.phantoms import registry
from nmri3d.phantoms.registry import PHANTOMS, folder_of, recipe_of, shipped
from nmri3d.phantoms.training import STUDY, Figures, Run, study, tables_of, write_figures


class Counting:
    """A recipe whose runs count how often they were done."""

    shipped_seed = 0

    def __init__(self) -> None:
        self.done: list[Run] = []

    def ship(self, seed: int, progress: Progress) -> Any:
        raise NotImplementedError

    def runs(self) -> Sequence[Run]:
        return [Run(name, seed) for name in ("network", "without router") for seed in (0, 1)]

    def run(self, run: Run, progress: Progress) -> Figures:
        progress(0.5, "training")
        self.done.append(run)
        return {"accuracy": 0.5 + 0.1 * run.seed}

    def summary(self, figures: Mapping[Run, Figures]) -> str:
        return "\n".join(f"{run.key} {figures[run]['accuracy']}" for run in figures)


def test_a_study_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    recipe = Counting()

    def stop_in_the_third(share: float, what: str) -> None:
        if share > 0.5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        study(recipe, tmp_path, stop_in_the_third)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "network.seed0.json",
        "network.seed1.json",
        "study.json",
    ]
    assert tables_of(recipe, tmp_path / STUDY) == "network.seed0 0.5\nnetwork.seed1 0.6"
    said: list[str] = []
    report = study(recipe, tmp_path, lambda share, what: said.append(what))
    assert recipe.done == list(recipe.runs())  # none twice
    assert report.splitlines()[-1] == "without-router.seed1 0.6"
    assert said == ["without router, seed 0: training", "without router, seed 1: training"]
    assert json.loads((tmp_path / "network.seed0.json").read_text())["machine"].startswith("Python 3")


def test_figures_are_numbers_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_figures(tmp_path / "figures.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    for ask in (shipped, recipe_of, folder_of):
        with pytest.raises(ModelNotFoundError, match=r"no phantom 'sprot'; choose one of sprout, biohama"):
            ask("sprot")
    assert list(PHANTOMS) == ["sprout", "biohama", "world-model", "cerebellum", "induction"]


@pytest.mark.parametrize("damage", [None, "", "{", "{}", '{"settings": {"no_such": 1}}'])
def test_damaged_weights_are_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    kept = folder_of("induction")
    (tmp_path / "weights.safetensors").write_bytes((kept / "weights.safetensors").read_bytes())
    if damage is not None:
        (tmp_path / "metrics.json").write_text(damage)
    monkeypatch.setattr(registry, "folder_of", lambda name: tmp_path)
    with pytest.raises(ModelFormatError, match="nmri3d phantom train induction"):
        shipped("induction")
    (tmp_path / "metrics.json").write_bytes((kept / "metrics.json").read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelFormatError, match="nmri3d phantom train induction"):
        shipped("induction")
