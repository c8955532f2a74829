"""What is true inside the induction network, and the scans that must find it.

Convention. Texts are of lags that training never used; each is scanned at a step of its second copy, where one word is
certain. The target is that word, the foil one that is nowhere in the text. A corrupted text has other words in place of the
first copy, so that nothing is repeated. Heads are compared with heads; where a truth names heads of both blocks they must lead
all heads, and chance is told by relabeling within their block.

What the checks prove: the answer key names heads by their attention, computed in plain PyTorch on other texts. "kinds of
heads" asks the scanner for the same score, so it proves that the scanner reads attention rightly, and no more. "attribution",
"silenced in company" and "keys" are independent of it: they ask what heads do to the answer, and know no attention. "certain
words" reads FLAIR's entropies of the two blocks; that the words are certain follows from the task, not from the heads.

Left out: the network itself; only its answer key is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

import nmri3d
from nmri3d.models.backend import Backend
from nmri3d.phantoms.calibration import Check, Measured
from nmri3d.phantoms.induction.task import WORDS, held_out_lags
from nmri3d.phantoms.registry import shipped
from nmri3d.scans.head_kinds import head_kinds

TEXTS, SEED = 6, 77
COALITIONS = 96
KINDS_LENGTH = 45
CERTAIN_TEXT_WORDS, CERTAIN_LAG = 44, 20


@dataclass(frozen=True)
class Case:
    """A text, its corrupted form, the word that must follow, and one that is nowhere in it."""

    clean: str
    corrupt: str
    target: str
    foil: str


@cache
def cases(count: int = TEXTS) -> tuple[Case, ...]:
    """Texts of lags never trained, the last word somewhere in the second copy."""
    random, found = np.random.default_rng(SEED), []
    for _ in range(count):
        lag = int(random.choice([lag for lag in held_out_lags() if lag <= 25]))
        words = [WORDS[place] for place in random.permutation(len(WORDS))]
        once, others, foil = words[:lag], words[lag : 2 * lag], words[-1]
        seen = int(random.integers(2, lag))
        clean, corrupt = [*once, *once[:seen]], [*others, *once[:seen]]
        found.append(Case(" ".join(clean), " ".join(corrupt), once[seen], foil))
    return tuple(found)


def checks() -> tuple[Check, ...]:
    """The planted truths, from the answer key of the shipped network."""
    key = {truth.name: truth.components for truth in shipped("induction").answer_key()}
    previous, induction = key["previous-token heads"], key["induction heads"]
    circuit = (*previous, *induction)
    return (
        Check(
            "kinds of heads",
            "fMRI",
            f"{', '.join(previous)} look at the token before, {', '.join(induction)} at what followed the earlier copy",
            "these heads lead the previous-token score, those the induction score, at a lag never trained",
            0.9,
            lambda model, random: _kinds(model, previous, induction),
        ),
        Check(
            "attribution",
            "DTI",
            f"{', '.join(circuit)} carry the answer together",
            "they lead the exact node scores against a text that repeats nothing",
            0.85,
            lambda model, random: _attributed(model, circuit),
        ),
        Check(
            "silenced in company",
            "sweep",
            f"{', '.join(circuit)} carry the answer together",
            "silenced with random other heads, so that none can stand in for them, they are missed most",
            0.9,
            lambda model, random: _in_company(model, circuit, random),
        ),
        Check(
            "keys",
            "DTI",
            "the induction heads read what the previous-token heads write by their keys",
            "of all edges from heads of block 0 to the query, key and value inputs of heads of block 1 these lead",
            0.9,
            lambda model, random: _edges(model, previous, induction),
        ),
        Check(
            "certain words",
            "FLAIR",
            "in the second copy of a text block 1 makes the next word certain, at the same steps of a text without a copy not",
            "FLAIR's entropy falls more from block 0 to block 1 there than at the same step of the other text",
            0.9,
            lambda model, random: _certain(model, random),
        ),
    )


def _heads(model: Backend, scores: np.ndarray, truth: tuple[str, ...]) -> Measured:
    """Heads compared with the heads of their block; scores [components]."""
    rows = model.components.rows("head")
    names = tuple(model.components.ids[row] for row in rows)
    return Measured(names, scores[rows].astype(float), np.isin(names, truth), model.components.layer[rows])


def _kinds(model: Backend, previous: tuple[str, ...], induction: tuple[str, ...]) -> Measured:
    """Every head stands twice, once with each of its scores, and is compared with the others of the same score."""
    found = head_kinds(model, length=KINDS_LENGTH, seed=SEED)
    heads = [model.components.ids[row] for row in found.rows]
    names = tuple(f"{head}, {kind}" for kind in ("previous", "induction") for head in heads)
    truth = np.concatenate([np.isin(heads, previous), np.isin(heads, induction)])
    scores = np.concatenate([found.previous, found.induction]).astype(float)
    return Measured(names, scores, truth, np.repeat([0, 1], len(heads)), components=tuple(heads * 2))


def _attributed(model: Backend, truth: tuple[str, ...]) -> Measured:
    scans = [
        nmri3d.scan(
            model, "DTI", case.clean, corrupt=case.corrupt, target=case.target, foil=case.foil, method="exact",
            edges="none",
        )
        for case in cases()
    ]  # fmt: skip
    return _heads(model, np.mean([scan.values[0] for scan in scans], axis=0), truth)


def _in_company(model: Backend, truth: tuple[str, ...], random: np.random.Generator) -> Measured:
    """What a head adds to the metric while random halves of the others are silenced (Banzhaf values, by least squares)."""
    rows = model.components.rows("head")
    silenced, metric = [], []
    for number in range(COALITIONS):
        case = cases()[number % TEXTS]
        chosen = random.random(len(rows)) < 0.5
        edits = [nmri3d.Edit(model.components.ids[row], "patch", source=case.corrupt) for row in rows[chosen]]
        if not edits:
            continue
        compared = nmri3d.perturb(model, case.clean, edits, k=model.info.d_vocab)
        logits = {answer.token.strip(): answer.logit for answer in compared.after}
        silenced.append(chosen)
        metric.append(logits[case.target] - logits[case.foil])
    design = np.column_stack([np.array(silenced, dtype=float), np.ones(len(silenced))])
    lost = np.linalg.lstsq(design, np.array(metric), rcond=None)[0]
    scores = np.zeros(len(model.components))
    scores[rows] = -lost[:-1]
    return _heads(model, scores, truth)


def _edges(model: Backend, previous: tuple[str, ...], induction: tuple[str, ...]) -> Measured:
    table = model.components
    below, above = table.rows("head", 0).tolist(), table.rows("head", 1).tolist()
    edges = {(s, t, slot): 0.0 for s in below for t in above for slot in "qkv"}
    for case in cases():
        tracts = nmri3d.scan(
            model,
            "DTI",
            case.clean,
            corrupt=case.corrupt,
            target=case.target,
            foil=case.foil,
            method="atp",
            edges="eap-ig",
        ).tracts
        assert tracts is not None
        found = zip(
            tracts.source.tolist(), tracts.target.tolist(), tracts.slot.tolist(), tracts.score.tolist(), strict=True
        )
        for source, target, slot, score in found:
            if (source, target, slot) in edges:
                edges[source, target, slot] += score / TEXTS
    names = tuple(f"{table.ids[s]} to {slot} of {table.ids[t]}" for s, t, slot in edges)
    truth = [table.ids[s] in previous and table.ids[t] in induction and slot == "k" for s, t, slot in edges]
    return Measured(names, np.array(list(edges.values())), np.array(truth))


def _certain(model: Backend, random: np.random.Generator) -> Measured:
    """Score: by how much FLAIR's entropy falls from the point after block 0 to that after block 1, in nats.

    A stratum is a step, once of a text with a copy and once of one without. FLAIR's distance from the answer would not do: it
    is larger in a copy in networks with random weights too.
    """
    words = [WORDS[place] for place in random.permutation(len(WORDS))][:CERTAIN_TEXT_WORDS]
    repeating = [*words[:CERTAIN_LAG], *words[:CERTAIN_LAG]]
    steps = np.arange(CERTAIN_LAG + 2, len(repeating) + 1)  # behind the second word of the copy
    names, scores, truth = [], [], []
    for name, text in (("copy", repeating), ("no copy", words[: len(repeating)])):
        entropy = nmri3d.scan(model, "FLAIR", " ".join(text), template="off").details["entropy"]
        names += [f"step {step}, {name}" for step in steps]
        scores.append(entropy[0, steps] - entropy[-1, steps])
        truth.append(np.full(len(steps), name == "copy"))
    return Measured(tuple(names), np.concatenate(scores).astype(float), np.concatenate(truth), np.tile(steps, 2))
