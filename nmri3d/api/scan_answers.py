"""What a scan answers over HTTP, one shape a mode: small figures inline, arrays by link.

Convention. `data` goes layer by layer (`nmri3d.api.layers`); NaN, what was not measured or is not defined, is null.

Left out: whole tensors.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from nmri3d.api.answers import NamedToken
from nmri3d.api.layers import Layer, LayerType, layers_of
from nmri3d.api.schema import Answer, ArrayLink, Metadata
from nmri3d.results import Scan


class ScanAnswer(Answer):
    """What all scans have."""

    model: str = Field(description="id of the model")
    units: str = Field(description="of `values`")
    values: ArrayLink = Field(description="the whole scan, aligned to `components`")
    components: list[str] | None = Field(
        description="ids of the rows of `values`; null at neuron level, see GET /api/model/components?level=neuron"
    )
    metadata: Metadata


class LayerParameters(Answer):
    """How large a layer is."""

    type: LayerType
    n_params: int
    components: dict[str, int] = Field(
        description="parameters by component; an output bias b_O is one of its attention's"
    )


class StructuralScan(ScanAnswer):
    """T1: each parameter belongs to exactly one component, so that the counts add up to the model's own."""

    scan_mode: Literal["T1"]
    n_params: int = Field(description="of the whole model")
    data: dict[str, LayerParameters]


class LayerWeights(Answer):
    """How the weights of a layer's components are distributed."""

    type: LayerType
    components: list[str]
    statistics: dict[str, list[float | None]] = Field(
        description="std, mean, max, l2, kurtosis, outlier_share, ov_norm, qk_norm: one value a component"
    )


class WeightsScan(ScanAnswer):
    """T2: statistics of each component's own undivided weights; unlike the counts of T1 they do not add up."""

    scan_mode: Literal["T2"]
    statistic: str = Field(description="which one `values` holds")
    statistics: dict[str, str] = Field(description="what each statistic is")
    data: dict[str, LayerWeights]
    details: dict[str, ArrayLink] = Field(description="histogram_counts and histogram_edges, [component, bin]")


class TokensAnswer(ScanAnswer):
    """What all scans of a prompt have."""

    prompt_tokens: list[str] = Field(description="all tokens of the prompt, a BOS token included where there is one")


class PositionsAnswer(TokensAnswer):
    """What scans that go token by token have."""

    positions: list[int] = Field(description="which tokens were asked for; `data` and `values` are aligned to them")
    special: list[int] = Field(description="those of `positions` that the tokenizer added itself")


class ActivationScan(PositionsAnswer):
    """fMRI: what each component writes at each token."""

    scan_mode: Literal["fMRI"]
    level: Literal["component", "neuron"]
    aggregation: Literal["l2_norm", "max", "mean", "raw"]
    summary_units: str = Field(description="of the summaries of MLPs in `data`; all else is in `units`")
    data: dict[str, Layer]
    residual: list[list[float | None]] | None = Field(
        description="[layers + 1][positions], L2 norm of the residual stream entering each block and, last, before the final "
        "norm; null where it was not asked for, and at neuron level"
    )
    writes: ArrayLink | None = Field(description="raw only: the whole writes, [token, component, d_model]")


class NodeScore(Answer):
    """What one component does to the metric."""

    id: str
    score: float | None = Field(description="positive supports the target; null: writes nothing")


class Edge(Answer):
    """A measured path from one component to another."""

    source: str
    target: str
    slot: Literal["q", "k", "v", "mlp", "logits"] = Field(description="by which input the target reads")
    score: float = Field(description="positive supports the target")


class CircuitScan(TokensAnswer):
    """DTI: which components and which paths carry the answer."""

    scan_mode: Literal["DTI"]
    method: str = Field(description="of the node scores: exact, atp or dla")
    effect: str | None = Field(
        description="what replaces a write in the node scores: patch, mean or zero; null for dla"
    )
    baseline: str | None = Field(description="what replaces a write in the edges; null without edges")
    target: NamedToken
    foil: NamedToken | None = Field(description="null: the metric is the target's own value, of a network of signals")
    position: int = Field(description="whose next token the metric is about, from 0")
    clean_metric: float = Field(description="logit of the target minus logit of the foil; or of signals, their values")
    baseline_metric: float | None = Field(description="the same with every component replaced; null without edges")
    faithfulness: float | None = Field(
        description="(m(circuit) - m(baseline)) / (m(clean) - m(baseline)) of the circuit that `edges` are; null without edges"
    )
    nodes: list[NodeScore] = Field(description="largest |score| first")
    edges: list[Edge] = Field(
        description="the fewest edges that carry the share that was asked for, largest |score| first"
    )
    edges_measured: int = Field(description="how many edges were measured")
    edges_total: float = Field(description="sum of |score| over all that were measured")
    edges_share: float | None = Field(description="share of that sum which `edges` carry")
    tracts: dict[str, ArrayLink] = Field(
        description="all edges that were kept: source and target (rows of `components`), slot, score"
    )
    attention_patterns: dict[str, ArrayLink] = Field(description="by layer, [head, query, key]; computed when fetched")
    details: dict[str, ArrayLink] = Field(description="per_position (atp only)")


