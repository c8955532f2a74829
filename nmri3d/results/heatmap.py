"""What causal tracing returns: how much of the answer one restored piece of the residual stream brings back."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.errors import AlignmentError
from nmri3d.results.provenance import Provenance
from nmri3d.results.storage import packed, read_result, write_packed

if TYPE_CHECKING:
    import xarray

FORMAT = "nmri3d-heatmap-1"


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Recovery by site, layer and position: (patched - corrupt) / (clean - corrupt), means over draws, not clamped.

    values          float32 [sites, layers + 1, positions]; NaN where there is no such site (attn and mlp have no row after
                    the last block), where it was not asked for, or everywhere when the clean and the corrupt metric are
                    too near each other; `note` says so
    stderr          float32, same shape: standard error over the draws of noise; NaN for a counterfactual
    sites           names of the first axis: "resid" (the residual entering a block; its last row is before the final
                    norm), "attn", "mlp" (what they write)
    tokens          labels of the clean prompt; corrupt_tokens those of the corrupted one (noise: the same)
    clean_metric    logit of the target minus that of the foil on the clean prompt; corrupt_metric on the corrupted one
    target, foil    text and id
    marked          positions that were made noisy; empty for a counterfactual
    method          "counterfactual" or "noise"
    """

    values: np.ndarray
    stderr: np.ndarray
    sites: tuple[str, ...]
    tokens: tuple[str, ...]
    corrupt_tokens: tuple[str, ...]
    clean_metric: float
    corrupt_metric: float
    target: tuple[str, int]
    foil: tuple[str, int]
    marked: tuple[int, ...]
    method: str
    note: str
    provenance: Provenance
    units: str = "recovery"

    def __post_init__(self) -> None:
        if self.values.shape != self.stderr.shape or (len(self.sites), len(self.tokens)) != (
            self.values.shape[0],
            self.values.shape[-1],
        ):
            raise AlignmentError(
                f"values of a heat map must be [sites, layers + 1, positions] with {len(self.sites)} sites and "
                f"{len(self.tokens)} positions, got {self.values.shape}"
            )

    def to_xarray(self) -> xarray.DataArray:
        """Values as a labelled array with dims (site, layer, position)."""
        import xarray

        coords = {
            "site": list(self.sites),
            "layer": np.arange(self.values.shape[1]),
            "token": ("position", list(self.tokens)),
        }
        attrs = {"units": self.units, "note": self.note, **self.provenance.as_attributes()}
        return xarray.DataArray(self.values, dims=("site", "layer", "position"), coords=coords, attrs=attrs)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the heat map to one `.npz` file; returns the path."""
        return write_packed(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of the file that `save` writes."""
        meta = {name: getattr(self, name) for name in _PLAIN} | {"provenance": asdict(self.provenance)}
        return packed(FORMAT, meta, {"values": self.values, "stderr": self.stderr})

    @classmethod
    def open(cls, path: str | os.PathLike[str] | bytes) -> Heatmap:
        """Read what `save` wrote, or its bytes. Raises InputError for any other file."""
        meta, arrays, _ = read_result(path, FORMAT)
        provenance = Provenance(**meta.pop("provenance"))
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in meta.items()
        }
        return cls(arrays["values"], arrays["stderr"], provenance=provenance, **plain)


_PLAIN = (
    "sites", "tokens", "corrupt_tokens", "clean_metric", "corrupt_metric", "target", "foil", "marked", "method", "note",
    "units",
)  # fmt: skip
