"""Planted results of every kind, small, with NaN and text among their arrays."""

from __future__ import annotations

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.results import Comparison, Heatmap, Prediction, Provenance, Scan, Sweep

TABLE = ComponentTable(kind=["embed", "mlp", "unembed"], layer=[-1, 0, -1], index=[-1, -1, -1], n_params=[1, 2, 3])
FROM = Provenance("planted", "0" * 64, "Two words")


def scan(seed: int = 0) -> Scan:
    values = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
    values[:, 2] = np.nan
    return Scan("fMRI", values, "planted", TABLE, ("Two", " words"), FROM, details={"labels": np.array(["a", "b"])})


def comparison() -> Comparison:
    one = Prediction(" x", 3, 0.5, 1.25)
    values = scan(1).values
    return Comparison(
        before=(one,),
        after=(one,),
        token=one,
        logit_after=1.0,
        probability_after=0.25,
        kl=0.5,
        values_before=values,
        values_after=2 * values,
        units="planted",
        components=TABLE,
        tokens=("Two", " words"),
        edits=({"component": "blocks.0.mlp", "kind": "zero"},),
        provenance=FROM,
    )


def heatmap() -> Heatmap:
    values = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    tokens = ("Two", " words")
    return Heatmap(
        values, values / 2, ("resid",), tokens, tokens, 1.0, 0.5, (" x", 3), (" y", 4), (), "noise", "", FROM
    )


def sweep() -> Sweep:
    return Sweep(np.array([1, 2, np.nan], np.float32), TABLE, "planted", 1.0, (" x", 3), (" y", 4), "zero", FROM)
