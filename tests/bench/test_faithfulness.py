"""The faithfulness report: its figures by hand, its prompts, and the whole of it on a tiny model against naive passes."""

import json
import math

import numpy as np
import pytest
import torch

from nmri3d.bench import faithfulness
from nmri3d.bench.faithfulness import MEASURES, agreement, faithfulness_report, sampled_edges
from nmri3d.bench.prompts import PROMPTS, SETS, PromptPair
from nmri3d.errors import Cancelled, InputError
from nmri3d.results import Tracts
from tests.perturbation.cases import CLEAN, CORRUPT, OTHER, both

PAIRS = {"one": (PromptPair(CLEAN, CORRUPT, " Mary", " John"), PromptPair(CLEAN, OTHER, " John", " Mary"))}


def test_the_four_figures_of_a_pair():
    rng = np.random.default_rng(0)
    exact = rng.standard_normal(60)
    assert agreement(exact, exact) == pytest.approx((1, 1, 10, 1))
    assert agreement(-exact, exact) == pytest.approx((-1, -1, 10, 0))
    assert agreement(3 * exact, exact) == pytest.approx((1, 1, 10, 1))
    spearman, pearson, top, sign = agreement(np.sign(exact) * np.exp(5 * np.abs(exact)), exact)
    assert spearman == pytest.approx(1)
    assert pearson < 0.9  # right ranks, wrong sizes
    assert (top, sign) == (10, 1)
    reversed_sizes = np.sign(exact) / (0.1 + np.abs(exact))
    assert agreement(reversed_sizes, exact)[2] == 0
    assert agreement(reversed_sizes, exact)[3] == 1
    some = exact.copy()
    largest = np.argsort(-np.abs(exact))
    some[largest[:5]] *= -1  # five of the twenty strongest have the wrong sign, and are still the strongest
    assert agreement(some, exact)[2:] == (10, 0.75)
    constant = agreement(np.ones(60), exact)
    assert math.isnan(constant[0])
    assert math.isnan(constant[1])


def test_sampled_edges_reach_from_the_strongest_to_the_weak_each_once():
    def tracts(order):
        return Tracts(
            np.array(order, dtype=np.int32), np.zeros(len(order), np.int32), np.full(len(order), "q"),
            np.linspace(1, 0, len(order), dtype=np.float32), 1.0, len(order),
        )  # fmt: skip

    first, second = tracts(np.arange(1000)), tracts(np.arange(1000)[::-1])
    sample = sampled_edges(first, second)
    assert len(sample) == len(set(sample))
    sources = [edge[0] for edge in sample]
    assert {0, 999} <= set(sources)
    assert 20 <= len(sample) <= faithfulness.SAMPLED_EDGES
    assert len(sampled_edges(first, first)) < len(sample)


def test_the_prompts_are_written_as_they_say():
    assert set(PROMPTS) == set(SETS)
    for name, pairs in PROMPTS.items():
        assert 10 <= len(pairs) <= 20
        assert len(set(pairs)) == len(pairs)
        for pair in pairs:
            clean, corrupt = pair.clean.split(), pair.corrupt.split()
            assert len(clean) == len(corrupt)
            assert sum(a != b for a, b in zip(clean, corrupt, strict=True)) == 1, pair
            assert pair.target != pair.foil
            assert pair.target[0] == pair.foil[0] == " "
            assert "{" not in pair.clean + pair.corrupt
            if name == "ioi":
                assert clean.count(pair.target.strip()) == 1
                assert clean.count(pair.foil.strip()) == 2
                assert corrupt.count(pair.target.strip()) == 2
            if name == "induction":
                place = clean.index(pair.target.strip())
                assert corrupt[place] == pair.foil.strip()
                assert clean[place - 1] == clean[-1]  # what stood before the answer stands last


