"""What is asked of a scan over HTTP: one body a mode, with the options of its `…Config` in `nmri3d.scans`.

Convention. `layers` and `token_positions` are "all" or a list; layers by name or by the number of their block.

Left out: checking against the model, which its scan does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nmri3d.api.answers import Index, Token
from nmri3d.api.schema import Body, Positions, Prompt

LayerName = Annotated[str, Field(min_length=1, max_length=100)]
Layers = Annotated[
    list[Index | LayerName] | Literal["all"],
    Field(
        description='"all", or names such as embed, blocks.3.attn, blocks.3.mlp, or numbers of whole blocks (negative ones '
        "from the end). The scan runs on the blocks that are named, and `data` holds what is named",
        examples=["all", ["blocks.3.mlp", "blocks.4.attn"], [3, -1]],
    ),
]


Aggregation = Literal["l2_norm", "max", "mean", "raw"]


class StructuralRequest(Body):
    """T1 has no options."""


class WeightsOptions(Body):
    """Options of a T2 scan, as `T2Config` has them."""

    statistic: Literal["std", "mean", "max", "l2", "kurtosis", "outlier_share", "ov_norm", "qk_norm"] = Field(
        default="std", description="which one `values` holds; all of them are in the answer"
    )


class WeightsRequest(WeightsOptions):
    """A T2 scan."""

    def options(self) -> dict[str, Any]:
        """As `T2Config` takes them."""
        return {"statistic": self.statistic}


class ActivationRequest(Body):
    """Options of an fMRI scan."""

    prompt: Prompt
    layers: Layers = "all"
    aggregation: Aggregation = Field(
        "l2_norm", description="how a write becomes a number; raw: as l2_norm, and the whole writes by link"
    )
    include_residual: bool = Field(True, description="whether the answer holds the norms of the residual stream")
    token_positions: Positions = "all"
    level: Literal["component", "neuron"] = Field(
        "component",
        description="neuron: signed activations of the MLP neurons; takes no other aggregation than l2_norm",
    )
    top_neurons: int = Field(
        0,
        ge=0,
        le=100,
        description="how many of the strongest neurons of each MLP to list. Left out by default: at component level they take "
        "a second pass through the model (one for all layers, kept for the next request)",
    )


class CircuitOptions(Body):
    """Options of a DTI scan, as `DtiConfig` has them."""

    corrupt: Prompt | None = Field(None, description="corrupted (counterfactual) prompt of equally many tokens")
    target: Token | None = Field(
        None, description="null: the likeliest next token; of signals, the output of largest |value|"
    )
    foil: Token | None = Field(None, description="null: the runner-up; of signals, none")
    position: Index = Field(-1, description="whose next token the metric is about, negative ones from the end")
    method: Literal["auto", "exact", "atp", "dla"] = Field(
        "auto",
        description="exact: intervention; atp: attribution patching; dla: direct logit attribution; auto: exact where it takes "
        "no more than 8 s, else atp",
    )
    effect: Literal["patch", "mean", "zero"] | None = Field(
        None, description="what replaces a write; null: patch where there is a corrupted prompt, else mean"
    )
    edges: Literal["eap", "eap-ig", "none"] | None = Field(
        None,
        description="edge attribution patching, its integrated-gradients form (needs `corrupt`), or no edges; null: eap, none "
        "for a network without a residual stream",
    )
    steps: int = Field(5, ge=1, le=100, description="of eap-ig")
    share: float = Field(0.5, gt=0, le=1, description="share of the total |score| that the edges of the answer carry")


class CircuitsRequest(CircuitOptions):
    """A DTI scan."""

    prompt: Prompt

    def options(self) -> dict[str, Any]:
        """As `DtiConfig` takes them."""
        return {name: getattr(self, name) for name in CircuitOptions.model_fields}


class AnomalyOptions(Body):
    """Options of a FLAIR scan that need no layer and no token, as `FlairConfig` has them."""

    sites: list[Literal["attn", "mlp"]] = Field(
        ["attn", "mlp"], min_length=1, max_length=2, description="at which points of a block the logit lens is taken"
    )
    alpha: float = Field(0.6, ge=0, le=1e6, description="weight of the KL's percentile in the score")
    beta: float = Field(0.4, ge=0, le=1e6, description="weight of the entropy's percentile; not 0 together with alpha")
    enabled_from: Index | None = Field(None, description="first layer that counts in the summary; null: half way")
    template: Literal["auto", "ready", "off"] = Field(
        "auto",
        description="the reference text's statistics: auto builds them where there are none yet (about a minute), ready uses "
        "them where there are some, off answers with the raw KL in nats",
    )


class AnomalyRequest(AnomalyOptions):
    """A FLAIR scan."""

    prompt: Prompt
    layers: list[Index] | Literal["all"] = Field(
        "all", description='"all", or numbers of blocks, negative ones from the end'
    )
    token_positions: Positions = "all"

    def options(self) -> dict[str, Any]:
        """As `FlairConfig` takes them."""
        own = {name: getattr(self, name) for name in AnomalyOptions.model_fields}
        return {**own, "layers": all_or(self.layers), "positions": all_or(self.token_positions)}


def all_or(wanted: list[int] | Literal["all"]) -> list[int] | None:
    """ "all" as the configs of scans have it, None."""
    return None if wanted == "all" else wanted
