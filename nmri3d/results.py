"""What a measurement returns: values in physical units, aligned to a component table, and where they came from.

Convention. `Scan.values` is [steps, components]; a scan that does not depend on a prompt (T1, T2) has one row. NaN
means "not measured or not defined for this row". Nothing here is normalised, clamped or rounded; display ranges live in
`nmri3d.scene`. Saved as one `.npz` file (arrays plus one JSON text, never pickle).

Left out: torch tensors and everything that draws.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import AlignmentError, InputError
from nmri3d.files import written_whole

if TYPE_CHECKING:
    import pandas
    import xarray

MODES = ("T1", "T2", "fMRI", "DTI", "FLAIR")
FORMAT = "nmri3d-scan-1"


@dataclass(frozen=True)
class Provenance:
    """What was measured, on what, by what.

    config holds the scan's options as plain JSON values; versions maps library to version; seconds is wall time of the
    measurement; created is ISO 8601 with offset.
    """

    model_id: str
    fingerprint: str
    prompt: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "cpu"
    seed: int | None = None
    created: str = ""
    seconds: float = float("nan")


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
        attrs = {"units": self.units, "mode": self.mode, **_flat(asdict(self.provenance))}
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
        target = Path(path)
        if target.suffix != ".npz":
            target = target.with_name(target.name + ".npz")
        meta = {
            "format": FORMAT,
            "mode": self.mode,
            "units": self.units,
            "tokens": list(self.tokens),
            "signed": self.signed,
            "step_axis": self.step_axis,
            "provenance": asdict(self.provenance),
        }
        arrays = {f"details/{name}": np.asarray(array) for name, array in self.details.items()}
        arrays |= {
            f"components/{name}": getattr(self.components, name) for name in ("kind", "layer", "index", "n_params")
        }
        arrays |= {"values": self.values, "meta": np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)}
        _write_npz(target, arrays)
        return target


def open_scan(path: str | os.PathLike[str]) -> Scan:
    """Read a scan that `Scan.save` wrote. Raises InputError for a file that is missing, damaged or something else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop("meta").tobytes())
        if meta.get("format") != FORMAT:
            raise InputError(
                f"{path} holds {meta.get('format')!r}, not {FORMAT!r}; it was written by another version of nmri3d"
            )
        components = ComponentTable(
            **{name: arrays[f"components/{name}"] for name in ("kind", "layer", "index", "n_params")}
        )
        return Scan(
            mode=meta["mode"],
            values=arrays["values"],
            units=meta["units"],
            components=components,
            tokens=tuple(meta["tokens"]),
            provenance=Provenance(**meta["provenance"]),
            signed=meta["signed"],
            step_axis=meta["step_axis"],
            details={
                name.removeprefix("details/"): array for name, array in arrays.items() if name.startswith("details/")
            },
        )
    except FileNotFoundError:
        raise InputError(f"there is no scan file {path}") from None
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is not a scan that nmri3d saved, or it is damaged ({error})") from error


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Provenance as attributes that NetCDF accepts: nested mappings as JSON text, None as an empty text."""
    return {k: json.dumps(v) if isinstance(v, dict) else "" if v is None else v for k, v in record.items()}


def _write_npz(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to one file, whole or not at all."""
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise InputError(
                f"{name} holds Python objects, which only pickle could save; give it a numeric or text dtype"
            )
    with written_whole(target) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
