"""A perturbation's answer, as neural-mri.md 4.3 has it, completed.

Convention. `logit_diff` is of one token, the likeliest one of the unedited run, before and after. Nothing is normalized:
an impact is the largest |change| of a component's fMRI value over the tokens.

Left out: the stack of edits, which is the session's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from nmri3d.api.context import Context
from nmri3d.api.metadata import metadata_of
from nmri3d.api.schema import Answer, ArrayLink, Metadata, TokenProbability
from nmri3d.errors import InputError
from nmri3d.models.backend import Progress
from nmri3d.results import Comparison

if TYPE_CHECKING:
    from nmri3d.perturbation import Edit


class Affected(Answer):
    """A component whose activity changed."""

    id: str
    impact_score: float = Field(description="largest |change| of its fMRI value over the tokens, in `impact_units`")


class ComparedToken(Answer):
    """The likeliest token of the unedited run, in both runs; of a network of signals, the output that changed most."""

    token: str
    token_id: int
    logit_before: float
    logit_after: float
    prob_before: float | None = Field(description="null for a signal")
    prob_after: float | None


class ComparedValues(Answer):
    """fMRI values of both runs and their difference, [token, component]."""

    before: ArrayLink
    after: ArrayLink
    change: ArrayLink


class PerturbationAnswer(Answer):
    """A prompt run as it is and run with edits."""

    original_prediction: TokenProbability | None = Field(
        description="likeliest next token (signals: the first output); null with compare_logits false"
    )
    perturbed_prediction: TokenProbability | None = Field(description="the same with the edits")
    logit_diff: float | None = Field(
        description="logit after minus logit before of the same token, the original prediction; null as above"
    )
    affected_components: list[Affected] = Field(description="largest impact first; what did not change is left out")
    compared: ComparedToken | None = Field(description="the token of logit_diff; null as above")
    before: list[TokenProbability] = Field(description="the k likeliest next tokens; empty with compare_logits false")
    after: list[TokenProbability]
    kl: float | None = Field(
        description="KL(before || after) over the whole vocabulary at the last position, nats; null for signals"
    )
    model: str
    prompt: str = Field(description="the prompt that was run")
    prompt_tokens: list[str]
    impact_units: str
    values: ComparedValues
    edits: list[dict[str, Any]] = Field(description="what was done, in this order; with a session its whole stack")
    metadata: Metadata


class EditStack(Answer):
    """The edits that a session holds."""

    edits: int = Field(description="how many")
    stack: list[dict[str, Any]] = Field(description="the edits, the first one first")


def require_finite(comparison: Comparison) -> None:
    """Refuse a run whose numbers ran out of range, since nothing in it can be compared. Raises InputError."""
    before, after = comparison.values_before, comparison.values_after
    kl = [] if comparison.kl is None else [comparison.kl]
    told = [*kl, comparison.logit_after, *(one.logit for one in comparison.after)]
    if not (np.isfinite(told).all() and (np.isfinite(after) | np.isnan(before)).all()):
        raise InputError(
            "With these edits the model's numbers grow beyond what it can hold, so there is no answer to compare; take a "
            "smaller factor, sigma or values."
        )


def describe_comparison(
    context: Context, comparison: Comparison, prompt: str, edits: Sequence[Edit], *, k: int, compare_logits: bool
) -> PerturbationAnswer:
    """The answer to a perturbation of a prompt by edits."""
    token = comparison.token
    compared = ComparedToken(
        token=token.token,
        token_id=token.token_id,
        logit_before=comparison.logit_before,
        logit_after=comparison.logit_after,
        prob_before=token.probability,
        prob_after=comparison.probability_after,
    )
    impact = np.nan_to_num(np.abs(comparison.change)).max(axis=0)
    ids = comparison.components.ids
    return PerturbationAnswer(
        original_prediction=TokenProbability.of(comparison.before[0]) if compare_logits else None,
        perturbed_prediction=TokenProbability.of(comparison.after[0]) if compare_logits else None,
        logit_diff=comparison.logit_diff if compare_logits else None,
        affected_components=[
            Affected(id=ids[row], impact_score=float(impact[row])) for row in comparison.ranked().tolist()
        ],
        compared=compared if compare_logits else None,
        before=[TokenProbability.of(one) for one in comparison.before] if compare_logits else [],
        after=[TokenProbability.of(one) for one in comparison.after] if compare_logits else [],
        kl=comparison.kl if compare_logits else None,
        model=comparison.provenance.model_id,
        prompt=prompt,
        prompt_tokens=list(comparison.tokens),
        impact_units=f"change of the {comparison.units}",
        values=_links(context, comparison, prompt, edits, k),
        edits=[dict(record) for record in comparison.edits],
        metadata=metadata_of(context.service, comparison.provenance),
    )


def _links(context: Context, comparison: Comparison, prompt: str, edits: Sequence[Edit], k: int) -> ComparedValues:
    takes: Mapping[str, Callable[[Comparison], np.ndarray]] = {
        "before": lambda found: found.values_before,
        "after": lambda found: found.values_after,
        "change": lambda found: found.change,
    }

    def link(name: str) -> ArrayLink:
        def make(progress: Progress) -> np.ndarray:
            return takes[name](context.service.perturb(prompt, edits, k=k, progress=progress))

        records = [dict(record) for record in comparison.edits]
        return context.arrays.link(
            ("perturb", prompt, records, name),
            make,
            dims=("token", "component"),
            shape=comparison.values_before.shape,
            dtype=comparison.values_before.dtype,
            labels={"token": comparison.tokens, "component": comparison.components.ids},
            layers=comparison.components.layer,
            model=comparison.provenance.fingerprint,
        )

    return ComparedValues(before=link("before"), after=link("after"), change=link("change"))
