"""What an exact sweep returns: the change of the metric when one component at a time is replaced."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError
from nmri3d.results.provenance import Provenance
from nmri3d.results.storage import packed, read_result, write_packed

if TYPE_CHECKING:
    import pandas

FORMAT = "nmri3d-sweep-1"


@dataclass(frozen=True, eq=False)
class Sweep:
    """Metric of the edited run minus that of the clean run, one component edited at a time.

    values        float32 [components]; NaN on rows that write nothing or were not asked for
    units         of the values: "change of the logit difference"
    clean_metric  the metric without an edit
    target, foil  the tokens whose logit difference the metric is: text and id; foil None: the metric is the target's value
    effect        "zero", "mean" or "patch": what replaces a write
    """

    values: np.ndarray
    components: ComponentTable
    units: str
    clean_metric: float
    target: tuple[str, int]
    foil: tuple[str, int] | None
    effect: str
    provenance: Provenance

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.components),):
            raise AlignmentError(f"a sweep has one value a component, {len(self.components)}; got {self.values.shape}")

    def to_pandas(self) -> pandas.DataFrame:
        """One row a component that was edited, largest |value| first."""
        import pandas

        rows = np.flatnonzero(~np.isnan(self.values))
        rows = rows[np.argsort(-np.abs(self.values[rows]), kind="stable")]
        table = self.components
        return pandas.DataFrame(
            {
                "component": [table.ids[row] for row in rows],
                "kind": table.kind[rows],
                "layer": table.layer[rows],
                "index": table.index[rows],
                "value": self.values[rows],
            }
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sweep to one `.npz` file; returns the path."""
        return write_packed(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of the file that `save` writes."""
        meta = {
            "units": self.units,
            "clean_metric": self.clean_metric,
            "target": self.target,
            "foil": self.foil,
            "effect": self.effect,
            "provenance": asdict(self.provenance),
        }
        return packed(FORMAT, meta, {"values": self.values}, self.components)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | bytes) -> Sweep:
        """Read what `save` wrote, or its bytes. Raises InputError for any other file."""
        meta, arrays, components = read_result(path, FORMAT)
        assert components is not None
        provenance = Provenance(**meta.pop("provenance"))
        target, foil = tuple(meta.pop("target")), meta.pop("foil")
        foil = None if foil is None else tuple(foil)
        return cls(arrays["values"], components, target=target, foil=foil, provenance=provenance, **meta)
