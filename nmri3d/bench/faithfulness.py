"""How faithful the fast methods of DTI are: each held against the exact intervention, on three sets of prompts.

Convention. For each pair of `nmri3d.bench.prompts` the metric is the logit of the clean answer minus that of the corrupted
one, at the last position. Compared are, with the same baseline on both sides,

    nodes, patch   atp, the sums of EAP-IG edges, and dla, against exact patching from the corrupted prompt
    nodes, zero    atp and dla against exact zero ablation
    edges, patch   EAP and EAP-IG against path patching, on a sample of edges

The sums of a writer's EAP edges are its atp score (an identity that the tests prove), so they have no row of their own.
Attention biases and `unembed` are left out. The sample are edges at equal steps of the logarithm of their rank, half by |EAP|
and half by |EAP-IG|, among the KEPT strongest of each. Figures of one prompt pair:

    spearman, pearson   over all nodes (edges of the sample)
    top10               how many of the 10 largest |exact| are among the 10 largest |fast|
    sign                share of the 20 largest |exact| whose sign is the same

Rows give the median over the pairs, and the smallest and largest. Circuits are those that a scan draws by default: the
fewest edges with SHARE of the total |score|, and how much of the metric they keep by themselves.

Left out: mean ablation, other positions than the last, and models other than the one at hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from nmri3d.bench.prompts import PROMPTS, PromptPair
from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.progress import part
from nmri3d.models.provenance import provenance
from nmri3d.models.recording import Recording
from nmri3d.models.residual_backend import ResidualBackend, require_residual
from nmri3d.perturbation.baselines import Baseline, baseline
from nmri3d.perturbation.metric import LogitDifference
from nmri3d.perturbation.paths import edge_effect, faithfulness
from nmri3d.perturbation.sweep import sweep_values
from nmri3d.results import Provenance, Tracts
from nmri3d.scans.attribution import attribution_patching, direct_logit_attribution
from nmri3d.scans.edges import GradientPass, edge_attribution, integrated_passes

MEASURES = ("spearman", "pearson", "top10", "sign")
TOP = 10
SIGNED = 20
KEPT = 20_000
SAMPLED_EDGES = 32
STEPS = 5
SHARE = 0.5


@dataclass(frozen=True)
class Agreement:
    """One fast method against the exact one on one set of prompts; each measure holds one figure a pair, NaN if undefined."""

    prompts: str
    over: str
    method: str
    exact: str
    effect: str
    spearman: tuple[float, ...]
    pearson: tuple[float, ...]
    top10: tuple[float, ...]
    sign: tuple[float, ...]

    def summary(self, measure: str) -> tuple[float, float, float]:
        """Median, smallest and largest over the pairs where the measure is defined; NaN where it is for none."""
        values = np.array(getattr(self, measure), dtype=float)
        values = values[~np.isnan(values)]
        if not len(values):
            return (float("nan"),) * 3
        return float(np.median(values)), float(values.min()), float(values.max())


@dataclass(frozen=True)
class Circuits:
    """The circuits drawn by default on one set of prompts: how many edges, and their faithfulness, one figure a pair."""

    prompts: str
    method: str
    edges: tuple[int, ...]
    faithfulness: tuple[float, ...]


@dataclass(frozen=True)
class FaithfulnessReport:
    """What `faithfulness_report` found.

    counts    set -> how many pairs were measured
    left_out  prompts that do not fit the model, with the reason
    """

    rows: tuple[Agreement, ...]
    circuits: tuple[Circuits, ...]
    counts: Mapping[str, int]
    left_out: tuple[str, ...]
    provenance: Provenance

    def as_record(self) -> dict[str, object]:
        """Plain JSON values; NaN as null."""
        record = asdict(self)
        for row, agreement in zip(record["rows"], self.rows, strict=True):
            row["summary"] = {measure: agreement.summary(measure) for measure in MEASURES}
        return json.loads(json.dumps(record), parse_constant=lambda text: None)

    def __str__(self) -> str:
        """The report as text: medians over the pairs, and the range."""
        lines = [
            f"{self.provenance.model_id}: fast methods against exact interventions",
            "median over prompt pairs [smallest, largest]; top 10: of the 10 strongest, how many are found; sign: share of the "
            f"{SIGNED} strongest",
            "",
        ]
        head = ("prompts", "", "fast", "against", "Spearman", "Pearson", "top 10", "sign")
        body = [
            (
                f"{row.prompts} ({self.counts[row.prompts]})",
                row.over,
                row.method,
                f"{row.exact}, {row.effect}",
                *(_cell(row.summary(measure), digits) for measure, digits in zip(MEASURES, (2, 2, 0, 2), strict=True)),
            )
            for row in self.rows
        ]
        lines += _columns([head, *body])
        circuit_head = ("prompts", "circuit", "edges", "faithfulness")
        circuit_body = [
            (
                f"{one.prompts} ({self.counts[one.prompts]})",
                f"{one.method}, {SHARE:.0%} of |score|",
                _cell((float(np.median(one.edges)), min(one.edges), max(one.edges)), 0),
                _cell((float(np.median(one.faithfulness)), min(one.faithfulness), max(one.faithfulness)), 2),
            )
            for one in self.circuits
        ]
        lines += ["", *_columns([circuit_head, *circuit_body])]
        if self.left_out:
            lines += ["", f"left out ({len(self.left_out)}):", *(f"  {reason}" for reason in self.left_out)]
        return "\n".join(lines)


def faithfulness_report(
    model: Backend,
    *,
    prompts: Mapping[str, Sequence[PromptPair]] = PROMPTS,
    progress: Progress = no_progress,
) -> FaithfulnessReport:
    """Measure every fast method against the exact one.

    Takes some minutes for the default model on two cores. Raises InputError where no pair fits the model and for one without
    a residual stream, and whatever `progress` raises.
    """
    started = time.perf_counter()
    whole = require_residual(model, "edges")
    fitting, left_out = _fitting(model, prompts)
    rows: list[Agreement] = []
    circuits: list[Circuits] = []
    done, total = 0, sum(map(len, fitting.values()))
    for name, pairs in fitting.items():
        found: dict[tuple[str, str, str, str], list[tuple[float, ...]]] = {}
        drawn: dict[str, list[tuple[int, float]]] = {}
        for pair in pairs:
            progress(done / total, f"{name}: {pair.clean}")
            _measure(whole, pair, found, drawn, part(progress, done / total, (done + 1) / total))
            done += 1
        for key, figures in found.items():
            rows.append(Agreement(name, *key, *(tuple(column) for column in zip(*figures, strict=True))))
        for method, circuit in drawn.items():
            edges, kept = zip(*circuit, strict=True)
            circuits.append(Circuits(name, method, edges, kept))
    config = {"steps": STEPS, "share": SHARE, "sampled_edges": SAMPLED_EDGES}
    return FaithfulnessReport(
        tuple(rows),
        tuple(circuits),
        {name: len(pairs) for name, pairs in fitting.items()},
        tuple(left_out),
        provenance(model, started, config),
    )


def agreement(fast: np.ndarray, exact: np.ndarray) -> tuple[float, float, float, float]:
    """The four figures of one prompt pair, in the order of MEASURES; correlations of what is constant are NaN."""
    varies = len(exact) > 1 and np.ptp(fast) > 0 and np.ptp(exact) > 0
    spearman = float(stats.spearmanr(fast, exact).statistic) if varies else float("nan")
    pearson = float(stats.pearsonr(fast, exact).statistic) if varies else float("nan")
    largest = np.argsort(-np.abs(exact), kind="stable")
    top = np.intersect1d(largest[:TOP], np.argsort(-np.abs(fast), kind="stable")[:TOP])
    signed = largest[:SIGNED]
    return spearman, pearson, float(len(top)), float((np.sign(fast[signed]) == np.sign(exact[signed])).mean())


def _fitting(
    model: Backend, prompts: Mapping[str, Sequence[PromptPair]]
) -> tuple[dict[str, list[PromptPair]], list[str]]:
    """The pairs that fit a model, by set, and why the others do not."""
    fitting: dict[str, list[PromptPair]] = {}
    left_out = []
    for name, pairs in prompts.items():
        for pair in pairs:
            try:
                model.token_id(pair.target), model.token_id(pair.foil)
                clean, corrupt = len(model.stimulus(pair.clean)), len(model.stimulus(pair.corrupt))
            except InputError as error:
                left_out.append(f"{name}: {pair.clean!r}: {error}")
                continue
            if clean == corrupt:
                fitting.setdefault(name, []).append(pair)
            else:
                left_out.append(f"{name}: {pair.clean!r}: {clean} tokens, its corrupted form {corrupt}")
    if not fitting:
        raise InputError(f"no prompt pair fits the tokenizer of {model.info.title}; the first: {left_out[:1]}")
    return fitting, left_out


def _measure(
    model: ResidualBackend,
    pair: PromptPair,
    found: dict[tuple[str, str, str, str], list[tuple[float, ...]]],
    drawn: dict[str, list[tuple[int, float]]],
    progress: Progress,
) -> None:
    """Add the figures of one pair."""
    stimulus = model.stimulus(pair.clean)
    recording = model.record(stimulus)
    metric = LogitDifference(model, model.token_id(pair.target), model.token_id(pair.foil), len(stimulus) - 1)
    patch, zero = baseline(model, stimulus, "patch", pair.corrupt), baseline(model, stimulus, "zero", None)
    nodes = np.flatnonzero(~np.isin(model.components.kind, ["attn_bias", "unembed"]))
    clean = GradientPass(*model.gradients(stimulus, metric.of_steps))
    assert patch.recording is not None
    between = integrated_passes(model, stimulus, metric.of_steps, patch.recording, STEPS, part(progress, 0.0, 0.2))
    edges = {
        method: edge_attribution(model, recording, passes, patch, keep=1 << 62)
        for method, passes in (("EAP", [clean]), ("EAP-IG", between))
    }
    exact = {
        "patch": -sweep_values(model, recording, patch, metric, nodes, progress=part(progress, 0.2, 0.5)),
        "zero": -sweep_values(model, recording, zero, metric, nodes, progress=part(progress, 0.5, 0.9)),
    }
    ig = edges["EAP-IG"]
    direct = direct_logit_attribution(model, recording, metric)
    for effect, chosen in (("patch", patch), ("zero", zero)):
        fast = {"atp (EAP sums)": attribution_patching(model, clean.recording, clean.gradients, chosen).sum(axis=0)}
        if effect == "patch":
            fast["EAP-IG sums"] = np.bincount(ig.source, ig.score.astype(float), minlength=len(model.components))
        fast["dla"] = direct
        for method, values in fast.items():
            key = ("nodes", method, "exact", effect)
            found.setdefault(key, []).append(agreement(values[nodes], exact[effect][nodes]))
    progress(0.9, "patching paths")
    sample = sampled_edges(edges["EAP"], ig)
    patched = np.array([edge_effect(model, recording, patch, metric, *edge) for edge in sample])
    for method, tracts in edges.items():
        scores = _scores_of(tracts, sample)
        found.setdefault(("edges", method, "path patching", "patch"), []).append(agreement(scores, patched))
        drawn.setdefault(method, []).append(_circuit(model, recording, patch, metric, tracts))


def sampled_edges(first: Tracts, second: Tracts) -> list[tuple[int, int, str]]:
    """Edges (source, target, slot) at equal steps of the logarithm of their rank in either order, each once."""
    ranks = np.unique(np.geomspace(1, min(KEPT, len(first)), SAMPLED_EDGES // 2).astype(int)) - 1
    chosen = [
        (int(one.source[rank]), int(one.target[rank]), str(one.slot[rank])) for one in (first, second) for rank in ranks
    ]
    return list(dict.fromkeys(chosen))


def _scores_of(tracts: Tracts, edges: Sequence[tuple[int, int, str]]) -> np.ndarray:
    """Scores of named edges, float64."""
    found = []
    for source, target, slot in edges:
        (place,) = np.flatnonzero((tracts.source == source) & (tracts.target == target) & (tracts.slot == slot))
        found.append(float(tracts.score[place]))
    return np.array(found)


def _circuit(
    model: ResidualBackend, recording: Recording, chosen: Baseline, metric: LogitDifference, tracts: Tracts
) -> tuple[int, float]:
    circuit = tracts.pruned(SHARE)
    return len(circuit), faithfulness(model, recording, chosen, metric, circuit)[0]


def _cell(summary: tuple[float, float, float], digits: int) -> str:
    median, smallest, largest = summary
    shown = 1 if digits == 0 and median % 1 else digits  # the median of an even number of counts may lie between two
    return f"{median:.{shown}f} [{smallest:.{digits}f}, {largest:.{digits}f}]"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
