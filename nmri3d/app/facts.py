"""What the stimulation panel says about one component.

Convention. Facts are rows of (name, text), grouped by the scan that they belong to; figures are the raw ones, with
thousands separated and four significant digits. T2's histogram comes as its 64 counts. Values that change with the token
are not here: the browser has them.

Left out: markup.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmri3d.models.backend import Backend
from nmri3d.results import Scan

KINDS = {
    "embed": "embedding",
    "head": "attention head",
    "mlp": "MLP",
    "unembed": "unembedding",
    "attn_bias": "attention output bias",
}
STATISTICS = (
    ("std", "std"),
    ("mean", "mean"),
    ("max", "max |w|"),
    ("l2", "L2 norm"),
    ("kurtosis", "kurtosis"),
    ("outlier_share", "over 6 σ"),
    ("ov_norm", "‖W_V W_O‖"),
    ("qk_norm", "‖W_Q W_Kᵀ‖"),
)


def component_facts(backend: Backend, row: int, t2: Scan | None) -> dict[str, Any]:
    """Facts of a component row; those of T2 only where there is a T2 scan.

    Returns {"row", "id", "kind", "where", "neurons": how many an MLP has, else 0, "editable": whether it writes
    to the residual stream, "width": of what it writes, "T1": rows, "T2": rows, "histogram":
    {"counts", "low", "high", "outlier"}, None without a T2 scan}.
    """
    table = backend.components
    kind = str(table.kind[row])
    layer = int(table.layer[row])
    facts: dict[str, Any] = {
        "row": row,
        "id": table.ids[row],
        "kind": KINDS.get(kind, kind),
        "where": f"layer {layer} of {backend.info.n_layers}" if layer >= 0 else "outside the layers",
        "neurons": backend.info.d_mlp if kind == "mlp" else 0,
        "editable": kind != "unembed",
        "width": backend.info.d_model,
        "T1": _structure(backend, row),
        "T2": [],
        "histogram": None,
    }
    if t2 is not None:
        facts["T2"] = _statistics(t2, row)
        facts["histogram"] = _histogram(t2, row)
    return facts


def model_facts(backend: Backend) -> dict[str, Any]:
    """What the page says about a model: its header's fields, and rows of (name, text)."""
    info = backend.info
    n = backend.components
    heads = f"{info.n_heads} heads" + (f", {info.n_kv_heads} K/V" if info.n_kv_heads != info.n_heads else "")
    return {
        "id": info.model_id,
        "title": info.title,
        "matrix": f"{len(n.cortical)} components",
        "parts": f"{info.n_layers} layers × {heads}",
        "parameters": f"{info.n_params:,} parameters",
        "rows": [
            ["architecture", info.architecture],
            ["hidden size", number(info.d_model)],
            ["head size", number(info.d_head)],
            ["MLP size", number(info.d_mlp)],
            ["vocabulary", number(info.d_vocab)],
            ["context", number(info.n_context)],
            ["weights", f"{info.dtype} on {info.device}"],
            ["completeness", f"{info.completeness:.1e}"],
        ],
        "source": info.source,
        "warnings": list(info.warnings),
    }


def number(value: float) -> str:
    """A figure for people: integers whole, others with four significant digits."""
    if not np.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    return f"{value:.2e}" if size < 1e-3 or size >= 1e6 else f"{value:.4g}"


def _structure(backend: Backend, row: int) -> list[list[str]]:
    rows = [["parameters", number(int(backend.components.n_params[row]))]]
    for name, matrix in backend.weights(row).items():
        rows.append([name, " × ".join(f"{size:,}" for size in matrix.shape)])
    return rows


def _statistics(t2: Scan, row: int) -> list[list[str]]:
    found = [(label, float(t2.details[name][row])) for name, label in STATISTICS if name in t2.details]
    return [
        [label, f"{value:.3%}" if label == "over 6 σ" else number(value)]
        for label, value in found
        if np.isfinite(value)
    ]


def _histogram(t2: Scan, row: int) -> dict[str, Any]:
    edges = t2.details["histogram_edges"][row]
    return {
        "counts": t2.details["histogram_counts"][row].tolist(),
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "outlier": 6.0 * float(t2.details["std"][row]),
    }