@pytest.mark.model
def test_most_prompts_fit_the_real_model_and_the_answers_are_known_to_it(smollm2):
    fitting, left_out = faithfulness._fitting(smollm2, PROMPTS)
    assert left_out == []
    for name, pairs in fitting.items():
        gaps = []
        for pair in pairs:
            target, foil = smollm2.token_id(pair.target), smollm2.token_id(pair.foil)
            clean, corrupt = (
                smollm2.run(smollm2.stimulus(text), {}, logits=[-1]).logits[0] for text in (pair.clean, pair.corrupt)
            )
            gaps.append(float(clean[target] - clean[foil] - corrupt[target] + corrupt[foil]))
        assert np.median(gaps) > 5, name


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_report_of_a_tiny_model_against_naive_passes(family):
    backend, plain = both(family)
    report = faithfulness_report(backend, prompts=PAIRS)
    assert report.counts == {"one": 2}
    assert report.left_out == ()
    rows = {(row.over, row.method, row.effect): row for row in report.rows}
    assert set(rows) == {
        ("nodes", "atp (EAP sums)", "patch"),
        ("nodes", "EAP-IG sums", "patch"),
        ("nodes", "dla", "patch"),
        ("nodes", "atp (EAP sums)", "zero"),
        ("nodes", "dla", "zero"),
        ("edges", "EAP", "patch"),
        ("edges", "EAP-IG", "patch"),
    }
    names = [name for name in plain.writes(backend.stimulus(CLEAN).ids) if not name.endswith("b_O")]
    for place, pair in enumerate(PAIRS["one"]):
        ids = backend.stimulus(pair.clean).ids
        tokens = backend.token_id(pair.target), backend.token_id(pair.foil)
        writes, other = plain.writes(ids), plain.writes(backend.stimulus(pair.corrupt).ids)
        leaves = {name: torch.zeros_like(write).requires_grad_() for name, write in writes.items()}
        value = plain.metric(ids, tokens, [plain.adding(name, leaf) for name, leaf in leaves.items()])
        gradients = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
        for effect in ("patch", "zero"):
            exact, fast = [], []
            with torch.no_grad():
                for name in names:
                    delta = (other[name] if effect == "patch" else 0 * writes[name]) - writes[name]
                    exact.append(float(value - plain.metric(ids, tokens, [plain.adding(name, delta)])))
                    fast.append(float(-(delta * gradients[name]).sum()))
            wanted = agreement(np.array(fast), np.array(exact))
            row = rows["nodes", "atp (EAP sums)", effect]
            for measure, figure in zip(MEASURES, wanted, strict=True):
                assert getattr(row, measure)[place] == pytest.approx(figure, abs=0.02), (effect, measure)
    for circuit in report.circuits:
        assert circuit.method in ("EAP", "EAP-IG")
        assert all(count > 0 for count in circuit.edges)
        assert all(np.isfinite(circuit.faithfulness))
    median, smallest, largest = rows["nodes", "dla", "patch"].summary("spearman")
    assert smallest <= median <= largest


def test_it_is_readable_plain_json_and_names_what_was_left_out():
    backend, _ = both("llama")
    unfit = PromptPair(CLEAN, CLEAN + "4", " Mary", " John"), PromptPair(CLEAN, CORRUPT, " nonsense", " John")
    shares = []
    report = faithfulness_report(
        backend,
        prompts={"one": (*PAIRS["one"], *unfit), "none": unfit},
        progress=lambda share, what: shares.append(share),
    )
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    assert report.counts == {"one": 2}
    assert len(report.left_out) == 4
    text = str(report)
    for words in ("one (2)", "atp (EAP sums)", "path patching, patch", "left out (4)", "17", "faithfulness"):
        assert words in text
    record = json.loads(json.dumps(report.as_record(), allow_nan=False))
    assert len(record["rows"]) == 7
    assert record["rows"][0]["summary"]["spearman"] == pytest.approx(report.rows[0].summary("spearman"))
    with pytest.raises(InputError, match="no prompt pair fits"):
        faithfulness_report(backend, prompts={"none": unfit})


def test_it_can_be_withdrawn_and_leaves_the_weights():
    backend, _ = both("llama")
    fingerprint = backend.fingerprint()

    def half_way(share, what):
        if share > 0.5:
            raise Cancelled("withdrawn")

    with pytest.raises(Cancelled):
        faithfulness_report(backend, prompts=PAIRS, progress=half_way)
    assert backend.fingerprint() == fingerprint
