"""Does FLAIR tell wrong answers from right ones? Tested on questions that were fixed before, and reported as it comes out.

Each question of `nmri3d.bench.questions` is run once; the model's answer is the likeliest next token:

    right           one of the question's answers
    function word   a token that carries the sentence on without answering ("the", "a", punctuation): a class of its own
    wrong           anything else

Scores, higher meaning "more suspect", at the last position: FLAIR's summary (mean score over the enabled rows, all defaults),
the entropy of the final distribution, and 1 - its largest probability. AUROC is the probability that a wrong answer has the
larger score than a right one, ties counted half. Intervals are 95 % bootstrap percentiles, right and wrong answers each drawn
again; differences are paired, both scores on the same draws. Stratified AUROC compares only answers whose expected token is
about equally frequent (thirds of log u, u the template's mean final distribution), or of the same category.

"Separates" is said only where an interval's lower bound exceeds 0.5, "inverted" only where its upper bound is below.

Left out: any tuning. The questions are short and the model is asked without its chat format, so that the figures speak of
such prompts only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nmri3d.bench.questions import CATEGORIES, QUESTIONS, Question, continues_without_answer
from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.progress import part
from nmri3d.models.residual_backend import require_residual
from nmri3d.scans.flair import scan_flair
from nmri3d.scans.flair_config import FlairConfig
from nmri3d.template.access import template_of

SCORES = ("FLAIR", "final entropy", "1 - max probability")
OUTCOMES = ("right", "wrong", "function word")
DRAWS = 4000
SEED = 0
STRATA = 3
TINY = 1e-38
"""Least probability whose logarithm is taken."""


VIEWS: dict[str, dict[str, Any]] = {
    "AUROC, wrong against right": {},
    "the same, among answers of like frequency": {"within": "frequency"},
    "the same, within facts, arithmetic and syntax": {"within": "category"},
    "function-word continuations counted as wrong": {"with_function_words": True},
}
"""How right and wrong answers are compared, and the options of `FlairEvaluation.auroc` for it."""


@dataclass(frozen=True)
class Answer:
    """What the model answered to one question; scores are those of SCORES, in their order.

    log_frequency is log u of the expected token.
    """

    question: Question
    text: str
    outcome: str
    scores: tuple[float, ...]
    log_frequency: float


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:5.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, eq=False)
class FlairEvaluation:
    """All answers of one model, and the questions that were left out since their answer is several tokens for it."""

    model: str
    answers: tuple[Answer, ...]
    left_out: tuple[Question, ...]

    def count(self, outcome: str, category: str | None = None) -> int:
        """How many answers came out so, in one category or in all."""
        return sum(a.outcome == outcome and category in (None, a.question.category) for a in self.answers)

    def auroc(self, *, with_function_words: bool = False, within: str | None = None) -> dict[str, Estimate]:
        """AUROC of every score, and of "FLAIR - ..." for the paired differences; see the module's first lines.

        within is None, "frequency" or "category". Raises InputError where there is no pair to compare.
        """
        wrong = ("wrong", "function word") if with_function_words else ("wrong",)
        used = [a for a in self.answers if a.outcome == "right" or a.outcome in wrong]
        is_wrong = np.array([a.outcome != "right" for a in used])
        scores = np.array([a.scores for a in used]).reshape(len(used), len(SCORES)).T
        match within:
            case "frequency":
                groups = equal_groups(np.array([a.log_frequency for a in used]), STRATA)
            case "category":
                groups = np.array([CATEGORIES.index(a.question.category) for a in used])
            case _:
                groups = np.zeros(len(used), dtype=np.int64)
        return dict(zip(SCORES, auroc_with_intervals(scores, is_wrong, groups), strict=True)) | {
            f"{SCORES[0]} - {name}": difference
            for name, difference in zip(SCORES[1:], differences(scores, is_wrong, groups), strict=True)
        }

    def as_record(self) -> dict[str, Any]:
        """The evaluation as plain JSON values: counts by category, every estimate, every answer."""
        return {
            "model": self.model,
            "counts": {c or "all": {o: self.count(o, c) for o in OUTCOMES} for c in (*CATEGORIES, None)},
            "auroc": {
                title: {name: asdict(one) | {"verdict": verdict(name, one)} for name, one in self.auroc(**view).items()}
                for title, view in VIEWS.items()
            },
            "answers": [asdict(answer) for answer in self.answers],
            "left_out": [asdict(question) for question in self.left_out],
        }

    def __str__(self) -> str:
        """The evaluation as text, with a verdict a line."""
        total = len(self.answers)
        lines = [
            f"FLAIR against right and wrong answers: {self.model}, {total} questions",
            f"({len(self.left_out)} left out: their answer is more than one token)",
            "",
            f"{'':<14}" + "".join(f"{name:>15}" for name in OUTCOMES),
        ]
        for category in (*CATEGORIES, None):
            counts = "".join(f"{self.count(outcome, category):>15}" for outcome in OUTCOMES)
            lines.append(f"{category or 'all':<14}{counts}")
        for title, options in VIEWS.items():
            lines += ["", title]
            for name, estimate in self.auroc(**options).items():
                lines.append(f"  {name:<30} {estimate}   {verdict(name, estimate)}")
        return "\n".join(lines)


def verdict(name: str, estimate: Estimate) -> str:
    """What an interval allows one to say: of an AUROC against 0.5, of a difference against 0."""
    is_difference = name not in SCORES
    middle = 0.0 if is_difference else 0.5
    if estimate.low > middle:
        return "FLAIR is better" if is_difference else "separates"
    if estimate.high < middle:
        return "FLAIR is worse" if is_difference else "inverted"
    return "no difference shown" if is_difference else "does not separate"


def evaluate(
    model: Backend, progress: Progress = no_progress, *, questions: Sequence[Question] = QUESTIONS
) -> FlairEvaluation:
    """Run every question and score its answer. The template is built first where there is none.

    Raises InputError for a model without a logit lens.
    """
    require_residual(model, "lens")
    template = template_of(model, progress=part(progress, 0.0, 0.3))
    ask = part(progress, 0.3, 1.0)
    answers, left_out = [], []
    for number, question in enumerate(questions):
        ask(number / len(questions), f"question {number + 1} of {len(questions)}")
        tokens = _tokens(model, question)
        if not tokens:
            left_out.append(question)
            continue
        top = int(model.run(model.stimulus(question.prompt), {}, logits=[-1]).logits[0].argmax())
        text = model.token_text(top)
        outcome = _outcome(text, top in tokens)
        details = scan_flair(model, question.prompt, FlairConfig(positions=(-1,))).details
        names = ("summary", "final_entropy", "one_minus_max_probability")
        scores = tuple(float(details[name][0]) for name in names)
        frequency = math.log(max(float(template.final_distribution[tokens[0]]), TINY))
        answers.append(Answer(question, text, outcome, scores, frequency))
    progress(1.0, "done")
    return FlairEvaluation(model.info.title, tuple(answers), tuple(left_out))


def _outcome(text: str, is_right: bool) -> str:
    if is_right:
        return "right"
    return "function word" if continues_without_answer(text) else "wrong"


def _tokens(model: Backend, question: Question) -> list[int]:
    """Ids of a question's answers, the expected one first; none where that one is several tokens."""
    found = []
    for answer in question.answers:
        try:
            found.append(model.token_id(answer))
        except InputError:
            if not found:
                return []
    return found


