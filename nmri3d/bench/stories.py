"""Three stories of circuits, told with the figures that come out: who gives whom a drink, where a capital is known, what
follows in a list that repeats.

Convention. Nothing is chosen by hand but the prompts: heads are those that a sweep, a trace or a score puts first.

    names      exact patching from the prompt in which the other name gives finds the heads whose loss hurts the answer
               most. They are mean-ablated together. Backup (Wang et al. 2022): the direct effect of every other head on
               the logit difference, before and after; both through the clean run's final norm, its scale frozen.
    capital    causal tracing between two countries, and with ROME's noise on the country: at which layers the country's
               own position holds the answer, and from which on the last position does.
    induction  the heads that score highest for induction on random tokens are zeroed; the loss on the second copy of
               other random tokens is measured before and after, and with as many other heads of the same layers zeroed.

Left out: averages over many prompts, which `nmri3d.bench.faithfulness` has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from nmri3d.models.backend import Backend, Progress, Stimulus, no_progress
from nmri3d.models.progress import part
from nmri3d.models.residual_backend import require_residual
from nmri3d.perturbation import Edit, ablate_all, perturb, trace
from nmri3d.perturbation.edits import site_edits
from nmri3d.results import Heatmap
from nmri3d.scans.head_kinds import head_kinds, repeated_tokens

NAMES_PROMPT = "When Mary and John went to the store, John gave a drink to"
NAMES_CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
NAMES = (" Mary", " John")
CAPITAL_PROMPT = "The capital of France is"
CAPITAL_CORRUPT = "The capital of Italy is"
CAPITALS = (" Paris", " Rome")
COUNTRY = 3
"""Position of the country in CAPITAL_PROMPT, without a BOS."""

MOVERS = 3
INDUCTION_HEADS = 5
KINDS_SEED, LOSS_SEED = 0, 1


@dataclass(frozen=True)
class NamesStory:
    """Indirect object identification.

    heads           head -> change of the logit difference when it is patched, the MOVERS most harmful and the 2 most helpful
    silenced        the heads that are mean-ablated together
    metric, probability        logit difference and probability of the answer: (before, after)
    direct_lost     what the silenced heads lost of direct effect on the logit difference
    backup_gained   what all other heads gained of it; opposing_gained the part of it that comes from heads which worked
                    against the answer before (they let go, rather than step in)
    risers          the five heads that gained most: head -> (before, after)
    """

    metric: tuple[float, float]
    probability: tuple[float, float]
    heads: dict[str, float]
    silenced: tuple[str, ...]
    direct_lost: float
    backup_gained: float
    opposing_gained: float
    risers: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class CapitalStory:
    """A fact traced; for each method, layers are rows of the residual stream (entering that block).

    country_until   last layer up to which restoring the country's position alone recovers over half
    last_from       first layer from which on restoring the last position alone recovers over half
    strongest       site -> (layer, token, recovery) of the cell that recovers most
    """

    method: str
    marked: tuple[str, ...]
    metric: tuple[float, float]
    country_until: int
    last_from: int
    strongest: dict[str, tuple[int, str, float]]
    note: str


@dataclass(frozen=True)
class InductionStory:
    """Induction heads by score, and the mean loss (nats a token) on the second copy of random tokens.

    first, second   loss on the first and on the second copy, nothing silenced
    best, all_best  second copy with the best head, and with the best INDUCTION_HEADS, zeroed
    controls        second copy with as many other heads of the same layers zeroed, those that score lowest
    """

    scores: dict[str, float]
    control_heads: tuple[str, ...]
    first: float
    second: float
    best: float
    all_best: float
    controls: float


@dataclass(frozen=True)
class StoriesReport:
    """What `stories_report` found."""

    model_id: str
    names: NamesStory
    capital: CapitalStory
    capital_noise: CapitalStory
    induction: InductionStory

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values; NaN as null."""
        return json.loads(json.dumps(asdict(self)), parse_constant=lambda text: None)

    def __str__(self) -> str:
        return "\n\n".join(
            [
                f"{self.model_id}: three stories",
                _names_text(self.names),
                _capital_text(self.capital),
                _capital_text(self.capital_noise),
                _induction_text(self.induction),
            ]
        )


def stories_report(model: Backend, *, progress: Progress = no_progress) -> StoriesReport:
    """Measure all three; half a minute for the default model. Raises InputError for a model that cuts the prompts otherwise."""
    return StoriesReport(
        model.info.model_id,
        names_story(model, progress=part(progress, 0.0, 0.4)),
        capital_story(model, "counterfactual", progress=part(progress, 0.4, 0.5)),
        capital_story(model, "noise", progress=part(progress, 0.5, 0.9)),
        induction_story(model, progress=part(progress, 0.9, 1.0)),
    )


