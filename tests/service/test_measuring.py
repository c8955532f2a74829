"""What the service offers beside scans: kept once for all, estimated first, given back between tokens."""

import numpy as np
import pytest

import nmri3d
from nmri3d.errors import Cancelled, InputError
from nmri3d.service import Service
from tests.models.backends import tiny_backend

PROMPT, OTHER = "The capital of France is", "The capital of Italy is"


@pytest.fixture(scope="module")
def service():
    service = Service(loader=lambda *_, **__: tiny_backend("llama"))
    service.load("tiny")
    return service


def test_a_perturbation_is_measured_once_and_equals_the_library(service):
    edits = [nmri3d.Edit("blocks.1.attn.head_2", "zero")]
    first = service.perturb(PROMPT, edits)
    assert service.perturb(PROMPT, [nmri3d.Edit("blocks.1.attn.head_2", "zero")]) is first
    assert service.perturb(PROMPT, [nmri3d.Edit("blocks.1.attn.head_2", "invert")]) is not first
    direct = nmri3d.perturb(tiny_backend("llama"), PROMPT, edits)
    np.testing.assert_array_equal(first.values_after, direct.values_after)
    assert first.kl == direct.kl


def test_a_scan_of_neurons_is_measured_once_and_equals_the_library(service):
    first = service.scan_neurons("fMRI", PROMPT)
    assert service.scan_neurons("fMRI", PROMPT) is first
    assert service.scan_neurons("fMRI", OTHER) is not first
    assert service.scan_neurons("T2", statistic="max") is not service.scan_neurons("T2", statistic="std")
    np.testing.assert_array_equal(first.values, nmri3d.scan_neurons(tiny_backend("llama"), "fMRI", PROMPT).values)
    with pytest.raises(InputError, match="no values of single neurons"):
        service.scan_neurons("DTI", PROMPT)


def test_traces_and_sweeps_can_be_estimated_and_are_kept(service):
    assert service.estimate_trace(PROMPT, OTHER) >= 0
    assert service.estimate_sweep(PROMPT) >= 0
    trace = service.trace(PROMPT, OTHER, sites=("resid",))
    assert service.trace(PROMPT, OTHER, sites=("resid",)) is trace
    assert service.sweep(PROMPT, effect="zero") is service.sweep(PROMPT, effect="zero")
    with pytest.raises(InputError, match="equally many tokens"):
        service.trace(PROMPT, "Rome")


def test_raw_flair_values_are_not_taken_for_scored_ones(service, monkeypatch):
    monkeypatch.setattr(service, "template_ready", lambda: False)
    raw = service.scan("FLAIR", PROMPT, template="ready")
    assert raw is service.scan("FLAIR", PROMPT, template="off")
    assert "nats" in raw.units


def test_looking_inside_on_demand(service):
    pattern = service.attention(PROMPT, 1)
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
    assert service.logit_lens(PROMPT, k=3).token_ids.shape[-1] == 3
    assert service.own_effect(PROMPT, "blocks.1.mlp") is service.own_effect(PROMPT, "blocks.1.mlp")
    score = service.verify_edge(PROMPT, "embed", "blocks.1.mlp", "mlp", corrupt=OTHER)
    assert score == nmri3d.verify_edge(tiny_backend("llama"), PROMPT, "embed", "blocks.1.mlp", "mlp", corrupt=OTHER)


def test_generation_streams_and_can_be_withdrawn(service):
    seen = []
    written = service.generate(PROMPT, 3, seen.append)
    assert [step.index for step in seen] == list(range(len(written.tokens)))
    assert [step.token for step in seen] == list(written.tokens)
    assert written.text == PROMPT + "".join(token.token for token in written.tokens)
    whole = nmri3d.scan(tiny_backend("llama"), "fMRI", PROMPT)
    np.testing.assert_allclose(written.scan.values[: whole.n_steps], whole.values, rtol=1e-4, atol=1e-5, equal_nan=True)

    def withdraw(share, what):
        if len(seen) > 4:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        service.generate(PROMPT, 10, seen.append, progress=withdraw)
    assert len(seen) == 5