def equal_groups(values: np.ndarray, n: int) -> np.ndarray:
    """Group 0 .. n-1 of each value by its rank, groups as equal in size as can be, equal values in one group."""
    order = np.sort(values)
    edges = [order[len(order) * k // n] for k in range(1, n)]
    return np.searchsorted(edges, values, side="right")


def auroc_with_intervals(scores: np.ndarray, is_wrong: np.ndarray, groups: np.ndarray) -> list[Estimate]:
    """AUROC of each row of scores [scores, answers], pairs taken within a group only."""
    values, draws = _bootstrap(scores, is_wrong, groups)
    return [_estimate(value, drawn) for value, drawn in zip(values, draws, strict=True)]


def differences(scores: np.ndarray, is_wrong: np.ndarray, groups: np.ndarray) -> list[Estimate]:
    """AUROC of the first row of scores minus that of each other, on the same draws."""
    values, draws = _bootstrap(scores, is_wrong, groups)
    return [_estimate(values[0] - values[k], draws[0] - draws[k]) for k in range(1, len(values))]


def _bootstrap(scores: np.ndarray, is_wrong: np.ndarray, groups: np.ndarray) -> tuple[list[float], list[np.ndarray]]:
    """AUROC of each row of scores, and [DRAWS] of it with right and wrong answers drawn again (with replacement)."""
    together = groups[is_wrong][:, None] == groups[~is_wrong][None, :]
    if not together.any():
        raise InputError("there are no right and wrong answers to compare; ask more questions")
    random = np.random.default_rng(SEED)
    n_wrong, n_right = together.shape
    # how often each answer is drawn: an AUROC of a draw is then two products with the table of pairs
    drawn_wrong = random.multinomial(n_wrong, np.full(n_wrong, 1 / n_wrong), size=DRAWS).astype(np.float64)
    drawn_right = random.multinomial(n_right, np.full(n_right, 1 / n_right), size=DRAWS).astype(np.float64)
    n_pairs = np.einsum("bi,bi->b", drawn_wrong @ together, drawn_right)
    values, draws = [], []
    for score in scores:
        wins = _wins(score[is_wrong], score[~is_wrong]) * together
        values.append(float(wins.sum() / together.sum()))
        won = np.einsum("bi,bi->b", drawn_wrong @ wins, drawn_right)
        draws.append(np.divide(won, n_pairs, out=np.full(DRAWS, np.nan), where=n_pairs > 0))
    return values, draws


def _wins(wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 where a wrong answer's score is larger than a right one's, 1/2 where equal, float64 [wrong, right]."""
    return (wrong[:, None] > right[None, :]) + 0.5 * (wrong[:, None] == right[None, :])


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
