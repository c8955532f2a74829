"""The service over a real, tiny network from a local folder: load, scan, predict, cancel, unload."""

from __future__ import annotations

import numpy as np
import pytest

from nmri3d.errors import Cancelled
from nmri3d.service import Service
from tests.models.tiny import tiny_checkpoint_folder
from tests.service.fakes import PATIENCE

PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("tiny"))
    service = Service()
    service.load(str(folder), device="cpu")
    yield service
    assert service.close()


def test_predictions_are_those_of_the_hugging_face_model(service):
    import torch

    backend = service.backend
    ids = torch.from_numpy(backend.stimulus(PROMPT).ids)[None]
    with torch.no_grad():
        expected = backend.hf_model(ids).logits[0, -1].double().softmax(-1).numpy()
    found = service.predict(PROMPT, k=5)
    assert [p.token_id for p in found] == np.argsort(-expected)[:5].tolist()
    assert [p.probability for p in found] == pytest.approx(expected[[p.token_id for p in found]], rel=1e-4)
    assert [p.token for p in found] == [backend.token_text(p.token_id) for p in found]


def test_strongest_neurons_are_those_of_a_neuron_scan(service):
    values = service.scan("fMRI", PROMPT, level="neuron").values
    rows = service.backend.neurons.rows(layer=1)
    [strongest, *_] = service.top_neurons(PROMPT, 1, 2, k=3)
    expected = np.abs(values[2, rows]).argmax()
    assert strongest.index == expected
    assert strongest.activation == pytest.approx(values[2, rows][expected], rel=1e-5)


@pytest.mark.parametrize("mode", ["T1", "T2"])
def test_scans_of_weights_are_kept(service, mode):
    assert service.scan(mode) is service.scan(mode)


def test_a_scan_can_be_withdrawn_within_its_pass(service):
    """Progress of the real pass comes before each layer; withdrawing at the second leaves the later ones unrun."""
    heard = []

    def withdraw(share, what):
        heard.append(what)
        if len(heard) == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        service.scan("fMRI", PROMPT + " jumps", progress=withdraw)
    assert len(heard) == 2
    assert service.run(lambda _: service.scan("fMRI", PROMPT + " jumps")).result(PATIENCE).n_steps > 0