class LensPoint(Answer):
    """A point of the residual stream at which the logit lens was taken; every list has one value a position."""

    layer: int
    site: Literal["attn", "mlp"] = Field(description="after which half of the block")
    enabled: bool = Field(description="whether it counts in the summary")
    kl: list[float | None] = Field(
        description="KL(final || lens), nats; null at the last point, where it is 0 by definition"
    )
    entropy: list[float | None] = Field(description="of the lens, nats")
    score: list[float | None] = Field(description="0 to 100 against the reference text; null without a template")


class AnomalyScan(PositionsAnswer):
    """FLAIR: where the prompt is unlike the reference text. A high score does not mean that the answer is wrong."""

    scan_mode: Literal["FLAIR"]
    alpha: float
    beta: float
    template: str | None = Field(description="the reference text; null: none, and `values` are the raw KL")
    data: dict[str, LensPoint] = Field(
        description="by layer: blocks.3.attn is the point after its attention; empty for a network without a lens"
    )
    summary: list[float | None] = Field(
        description="mean score over the enabled points, one value a position; without a lens mean |z| over the components"
    )
    final_entropy: list[float | None] | None = Field(description="of the model's own answer, nats; null without a lens")
    one_minus_max_probability: list[float | None] | None = Field(
        description="1 - the likeliest token's probability; null without a lens"
    )
    rarity: list[float | None] | None = Field(
        description="-sum P log u, nats: how rare the answer is in the reference text; null without a template or a lens"
    )
    details: dict[str, ArrayLink] = Field(description="kl, entropy, their percentiles and the score, [point, token]")


def structure_of(scan: Scan) -> dict[str, LayerParameters]:
    """The layers of a T1 scan."""
    ids, counts = scan.components.ids, scan.values[0].tolist()
    return {
        layer.id: LayerParameters(
            type=layer.type,
            n_params=int(scan.values[0, layer.rows].sum()),
            components={ids[row]: counts[row] for row in layer.rows.tolist()},
        )
        for layer in layers_of(scan.components, passive=True)
    }


def weights_of(scan: Scan, statistics: dict[str, str]) -> dict[str, LayerWeights]:
    """The layers of a T2 scan."""
    ids = scan.components.ids
    return {
        layer.id: LayerWeights(
            type=layer.type,
            components=[ids[row] for row in layer.rows.tolist()],
            statistics={name: scan.details[name][layer.rows].tolist() for name in statistics},
        )
        for layer in layers_of(scan.components, passive=True)
    }


def nodes_of(scan: Scan) -> list[NodeScore]:
    """Node scores of a DTI scan, largest |score| first; what was not measured comes last."""
    scores = scan.values[0]
    order = np.argsort(-np.nan_to_num(np.abs(scores), nan=-1.0), kind="stable").tolist()
    return [NodeScore(id=scan.components.ids[row], score=float(scores[row])) for row in order]


def edges_of(scan: Scan, share: float) -> dict[str, Any]:
    """The fields of a CircuitScan that tell of edges."""
    if scan.tracts is None:
        return {"edges": [], "edges_measured": 0, "edges_total": 0.0, "edges_share": None}
    drawn, ids = scan.tracts.pruned(share), scan.components.ids
    rows = zip(drawn.source.tolist(), drawn.target.tolist(), drawn.slot.tolist(), drawn.score.tolist(), strict=True)
    return {
        "edges": [Edge(source=ids[s], target=ids[t], slot=slot, score=score) for s, t, slot, score in rows],
        "edges_measured": int(drawn.count),
        "edges_total": float(drawn.total),
        "edges_share": float(drawn.share),
    }


def points_of(scan: Scan) -> dict[str, LensPoint]:
    """The points of a FLAIR scan, by the id of the layer after which they lie."""
    found = scan.details
    if "row_layer" not in found:  # a network without a lens
        return {}
    named = zip(found["row_layer"].tolist(), found["row_site"].tolist(), strict=True)
    return {
        f"blocks.{layer}.{site}": LensPoint(
            layer=layer,
            site=site,
            enabled=bool(found["enabled"][row]),
            kl=found["kl"][row].tolist(),
            entropy=found["entropy"][row].tolist(),
            score=found["score"][row].tolist(),
        )
        for row, (layer, site) in enumerate(named)
    }
