"""The evaluation of FLAIR: its statistics against plain counting, its classes, and that the questions are enough."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from nmri3d.bench import flair as bench
from nmri3d.bench.flair import (
    SCORES,
    Answer,
    Estimate,
    FlairEvaluation,
    auroc_with_intervals,
    differences,
    equal_groups,
    evaluate,
    verdict,
)
from nmri3d.bench.questions import CATEGORIES, QUESTIONS, Question, continues_without_answer
from nmri3d.errors import InputError
from nmri3d.template import access
from nmri3d.template.build import build_template
from nmri3d.template.reference import passages
from tests.models.backends import tiny_backend


def sample(n=60, seed=0):
    """Scores [2, n] with ties, right and wrong, groups."""
    random = np.random.default_rng(seed)
    is_wrong = random.random(n) < 0.4
    scores = np.stack([random.integers(0, 12, n) + 4 * is_wrong, random.integers(0, 9, n)]).astype(float)
    return scores, is_wrong, random.integers(0, 3, n)


def counted(score, is_wrong, groups):
    """AUROC by counting pairs one after the other."""
    won = pairs = 0.0
    for i in np.flatnonzero(is_wrong):
        for j in np.flatnonzero(~is_wrong):
            if groups[i] == groups[j]:
                pairs += 1
                won += 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
    return won / pairs


def test_auroc_equals_counting_pairs_and_mann_whitney():
    scores, is_wrong, groups = sample()
    found = auroc_with_intervals(scores, is_wrong, groups)
    assert [e.value for e in found] == pytest.approx([counted(s, is_wrong, groups) for s in scores])
    one_group = np.zeros(len(groups), int)
    u = mannwhitneyu(scores[0][is_wrong], scores[0][~is_wrong]).statistic
    expected = u / (is_wrong.sum() * (~is_wrong).sum())
    assert auroc_with_intervals(scores, is_wrong, one_group)[0].value == pytest.approx(expected)


def test_bootstrap_draws_equal_drawing_answers_one_by_one(monkeypatch):
    """Counts of draws times the table of pairs, against really repeating the answers that were drawn."""
    monkeypatch.setattr(bench, "DRAWS", 40)
    scores, is_wrong, groups = sample(40)
    _, draws = bench._bootstrap(scores, is_wrong, groups)
    random = np.random.default_rng(bench.SEED)
    wrong, right = np.flatnonzero(is_wrong), np.flatnonzero(~is_wrong)
    times_wrong = random.multinomial(len(wrong), np.full(len(wrong), 1 / len(wrong)), size=40)
    times_right = random.multinomial(len(right), np.full(len(right), 1 / len(right)), size=40)
    for draw in range(40):
        drawn = np.concatenate([np.repeat(wrong, times_wrong[draw]), np.repeat(right, times_right[draw])])
        for k in range(2):
            assert draws[k][draw] == pytest.approx(counted(scores[k][drawn], is_wrong[drawn], groups[drawn]))


def test_intervals_cover_what_they_should(monkeypatch):
    """Of many samples without any difference, about 95 % of the intervals hold 0.5."""
    monkeypatch.setattr(bench, "DRAWS", 500)
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        is_wrong = np.arange(80) < 40
        [estimate] = auroc_with_intervals(random.standard_normal((1, 80)), is_wrong, np.zeros(80, int))
        assert estimate.low <= estimate.value <= estimate.high
        held += estimate.low <= 0.5 <= estimate.high
    assert 52 <= held <= 60


def test_paired_differences_use_the_same_draws():
    scores, is_wrong, groups = sample()
    one_group = np.zeros_like(groups)
    [difference] = differences(np.stack([scores[0], 3 * scores[0] + 1]), is_wrong, one_group)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    [difference] = differences(scores, is_wrong, one_group)
    a, b = auroc_with_intervals(scores, is_wrong, one_group)
    assert difference.value == pytest.approx(a.value - b.value)
    assert difference.low < difference.value < difference.high


def test_perfect_and_inverted_scores():
    is_wrong = np.arange(20) < 8
    perfect = is_wrong.astype(float) + np.linspace(0, 0.1, 20)
    up, down = auroc_with_intervals(np.stack([perfect, -perfect]), is_wrong, np.zeros(20, int))
    assert (up.value, up.low, down.value, down.high) == (1, 1, 0, 0)
    assert verdict("FLAIR", up) == "separates"
    assert verdict("FLAIR", down) == "inverted"
    assert verdict("FLAIR", Estimate(0.6, 0.5, 0.7)) == "does not separate"
    assert verdict("FLAIR - final entropy", Estimate(-0.2, -0.3, -0.1)) == "FLAIR is worse"
    assert verdict("FLAIR - final entropy", Estimate(0.2, 0.1, 0.3)) == "FLAIR is better"
    assert verdict("FLAIR - final entropy", Estimate(0.1, -0.1, 0.3)) == "no difference shown"


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="no right and wrong answers to compare"):
        auroc_with_intervals(np.zeros((1, 4)), np.ones(4, bool), np.zeros(4, int))


def test_equal_groups_are_equal_and_keep_ties_together():
    assert Counter(equal_groups(np.random.default_rng(0).permutation(90), 3).tolist()) == {0: 30, 1: 30, 2: 30}
    values = np.array([1.0, 1, 1, 1, 2, 3, 3, 3, 3])
    groups = equal_groups(values, 3)
    assert all(len(set(groups[values == value])) == 1 for value in values)


def answer(outcome, score, category="facts", frequency=0.0):
    return Answer(Question("?", (" !",), category), " x", outcome, (score, 0.0, 1.0), frequency)


def test_function_words_are_a_class_of_their_own():
    evaluation = FlairEvaluation(
        "m", (answer("right", 1), answer("right", 2), answer("wrong", 3), answer("function word", 0)), ()
    )
    assert evaluation.auroc()["FLAIR"].value == 1
    assert evaluation.auroc(with_function_words=True)["FLAIR"].value == 0.5
    assert evaluation.auroc()["final entropy"].value == 0.5
    assert [evaluation.count(outcome) for outcome in bench.OUTCOMES] == [2, 1, 1]


def test_strata_compare_only_what_is_alike():
    """A score that only tells the categories apart separates overall and not within them."""
    answers = [answer("right", 1, "facts", 0)] * 8 + [answer("wrong", 1, "facts", 0)] * 2
    answers += [answer("right", 5, "syntax", 9)] * 2 + [answer("wrong", 5, "syntax", 9)] * 8
    evaluation = FlairEvaluation("m", tuple(answers), ())
    assert evaluation.auroc()["FLAIR"].value == pytest.approx(0.8)
    assert evaluation.auroc(within="category")["FLAIR"].value == 0.5
    assert evaluation.auroc(within="frequency")["FLAIR"].value == 0.5
    report = str(evaluation)
    assert "right" in report
    assert "does not separate" in report


# -- questions -----------------------------------------------------------------------------------------------------------


def test_questions_are_many_of_each_kind_and_not_repeated():
    counts = Counter(question.category for question in QUESTIONS)
    assert set(counts) == set(CATEGORIES)
    assert min(counts.values()) >= 60
    assert len({question.prompt for question in QUESTIONS}) == len(QUESTIONS)
    for question in QUESTIONS:
        assert question.answers
        # prompt and answer join with exactly one space between words
        assert question.prompt.endswith(" ") != question.answers[0].startswith(" ")
        assert not continues_without_answer(question.answers[0])


@pytest.mark.parametrize("text", [" the", "The", " a", ",", "\n", " ", "...", "<|im_end|>", " of"])
def test_continuations(text):
    assert continues_without_answer(text)


@pytest.mark.parametrize("text", [" Paris", "7", " is", " Theodore", "é"])
def test_answers(text):
    assert not continues_without_answer(text)


def test_evaluate_asks_every_question_and_leaves_out_long_answers(monkeypatch, tmp_path):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    monkeypatch.setattr(access, "_memory", type(access._memory)())
    backend = tiny_backend("gpt2")
    access._remember(build_template(backend, texts=passages()[:32]))
    prompt, top = next(
        (text, label)
        for text in passages()[60:]
        for label in [backend.token_text(int(backend.run(backend.stimulus(text), {}, logits=[-1]).logits[0].argmax()))]
        if label.isascii() and "\\" not in label and label != "Z"
    )
    questions = [
        Question(prompt, (top,), "facts"),
        Question(prompt + " a", ("Q",), "facts"),
        Question(prompt, ("many tokens",), "facts"),
        Question(prompt, ("Z", top), "facts"),
    ]
    shares = []
    found = evaluate(backend, lambda share, what: shares.append(share), questions=questions)
    assert [a.question for a in found.answers] == [questions[0], questions[1], questions[3]]
    assert found.left_out == (questions[2],)
    assert [a.outcome for a in found.answers][::2] == ["right", "right"]
    assert found.answers[1].outcome in ("wrong", "function word")
    assert np.isfinite([a.scores for a in found.answers]).all()
    assert found.answers[0].scores == pytest.approx(found.answers[2].scores)
    assert len(found.answers[0].scores) == len(SCORES)
    assert shares == sorted(shares)


@pytest.mark.model
def test_the_real_model_gives_enough_right_and_wrong_answers(smollm2):
    """Every fifth question; `nmri3d bench --flair` asks all of them."""
    evaluation = evaluate(smollm2, questions=QUESTIONS[::5])
    assert evaluation.count("right") >= 12
    assert evaluation.count("wrong") >= 12
    report = str(evaluation)
    print(report)
    for name, estimate in evaluation.auroc().items():
        assert 0 <= estimate.value <= 1 or " - " in name
        assert f"{estimate}   {verdict(name, estimate)}" in report