def names_story(model: Backend, *, progress: Progress = no_progress) -> NamesStory:
    """Find the heads that matter by exact patching, silence them, and look who steps in."""
    target, foil = NAMES
    sweep = ablate_all(
        model,
        NAMES_PROMPT,
        effect="patch",
        corrupt=NAMES_CORRUPT,
        target=target,
        foil=foil,
        components=[model.components.ids[row] for row in model.components.rows("head")],
        progress=progress,
    ).to_pandas()
    ranked = sweep.sort_values("value", kind="stable")
    silenced = tuple(ranked["component"][:MOVERS])
    edits = [Edit(head, "ablate") for head in silenced]
    stimulus = model.stimulus(NAMES_PROMPT)
    before, direct_before = _metric_and_direct_effects(model, stimulus, [], NAMES)
    after, direct_after = _metric_and_direct_effects(model, stimulus, edits, NAMES)
    comparison = perturb(model, NAMES_PROMPT, edits)
    heads = model.components.rows("head")
    own = np.array([model.components.row(head) for head in silenced])
    others = np.setdiff1d(heads, own)
    gain = direct_after - direct_before
    risers = others[np.argsort(-gain[others], kind="stable")[:5]]
    shown = [*ranked.head(MOVERS).itertuples(), *ranked.tail(2).itertuples()]
    return NamesStory(
        metric=(before, after),
        probability=(comparison.token.probability, comparison.probability_after),
        heads={row.component: float(row.value) for row in shown},
        silenced=silenced,
        direct_lost=float(-gain[own].sum()),
        backup_gained=float(gain[others].sum()),
        opposing_gained=float(gain[others][direct_before[others] < 0].sum()),
        risers={
            model.components.ids[row]: (float(direct_before[row]), float(direct_after[row])) for row in risers.tolist()
        },
    )


def capital_story(model: Backend, method: str, *, progress: Progress = no_progress) -> CapitalStory:
    """Trace the fact by a counterfactual or by noise on the country."""
    stimulus = model.stimulus(CAPITAL_PROMPT)
    country = COUNTRY + int(stimulus.special.sum())
    options: dict[str, Any] = {"corrupt": CAPITAL_CORRUPT} if method == "counterfactual" else {"marked": [country]}
    target, foil = CAPITALS
    heat = trace(model, CAPITAL_PROMPT, target=target, foil=foil, method=method, progress=progress, **options)
    residual = heat.values[heat.sites.index("resid")]
    return CapitalStory(
        method=method,
        marked=tuple(heat.tokens[place] for place in heat.marked) or (heat.tokens[country],),
        metric=(heat.clean_metric, heat.corrupt_metric),
        country_until=_last_run(residual[:, country] > 0.5),
        last_from=len(residual) - 1 - _last_run((residual[:, -1] > 0.5)[::-1]),
        strongest={site: _strongest(heat, site) for site in ("attn", "mlp")},
        note=heat.note,
    )


def induction_story(model: Backend, *, progress: Progress = no_progress) -> InductionStory:
    """Find induction heads on one text of random tokens, and silence them on another."""
    kinds = head_kinds(model, seed=KINDS_SEED, progress=progress)
    order = np.argsort(-kinds.induction, kind="stable")
    best = [kinds.components.ids[kinds.rows[place]] for place in order[:INDUCTION_HEADS]]
    layers = kinds.components.layer[kinds.rows]
    controls: list[str] = []
    for place in order[:INDUCTION_HEADS]:
        same = [other for other in order[::-1] if layers[other] == layers[place]]
        free = [kinds.components.ids[kinds.rows[other]] for other in same]
        controls.append(next(head for head in free if head not in controls and head not in best))
    stimulus, start = repeated_tokens(model, seed=LOSS_SEED, length=kinds.length)
    middle = start + kinds.length

    def loss(heads: Sequence[str]) -> np.ndarray:
        return _losses(model, stimulus, [Edit(head, "zero") for head in heads])

    plain = loss([])
    return InductionStory(
        scores={head: kinds.of(head)["induction"] for head in best},
        control_heads=tuple(controls),
        first=float(plain[: middle - 1].mean()),
        second=float(plain[middle:].mean()),
        best=float(loss(best[:1])[middle:].mean()),
        all_best=float(loss(best)[middle:].mean()),
        controls=float(loss(controls)[middle:].mean()),
    )


