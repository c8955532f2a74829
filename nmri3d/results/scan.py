"""A scan: values [steps, components] in physical units, aligned to a component table.

Convention. A scan that does not depend on a step (T1, T2, DTI) has one row. NaN means "not measured or not defined for
this row".

Left out: torch tensors and everything that draws.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError, InputError
from nmri3d.results.provenance import Provenance
from nmri3d.results.storage import packed, read_result, write_packed
from nmri3d.results.tracts import Tracts

if TYPE_CHECKING:
    import pandas
    import xarray

MODES = ("T1", "T2", "fMRI", "DTI", "FLAIR")
FORMAT = "nmri3d-scan-1"

_EDGE_ARRAYS = ("source", "target", "slot", "score")


@dataclass(frozen=True, eq=False)
class Scan:
    """One scan of one model.

    mode        one of MODES
    values      [steps, components], float32 (T1: int64); raw values in `units`, NaN where a row has none
    units       unit of `values`, for people: "parameters", "L2 norm of the write", …
    components  the table that the last axis is aligned to
    tokens      labels of the steps; empty for a scan without a prompt
    provenance  where the values came from
    signed      whether a value's sign means something (drawn symmetric about zero)
    step_axis   what a step is: "token", or a phantom's own
    details     further arrays by name, each documented by the scan that makes it
    tracts      measured edges between components (DTI)

    Raises AlignmentError when the shapes do not fit each other.
    """

    mode: str
    values: np.ndarray
    units: str
    components: ComponentTable
    tokens: tuple[str, ...]
    provenance: Provenance
    signed: bool = False
    step_axis: str = "token"
    details: Mapping[str, np.ndarray] = field(default_factory=dict)
    tracts: Tracts | None = None

    def __post_init__(self) -> None:
        steps = max(1, len(self.tokens))
        expected = (steps, len(self.components))
        if self.values.shape != expected:
            raise AlignmentError(
                f"values of a {self.mode} scan must be [steps, components] = {expected}, got {self.values.shape}"
            )

    @property
    def n_steps(self) -> int:
        """Number of rows of `values`."""
        return self.values.shape[0]

    def to_xarray(self) -> xarray.DataArray:
        """Values as a labelled array with dims (step, component); provenance in `attrs`."""
        import xarray

        table = self.components
        coords: dict[str, Any] = {
            "component": list(table.ids),
            "kind": ("component", table.kind),
            "layer": ("component", table.layer),
            "index": ("component", table.index),
            "n_params": ("component", table.n_params),
        }
        if self.tokens:
            coords["token"] = ("step", list(self.tokens))
        attrs = {"units": self.units, "mode": self.mode, **self.provenance.as_attributes()}
        return xarray.DataArray(self.values, dims=("step", "component"), coords=coords, name=self.mode, attrs=attrs)

    def to_pandas(self) -> pandas.DataFrame:
        """Values as a long table: one row a (step, component)."""
        import pandas

        steps, rows = (index.ravel() for index in np.indices(self.values.shape))
        table = self.components
        columns: dict[str, Any] = {"step": steps}
        if self.tokens:
            columns["token"] = np.asarray(self.tokens, dtype=object)[steps]
        columns |= {
            "component": np.asarray(table.ids, dtype=object)[rows],
            "kind": table.kind[rows],
            "layer": table.layer[rows],
            "index": table.index[rows],
            "value": self.values.ravel(),
        }
        return pandas.DataFrame(columns)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the scan to one `.npz` file, whole or not at all; returns the path (suffix added if missing)."""
        return write_packed(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of the file that `save` writes."""
        meta: dict[str, Any] = {
            "mode": self.mode,
            "units": self.units,
            "tokens": list(self.tokens),
            "signed": self.signed,
            "step_axis": self.step_axis,
            "provenance": asdict(self.provenance),
        }
        arrays = {"values": self.values} | {f"details/{name}": array for name, array in self.details.items()}
        if self.tracts is not None:
            meta["tracts"] = {"total": self.tracts.total, "count": self.tracts.count}
            arrays |= {f"tracts/{name}": getattr(self.tracts, name) for name in _EDGE_ARRAYS}
        return packed(FORMAT, meta, arrays, self.components)


def open_scan(path: str | os.PathLike[str] | bytes) -> Scan:
    """Read a scan that `Scan.save` wrote, or its bytes. Raises InputError for what is missing, damaged or something else."""
    meta, arrays, components = read_result(path, FORMAT)
    try:
        assert components is not None
        sums = meta.pop("tracts", None)
        return Scan(
            values=arrays["values"],
            components=components,
            tokens=tuple(meta.pop("tokens")),
            provenance=Provenance(**meta.pop("provenance")),
            details={
                name.removeprefix("details/"): array for name, array in arrays.items() if name.startswith("details/")
            },
            tracts=_tracts(arrays, sums) if sums else None,
            **meta,
        )
    except Exception as error:
        name = "this" if isinstance(path, bytes) else os.fspath(path)
        raise InputError(f"{name} is not a scan that nmri3d saved, or it is damaged ({error})") from error


def _tracts(arrays: Mapping[str, np.ndarray], sums: Mapping[str, Any]) -> Tracts:
    source, target, slot, score = (arrays[f"tracts/{name}"] for name in _EDGE_ARRAYS)
    return Tracts(source, target, slot, score, total=sums["total"], count=sums["count"])
