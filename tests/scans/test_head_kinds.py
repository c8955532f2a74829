"""Head kinds on patterns built by hand, on tiny models against a loop, and on the real model."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from nmri3d.components import ComponentTable
from nmri3d.errors import Cancelled, InputError, UnsupportedModelError
from nmri3d.models.backend import Run
from nmri3d.results import HEAD_KINDS
from nmri3d.scans.head_kinds import head_kinds, repeated_tokens
from tests.models.tiny import BOS_FAMILIES
from tests.perturbation.cases import both, families

LENGTH = 7


@dataclass
class BuiltByHand:
    """A substitute backend: two layers of two heads whose patterns a test builds; with a BOS if asked."""

    patterns: list[torch.Tensor]
    real: object
    components: ComponentTable
    seen: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.real, name)

    def run(self, stimulus, reads, **options):
        self.seen.append(stimulus)
        return Run({site: reduce(self.patterns[int(site.split(".")[1])]) for site, reduce in reads.items()})


def table():
    kinds = ["embed", "head", "head", "mlp", "head", "head", "mlp", "unembed"]
    return ComponentTable(kinds, [-1, 0, 0, 0, 1, 1, 1, -1], [-1, 0, 1, -1, 0, 1, -1, -1], [1] * 8)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_patterns_built_by_hand_score_as_they_were_built(family):
    real, _ = both(family)
    offset = int(family in BOS_FAMILIES)
    steps = offset + 2 * LENGTH
    built = {kind: torch.zeros(steps, steps) for kind in HEAD_KINDS}
    mixed = torch.zeros(steps, steps)
    for query in range(offset + 1, steps):
        built["previous"][query, query - 1] = 1
        mixed[query, query - 1] = 0.25
    for query in range(offset + LENGTH, steps):
        built["duplicate"][query, query - LENGTH] = 1
        built["induction"][query, query - LENGTH + 1] = 1
        mixed[query, query - LENGTH] += 0.5
    # what a sink takes is no kind of its own
    sink = torch.zeros(steps, steps)
    sink[:, 0] = 1
    patterns = [torch.stack([built["induction"], mixed]), torch.stack([built["previous"], built["duplicate"]])]
    model = BuiltByHand(patterns, real, table())
    kinds = head_kinds(model, length=LENGTH)
    assert kinds.rows.tolist() == [1, 2, 4, 5]
    assert kinds.induction.tolist() == [1, 0, 0, 0]
    assert kinds.previous.tolist() == [0, 0.25, 1, 0]
    assert kinds.duplicate.tolist() == [0, 0.5, 0, 1]
    assert kinds.induction.dtype == np.float32
    assert kinds.names(0.4) == {
        "previous": ("blocks.1.attn.head_0",),
        "duplicate": ("blocks.1.attn.head_1", "blocks.0.attn.head_1"),
        "induction": ("blocks.0.attn.head_0",),
    }
    assert kinds.names(1.1) == {"previous": (), "duplicate": (), "induction": ()}
    assert kinds.of("blocks.0.attn.h1") == {"previous": 0.25, "duplicate": 0.5, "induction": 0.0}
    with pytest.raises(InputError, match="is no attention head"):
        kinds.of("blocks.0.mlp")
    sunk = head_kinds(BuiltByHand([sink.expand(2, -1, -1)] * 2, real, table()), length=LENGTH)
    # without a BOS the first token is a copy's own: what looks there counts once in each of the three
    assert max(getattr(sunk, kind).max() for kind in HEAD_KINDS) <= (0 if offset else 1 / LENGTH)


def test_one_step_off_is_no_kind():
    """The neighbors of the three diagonals count for nothing."""
    real, _ = both("gpt2")
    steps = 2 * LENGTH
    patterns = []
    for shift in (2, LENGTH + 1, LENGTH - 2, 0):
        pattern = torch.zeros(steps, steps)
        for query in range(shift, steps):
            pattern[query, query - shift] = 1
        patterns.append(pattern)
    model = BuiltByHand([torch.stack(patterns[:2]), torch.stack(patterns[2:])], real, table())
    kinds = head_kinds(model, length=LENGTH)
    for kind in HEAD_KINDS:
        assert not getattr(kinds, kind).any(), kind


@families
def test_random_tokens_are_read_twice_behind_the_bos(family):
    backend, _ = both(family)
    stimulus, start = repeated_tokens(backend, seed=4, length=11)
    assert start == int(family in BOS_FAMILIES)
    body = stimulus.ids[start:]
    assert len(body) == 22
    np.testing.assert_array_equal(body[:11], body[11:])
    assert len(set(body.tolist())) == 11
    assert stimulus.special.tolist() == [True] * start + [False] * 22
    assert all(label.strip().isalpha() for label in stimulus.labels[start:])
    again, _ = repeated_tokens(backend, seed=4, length=11)
    np.testing.assert_array_equal(again.ids, stimulus.ids)
    assert not np.array_equal(repeated_tokens(backend, seed=5, length=11)[0].ids, stimulus.ids)


@families
def test_scores_equal_a_loop_over_hugging_faces_own_patterns(family):
    backend, plain = both(family)
    stimulus, start = repeated_tokens(backend, seed=2, length=9)
    with torch.no_grad():
        patterns = plain.model(input_ids=torch.from_numpy(stimulus.ids)[None], output_attentions=True).attentions
    kinds = head_kinds(backend, seed=2, length=9)
    for layer, pattern in enumerate(patterns):
        for head in range(4):
            a = pattern[0, head].numpy()
            second = range(start + 9, start + 18)
            wanted = {
                "previous": np.mean([a[t, t - 1] for t in range(start + 1, start + 18)]),
                "duplicate": np.mean([a[t, t - 9] for t in second]),
                "induction": np.mean([a[t, t - 8] for t in second]),
            }
            found = kinds.of(f"blocks.{layer}.attn.head_{head}")
            for kind, score in wanted.items():
                assert found[kind] == pytest.approx(float(score), abs=1e-5), (layer, head, kind)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"length": 1}, "at least 2"),
        ({"length": 2.0}, "a whole number of tokens"),
        ({"length": True}, "a whole number of tokens"),
        ({"length": 65}, "longer than the 128 that tiny llama reads"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"seed": "0"}, "a seed is a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(options, reason):
    backend, _ = both("llama")
    with pytest.raises(InputError, match=reason):
        head_kinds(backend, **options)


def test_a_network_without_heads_is_refused_and_work_can_be_withdrawn():
    backend, _ = both("llama")
    headless = BuiltByHand([], backend, ComponentTable(["embed", "unembed"], [-1, -1], [-1, -1], [1, 1]))
    with pytest.raises(UnsupportedModelError, match="no attention heads"):
        head_kinds(headless)
    fingerprint = backend.fingerprint()

    def withdraw(share, what):
        raise Cancelled("withdrawn")

    with pytest.raises(Cancelled):
        head_kinds(backend, length=20, progress=withdraw)
    assert backend.fingerprint() == fingerprint


@pytest.mark.model
def test_the_real_model_has_heads_of_every_kind(smollm2):
    kinds = head_kinds(smollm2)
    names = kinds.names(0.6)
    assert "blocks.18.attn.head_6" in names["induction"]
    assert "blocks.16.attn.head_0" in names["previous"]
    assert "blocks.14.attn.head_3" in names["duplicate"]
    # the same heads on other tokens: a property of the head, not of the text
    other = head_kinds(smollm2, seed=7).names(0.6)
    assert "blocks.18.attn.head_6" in other["induction"]
    # a head attends to one place at a time
    assert np.all(kinds.duplicate + kinds.induction <= 1.0001)
    assert np.median(kinds.induction) < 0.1
