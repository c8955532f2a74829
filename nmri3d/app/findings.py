"""What the browser is told of measurements beside scans: plain numbers and texts, arrays as bytes.

Convention. Arrays are float32, little-endian, row by row; NaN stays NaN. Nothing is rounded, scaled or cut, save that of a
DTI scan's edges only the strongest are listed (their count is told).

Left out: scans themselves (payloads.py) and what is shown of all this (web/).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.models.backend import Backend, Stimulus
from nmri3d.results import Comparison, Heatmap, Prediction, Scan, Sweep

if TYPE_CHECKING:
    from nmri3d.results import HeadKinds, LensTable, OwnEffect

MOST_EDGES = 300
"""Edges that are listed; the picture may draw more."""

TOKENS = 5
"""Likeliest tokens that a comparison lists."""

AFFECTED = 12
"""Components that a comparison lists."""


def subject_finding(stimulus: Stimulus) -> dict[str, Any]:
    """The prompt that experiments are about."""
    return {"prompt": stimulus.text, "tokens": list(stimulus.labels), "special": stimulus.special.tolist()}


def prediction_finding(tokens: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Candidates for the next token, likeliest first; of a network of signals its outputs, without probabilities."""
    return [
        {"id": one.token_id, "text": one.token, "probability": one.probability, "logit": one.logit} for one in tokens
    ]


def outputs_finding(backend: Backend, outputs: np.ndarray) -> dict[str, Any]:
    """The outputs of a network of units at every step, [steps, outputs], with their names."""
    names = [backend.token_text(number) for number in range(outputs.shape[1])]
    return {"names": names, "steps": len(outputs), "values": _bytes(outputs)}


def comparison_finding(comparison: Comparison) -> dict[str, Any]:
    """Before and after: the likeliest tokens, the original top token's logit, KL, and the most affected components.

    Of signals: all of them, and the one that changed most.
    """
    k = TOKENS if comparison.outputs == "logits" else None
    rows = comparison.ranked(AFFECTED)
    change = comparison.change
    affected = []
    for row in rows.tolist():
        step = int(np.nanargmax(np.abs(change[:, row])))
        affected.append({
            "row": row,
            "step": step,
            "token": comparison.tokens[step],
            "change": float(change[step, row]),
        })  # fmt: skip
    return {
        "before": prediction_finding(comparison.before[:k]),
        "after": prediction_finding(comparison.after[:k]),
        "token": prediction_finding([comparison.token])[0],
        "logit_before": comparison.logit_before,
        "logit_after": comparison.logit_after,
        "logit_diff": comparison.logit_diff,
        "kl": comparison.kl,
        "units": f"change of the {comparison.units}",
        "affected": affected,
    }


def paths_finding(scan: Scan, backend: Backend, *, own_target: bool, own_foil: bool) -> dict[str, Any]:
    """The facts of a DTI scan and its strongest edges. `own_*`: whether the visitor named that token."""
    details, config = scan.details, scan.provenance.config
    target, foil = (_token(backend, details, name) for name in ("target", "foil"))
    tracts = scan.tracts
    found: dict[str, Any] = {
        "prompt": scan.provenance.prompt,
        "method": config.get("method"),
        "effect": config.get("effect"),
        "edges": config.get("edges"),
        "units": scan.units,
        "target": target,
        "foil": foil,
        "own_target": own_target,
        "own_foil": own_foil,
        "at": str(details["prompt_tokens"][int(details["position"])]),
        "clean": float(details["clean_metric"]),
        "baseline": _number(details, "baseline_metric"),
        "faithfulness": _number(details, "faithfulness"),
        "remainder": _number(details, "remainder"),
        "per_position": _bytes(details["per_position"]) if "per_position" in details else None,
        "count": 0,
        "kept": 0,
        "share": 0.0,
        "items": [],
    }
    if tracts is not None:
        order = np.argsort(-np.abs(tracts.score), kind="stable")[:MOST_EDGES]
        columns = (tracts.source, tracts.target, tracts.slot, tracts.score)
        found |= {
            "count": int(tracts.count),
            "kept": len(tracts),
            "share": float(tracts.share),
            "circuit": len(tracts.pruned(config["share"])),
            "circuit_share": config["share"],
            "items": [list(edge) for edge in zip(*(column[order].tolist() for column in columns), strict=True)],
        }
    return found


