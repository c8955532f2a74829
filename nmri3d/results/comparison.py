"""What a perturbation returns: the answer and every component's activation, before and after."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError
from nmri3d.results.provenance import Provenance
from nmri3d.results.scan import Scan
from nmri3d.results.storage import packed, read_result, write_packed

FORMAT = "nmri3d-comparison-1"


@dataclass(frozen=True)
class Prediction:
    """One candidate for the next token: its text, id, probability (softmax over the whole vocabulary) and raw logit.

    Of a network of signals: one output, by its name and number; its value stands in place of a logit, and it has no
    probability.
    """

    token: str
    token_id: int
    probability: float | None
    logit: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """One prompt, run as it is and run with edits.

    before, after       the likeliest next tokens of each run at the last position, likeliest first; signals: every output
    token               the likeliest token before (signals: the output that changed most); both logits and `logit_diff` are
                        of this same token
    logit_before/after  its raw logit in each run; logit_diff = after - before
    kl                  KL(before || after) over the whole vocabulary at the last position, nats; None for signals
    values_before/after float32 [tokens, components], fMRI values (L2 norm of the write) of each run
    edits               what was done, as plain JSON values
    outputs             "logits" or "signal"
    step_axis, signed   as in `Scan`, of the values
    """

    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]
    token: Prediction
    logit_after: float
    probability_after: float | None
    kl: float | None
    values_before: np.ndarray
    values_after: np.ndarray
    units: str
    components: ComponentTable
    tokens: tuple[str, ...]
    edits: tuple[Mapping[str, Any], ...]
    provenance: Provenance
    outputs: str = "logits"
    step_axis: str = "token"
    signed: bool = False

    def __post_init__(self) -> None:
        expected = (len(self.tokens), len(self.components))
        if self.values_before.shape != expected or self.values_after.shape != expected:
            raise AlignmentError(
                f"values of a comparison must be [tokens, components] = {expected}, got {self.values_before.shape} and "
                f"{self.values_after.shape}"
            )

    @property
    def logit_before(self) -> float:
        """Logit of the original top token, unedited."""
        return self.token.logit

    @property
    def logit_diff(self) -> float:
        """Logit of the original top token, after minus before."""
        return self.logit_after - self.token.logit

    @property
    def change(self) -> np.ndarray:
        """float32 [tokens, components]: fMRI value after minus before."""
        return self.values_after - self.values_before

    def ranked(self, k: int | None = None) -> np.ndarray:
        """Rows of the most affected components, by largest |change| over the tokens; those never affected are left out."""
        change = np.abs(self.change)
        largest = np.where(np.isnan(change), 0, change).max(axis=0)
        order = np.argsort(-largest, kind="stable")
        return order[largest[order] > 0][:k]

    def scan(self, which: str) -> Scan:
        """The fMRI scan "before", "after", or their "change" (signed), to be painted."""
        values = {"before": self.values_before, "after": self.values_after, "change": self.change}[which]
        units = f"change of the {self.units}" if which == "change" else self.units
        return Scan(
            mode="fMRI",
            values=values,
            units=units,
            components=self.components,
            tokens=self.tokens,
            provenance=self.provenance,
            signed=self.signed or which == "change",
            step_axis=self.step_axis,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the comparison to one `.npz` file; returns the path."""
        return write_packed(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of the file that `save` writes."""
        meta = {
            "before": [asdict(one) for one in self.before],
            "after": [asdict(one) for one in self.after],
            "token": asdict(self.token),
            "logit_after": self.logit_after,
            "probability_after": self.probability_after,
            "kl": self.kl,
            "units": self.units,
            "tokens": self.tokens,
            "edits": [dict(edit) for edit in self.edits],
            "provenance": asdict(self.provenance),
            "outputs": self.outputs,
            "step_axis": self.step_axis,
            "signed": self.signed,
        }
        arrays = {"values_before": self.values_before, "values_after": self.values_after}
        return packed(FORMAT, meta, arrays, self.components)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | bytes) -> Comparison:
        """Read what `save` wrote, or its bytes. Raises InputError for any other file."""
        meta, arrays, components = read_result(path, FORMAT)
        assert components is not None
        return cls(
            before=tuple(Prediction(**one) for one in meta["before"]),
            after=tuple(Prediction(**one) for one in meta["after"]),
            token=Prediction(**meta["token"]),
            logit_after=meta["logit_after"],
            probability_after=meta["probability_after"],
            kl=meta["kl"],
            values_before=arrays["values_before"],
            values_after=arrays["values_after"],
            units=meta["units"],
            components=components,
            tokens=tuple(meta["tokens"]),
            edits=tuple(meta["edits"]),
            provenance=Provenance(**meta["provenance"]),
            **{
                name: meta[name] for name in ("outputs", "step_axis", "signed") if name in meta
            },  # older files have none
        )
