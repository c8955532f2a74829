"""Links to a scan's arrays, and to the attention patterns of its prompt.

Convention. A link asks the service for the very scan again, so that a kept result is used and one that fell out of the cache
is measured anew. Nothing is copied for a link that nobody follows.

Left out: what the addresses are made of (`nmri3d.api.arrays`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nmri3d.api.arrays import Arrays
from nmri3d.api.schema import ArrayLink
from nmri3d.models.backend import Progress
from nmri3d.results import Scan
from nmri3d.service import Service

_DIMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("fMRI", "residual"): ("layer", "token"),
    ("fMRI", "writes"): ("token", "component", "d_model"),
    ("T2", "histogram_counts"): ("component", "bin"),
    ("T2", "histogram_edges"): ("component", "edge"),
    ("DTI", "per_position"): ("token", "component"),
    **{
        ("FLAIR", name): ("point", "token")
        for name in ("kl", "entropy", "percentile_kl", "percentile_entropy", "score")
    },
}
"""Axes of the details that are offered, by mode and name."""

_TRACTS = ("source", "target", "slot", "score")


class ScanLinks:
    """Links to the arrays of one scan that was asked for by mode, prompt and options.

    tokens  labels of all tokens of the prompt
    """

    def __init__(
        self,
        service: Service,
        arrays: Arrays,
        scan: Scan,
        mode: str,
        prompt: str | None,
        options: Mapping[str, Any],
        tokens: tuple[str, ...] = (),
    ) -> None:
        self._service, self._arrays, self._scan = service, arrays, scan
        self._mode, self._prompt, self._options, self._tokens = mode, prompt, dict(options), tokens

    def values(self) -> ArrayLink:
        """All values: [token, component] or, of a scan without steps, [component]."""
        rows = "neuron" if len(self._scan.components) and self._scan.components.kind[0] == "neuron" else "component"
        if self._scan.tokens:
            return self._link("values", lambda scan: scan.values, self._scan.values, ("token", rows))
        return self._link("values", lambda scan: scan.values[0], self._scan.values[0], (rows,))

    def details(self) -> dict[str, ArrayLink]:
        """The details that are worth a link, by name."""
        return {name: self.detail(name) for name in self._scan.details if (self._mode, name) in _DIMS}

    def detail(self, name: str) -> ArrayLink:
        """One of the scan's details."""
        return self._link(name, lambda scan: scan.details[name], self._scan.details[name], _DIMS[self._mode, name])

    def tracts(self) -> dict[str, ArrayLink]:
        """Every edge that the scan kept, as aligned arrays: rows of the table, slot and score; largest |score| first."""
        found = self._scan.tracts
        if found is None:
            return {}
        return {name: self._tract(name, getattr(found, name)) for name in _TRACTS}

    def _tract(self, name: str, array: np.ndarray) -> ArrayLink:
        return self._link(f"tracts/{name}", lambda scan: getattr(scan.tracts, name), array, ("tract",))

    def _link(
        self, name: str, take: Callable[[Scan], np.ndarray], array: np.ndarray, dims: tuple[str, ...]
    ) -> ArrayLink:
        service, mode, prompt, options = self._service, self._mode, self._prompt, self._options

        def make(progress: Progress) -> np.ndarray:
            return take(service.scan(mode, prompt, progress=progress, **options))

        table = self._scan.components
        rows = next((dim for dim in ("component", "neuron") if dim in dims), None)
        labels: dict[str, tuple[str, ...]] = {} if rows is None else {rows: table.ids}
        if "token" in dims:
            labels["token"] = self._scan.tokens or self._tokens
        return self._arrays.link(
            ("scan", mode, prompt, options, name),
            make,
            dims=dims,
            shape=array.shape,
            dtype=array.dtype,
            labels=labels,
            layers=None if rows is None else table.layer,
            model=self._scan.provenance.fingerprint,
        )

    def attention(self, block: int) -> ArrayLink:
        """Attention patterns of a block's heads on the whole prompt, [head, query, key]; computed when they are fetched."""
        service, prompt = self._service, self._prompt
        assert prompt is not None
        n_heads = len(service.require_backend().components.rows("head", block))

        def make(progress: Progress) -> np.ndarray:
            return service.attention(prompt, block, progress=progress)

        n_tokens = len(self._tokens)
        return self._arrays.link(
            ("attention", prompt, block),
            make,
            dims=("head", "query", "key"),
            shape=(n_heads, n_tokens, n_tokens),
            dtype=np.float32,
            labels={"query": self._tokens, "key": self._tokens},
            model=self._scan.provenance.fingerprint,
        )