def flair_finding(scan: Scan) -> dict[str, Any]:
    """A FLAIR scan by sub-layer: KL and entropy, and, where there is a template, percentiles and scores.

    Without a lens there are no sub-layers ("rows" is empty), and "summary" is the mean |z| over the components.
    """
    details = scan.details
    told = {"prompt": scan.provenance.prompt, "tokens": list(scan.tokens)}
    if "row_layer" not in details:
        return {**told, "rows": [], "has_template": True, "summary": _bytes(details["summary"])}
    sites = zip(details["row_layer"].tolist(), details["row_site"].tolist(), details["enabled"].tolist(), strict=True)
    names = ("kl", "entropy", "percentile_kl", "percentile_entropy", "score")
    single = ("summary", "final_entropy", "one_minus_max_probability")
    return {
        **told,
        "layers": int(scan.components.layer.max()) + 1,
        "rows": [{"layer": layer, "site": site, "enabled": enabled} for layer, site, enabled in sites],
        "has_template": scan.provenance.config["template"] is not None,
        **{name: _bytes(details[name]) for name in (*names, *single)},
    }


def heatmap_finding(heatmap: Heatmap) -> dict[str, Any]:
    """A causal trace."""
    return {
        "prompt": heatmap.provenance.prompt,
        "values": _bytes(heatmap.values),
        "stderr": _bytes(heatmap.stderr),
        "layers": heatmap.values.shape[1],
        "sites": list(heatmap.sites),
        "tokens": list(heatmap.tokens),
        "clean": heatmap.clean_metric,
        "corrupt": heatmap.corrupt_metric,
        "target": heatmap.target[0],
        "foil": heatmap.foil[0],
        "marked": list(heatmap.marked),
        "method": heatmap.method,
        "note": heatmap.note,
    }


def sweep_finding(sweep: Sweep) -> dict[str, Any]:
    """A sweep over components."""
    return {
        "prompt": sweep.provenance.prompt,
        "values": _bytes(sweep.values),
        "count": int(np.isfinite(sweep.values).sum()),
        "units": sweep.units,
        "clean": sweep.clean_metric,
        "target": sweep.target[0],
        "foil": sweep.foil[0] if sweep.foil else "",
        "effect": sweep.effect,
    }


def sweep_scan(sweep: Sweep) -> Scan:
    """A sweep as a picture: painted as the nodes of a DTI scan are, one value a component."""
    return Scan(
        mode="DTI",
        values=sweep.values[None, :],
        units=sweep.units,
        components=sweep.components,
        tokens=(),
        provenance=sweep.provenance,
        signed=True,
    )


def attention_finding(patterns: np.ndarray, layer: int, head: int, tokens: Sequence[str]) -> dict[str, Any]:
    """One head's pattern, [query, key], out of those of its layer, [heads, query, key]."""
    return {"layer": layer, "head": head, "tokens": list(tokens), "pattern": _bytes(patterns[head])}


def kinds_finding(kinds: HeadKinds) -> dict[str, Any]:
    """Every head's score in each kind, and the score from which a head is named after it."""
    from nmri3d.results import HEAD_KINDS, KIND_THRESHOLD

    scores = {kind: _bytes(getattr(kinds, kind)) for kind in HEAD_KINDS}
    return {"rows": kinds.rows.tolist(), "threshold": KIND_THRESHOLD, "length": kinds.length, **scores}


def own_effect_finding(effect: OwnEffect, row: int) -> dict[str, Any]:
    """What one component alone does to the lens, at each token, nats."""
    names = ("change", "toward_final", "entropy_change")
    return {"row": row, "tokens": list(effect.tokens), **{name: getattr(effect, name).tolist() for name in names}}


def lens_finding(table: LensTable) -> dict[str, Any]:
    """The logit lens: the likeliest tokens of each row and position, likeliest first."""
    rows = zip(table.layers.tolist(), table.sites, strict=True)
    return {
        "tokens": list(table.tokens),
        "rows": [{"layer": layer, "site": site} for layer, site in rows],
        "k": table.texts.shape[-1],
        "text": table.texts.ravel().tolist(),
        "probability": _bytes(table.probabilities),
    }


def _token(backend: Backend, details: Any, name: str) -> str:
    """Text of a token of the metric; "" for one that there is not."""
    number = int(details[name]) if name in details else -1
    return "" if number < 0 else backend.token_text(number)


def _number(details: Any, name: str) -> float:
    return float(details[name]) if name in details else float("nan")


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, dtype="<f4").tobytes()
