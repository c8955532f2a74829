"""What the stimulation panel says about one component.

Convention. Facts are rows of (name, text), grouped by the scan that they belong to; figures are the raw ones, with
thousands separated and four significant digits. T2's histogram comes as its 64 counts. Values that change with the token
are not here: the browser has them.

Left out: markup.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, ModelInfo
from nmri3d.results import Scan
from nmri3d.service.refusals import refusals

KINDS = {
    "embed": "embedding",
    "head": "attention head",
    "mlp": "MLP",
    "unembed": "unembedding",
    "attn_bias": "attention output bias",
}
STRUCTURES = {"left": "left hemisphere", "right": "right hemisphere"}
"""Structures of the brain whose names do not say enough by themselves."""

KINDS_TOLD = 3
"""Kinds of components that the header names of a network without blocks."""

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

    Returns {"row", "id", "kind", "where", "neurons": how many an MLP has, else 0, "fixed": why it cannot be edited, "" where
    it can, "width": numbers of what it writes, or of its activation, "once": whether it acts before the first step only,
    "T1": rows, "T2": rows, "histogram": {"counts", "low", "high", "outlier"}, None without a T2 scan}.
    """
    table = backend.components
    kind = str(table.kind[row])
    facts: dict[str, Any] = {
        "row": row,
        "id": table.ids[row],
        "kind": KINDS.get(kind, kind.replace("_", " ")),
        "where": _where(backend, row),
        "neurons": backend.info.d_mlp if kind == "mlp" and len(backend.neurons) else 0,
        **_editing(backend, table.ids[row]),
        "T1": _structure(backend, row),
        "T2": [],
        "histogram": None,
    }
    if t2 is not None:
        facts["T2"] = _statistics(t2, row)
        facts["histogram"] = _histogram(t2, row)
    return facts


def _where(backend: Backend, row: int) -> str:
    """Its place in the network, and in the brain where that is not the cortex."""
    layer, structure = int(backend.components.layer[row]), backend.structures[row]
    name = "layer" if _has_stream(backend) else "level"
    place = f"{name} {layer} of {backend.info.n_layers}" if layer >= 0 else f"outside the {name}s"
    return place if structure == "cortex" else f"{place}, {STRUCTURES.get(structure, structure)}"


def _editing(backend: Backend, component: str) -> dict[str, Any]:
    """{"fixed", "width", "once"} of `component_facts`."""
    try:
        target = backend.target(component)
    except InputError as error:
        return {"fixed": str(error), "width": 0, "once": False}
    return {"fixed": "", "width": 1 if target.width is None else target.width, "once": target.once}


def model_facts(backend: Backend) -> dict[str, Any]:
    """What the page says about a model: its header's fields, rows of (name, text), and `network_facts` as "network"."""
    info = backend.info
    has_blocks = _has_stream(backend)
    sizes = [
        ("hidden size" if has_blocks else "widest part", info.d_model),
        ("head size", info.d_head),
        ("MLP size", info.d_mlp),
        ("vocabulary" if backend.outputs == "logits" else "outputs", info.d_vocab),
        ("context", info.n_context),
    ]
    completeness = "no residual stream" if info.completeness is None else f"{info.completeness:.1e}"
    return {
        "id": info.model_id,
        "title": info.title,
        "matrix": f"{len(backend.components.cortical):,} components",
        "parts": _blocks_in_words(info) if has_blocks else _kinds_in_words(backend),
        "parameters": f"{info.n_params:,} parameters",
        "rows": [
            ["architecture", info.architecture],
            *([name, number(size)] for name, size in sizes if size),
            ["weights", f"{info.dtype} on {info.device}"],
            ["completeness", completeness],
        ],
        "source": info.source,
        "warnings": list(info.warnings),
        "network": network_facts(backend),
    }


def network_facts(backend: Backend) -> dict[str, Any]:
    """How the page speaks of a network, and what it cannot serve: {feature: sentence}; see web/network.js."""
    return {
        "step": backend.step_axis,
        "steps": f"{backend.step_axis}s",
        "signal": backend.outputs == "signal",
        "residual": _has_stream(backend),
        "examples": list(backend.examples),
        "refused": refusals(backend),
    }


def _has_stream(backend: Backend) -> bool:
    """Whether it is made of blocks that write to a residual stream."""
    return "residual" in backend.abilities


def _blocks_in_words(info: ModelInfo) -> str:
    heads = f"{info.n_heads} heads" + (f", {info.n_kv_heads} K/V" if info.n_kv_heads != info.n_heads else "")
    return f"{info.n_layers} layers × {heads}"


def _kinds_in_words(backend: Backend) -> str:
    """The most frequent kinds with their numbers."""
    counts = {kind: len(backend.components.rows(kind)) for kind in backend.kinds}
    most = sorted(counts, key=lambda kind: -counts[kind])
    told = [f"{counts[kind]:,} {kind.replace('_', ' ')}" for kind in most[:KINDS_TOLD]]
    return " · ".join(told) + (f" · {len(most) - KINDS_TOLD} more kinds" if len(most) > KINDS_TOLD else "")


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