def _metric_and_direct_effects(
    model: Backend, stimulus: Stimulus, edits: Sequence[Edit], answers: tuple[str, str]
) -> tuple[float, np.ndarray]:
    """Logit difference at the last position, and each component's direct effect on it through the clean final norm."""
    tokens = torch.tensor([model.token_id(answer) for answer in answers])
    whole = require_residual(model, "dla")
    readout = whole.direct_logits(whole.record(stimulus), tokens, -1)
    direction = (readout.directions[0] - readout.directions[1]).float().cpu().numpy()
    plan = model.write_plan("whole", frozenset(range(model.info.n_layers)))
    heads = {f"blocks.{layer}.attn.writes": layer for layer in range(model.info.n_layers)}
    last = dict.fromkeys(heads, lambda writes: writes[-1].float().cpu().numpy())
    run = model.run(stimulus, {**plan.reads, **last}, edits=site_edits(model, stimulus, edits), logits=[-1])
    writes = plan.collect(run)[-1]
    for site, layer in heads.items():  # what a head writes after an edit of its write
        rows = model.components.rows(layer=layer)
        writes[rows[: len(run.reads[site])]] = run.reads[site]
    logits = run.logits[0]
    return float(logits[tokens[0]] - logits[tokens[1]]), writes @ direction


def _losses(model: Backend, stimulus: Stimulus, edits: Sequence[Edit]) -> np.ndarray:
    """Negative log-likelihood of every token but the first, nats, float64 [steps - 1]."""
    run = model.run(stimulus, {}, edits=site_edits(model, stimulus, edits), logits=range(len(stimulus) - 1))
    log_probabilities = run.logits.double().log_softmax(-1).cpu().numpy()
    return -log_probabilities[np.arange(len(stimulus) - 1), stimulus.ids[1:]]


def _last_run(holds: np.ndarray) -> int:
    """The last index of the unbroken run of True that starts at 0; -1 where it does not start."""
    return len(holds) - 1 if holds.all() else int(np.argmin(holds)) - 1


def _strongest(heat: Heatmap, site: str) -> tuple[int, str, float]:
    values = heat.values[heat.sites.index(site)]
    if np.isnan(values).all():
        return -1, "", float("nan")
    layer, position = np.unravel_index(np.nanargmax(values), values.shape)
    return int(layer), heat.tokens[position], float(values[layer, position])


def _names_text(story: NamesStory) -> str:
    lines = [
        f"Names: {NAMES_PROMPT!r}",
        f"  logit difference{NAMES[0]} -{NAMES[1]}: {story.metric[0]:.2f}; probability of{NAMES[0]}: "
        f"{story.probability[0]:.3f}",
        f"  exact patching from {NAMES_CORRUPT!r} changes it by:",
        *(f"    {head:<24} {change:+.2f}" for head, change in story.heads.items()),
        f"  mean-ablated together: {', '.join(story.silenced)}",
        f"  logit difference {story.metric[0]:.2f} -> {story.metric[1]:.2f}, probability of{NAMES[0]} "
        f"{story.probability[0]:.3f} -> {story.probability[1]:.3f}",
        f"  their direct effect fell by {story.direct_lost:.2f}, that of all other heads "
        f"{'rose' if story.backup_gained > 0 else 'fell'} by {abs(story.backup_gained):.2f} "
        f"({story.backup_gained / story.direct_lost:.0%} of the loss)",
        f"  of that, {story.opposing_gained:+.2f} are heads that worked against{NAMES[0]} before and let go, "
        f"{story.backup_gained - story.opposing_gained:+.2f} all others; most:",
        *(f"    {head:<24} {before:+.2f} -> {after:+.2f}" for head, (before, after) in story.risers.items()),
    ]
    return "\n".join(lines)


def _capital_text(story: CapitalStory) -> str:
    how = f"from {CAPITAL_CORRUPT!r}" if story.method == "counterfactual" else f"noise on{story.marked[0]}"
    lines = [
        f"A capital ({how}): {CAPITAL_PROMPT!r}",
        f"  logit difference{CAPITALS[0]} -{CAPITALS[1]}: clean {story.metric[0]:.2f}, corrupted {story.metric[1]:.2f}",
    ]
    if story.note:
        return "\n".join([*lines, f"  no figures: {story.note}"])
    lines += [
        f"  restoring{story.marked[0]} alone recovers over half up to layer {story.country_until}",
        f"  restoring the last position alone recovers over half from layer {story.last_from} on",
    ]
    for site, (layer, token, recovery) in story.strongest.items():
        lines.append(f"  strongest {site:<5} layer {layer:>2} at {token!r}: recovery {recovery:.2f}")
    return "\n".join(lines)


def _induction_text(story: InductionStory) -> str:
    (head, _), *_ = story.scores.items()
    lines = [
        "Induction: random tokens, read twice",
        "  induction scores: " + ", ".join(f"{name} {score:.2f}" for name, score in story.scores.items()),
        f"  loss on the first copy {story.first:.2f}, on the second {story.second:.2f} nats a token",
        f"  second copy with {head} zeroed: {story.best:.2f}",
        f"  with all {len(story.scores)} zeroed: {story.all_best:.2f}",
        f"  with {len(story.control_heads)} other heads of the same layers zeroed: {story.controls:.2f}",
    ]
    return "\n".join(lines)
