"""POST /api/generate: the same text and the same numbers as here, whoever asks and however often."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import nmri3d
from nmri3d.api.representations import RESULT_FILE
from nmri3d.api.routes.generating import KEPT_TEXTS
from nmri3d.results import open_scan
from nmri3d.scans.generation import Generation
from tests.api.tiny_app import PROMPT, tiny_app
from tests.models.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PATH = "/api/generate"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with tiny_app(tmp_path_factory.mktemp("generating")) as app:
        yield app


def local(tiny, n_tokens, **options):
    """What the library writes: the tokens and the scan of the whole text."""
    generation = Generation(tiny.copy, PROMPT, n_tokens, **options)
    steps = []
    while not generation.done:
        steps.append(generation.step(tiny.copy))
    return [step.token for step in steps], steps[-1].scan


def test_the_likeliest_tokens_are_written(tiny):
    body = tiny.ok("POST", PATH, {"prompt": PROMPT, "n_tokens": 5})
    ids = tiny_tokenizer(add_bos=True)(PROMPT, return_tensors="pt")["input_ids"]
    model = tiny_model("llama")
    for written in body["written"]:
        with torch.no_grad():
            probabilities = model(ids).logits[0, -1].double().softmax(-1)
        assert written["token_id"] == int(probabilities.argmax())
        assert written["prob"] == pytest.approx(float(probabilities.max()), rel=1e-4)
        ids = torch.cat([ids, probabilities.argmax().reshape(1, 1)], dim=1)
    assert (len(body["written"]), body["stopped"]) == (5, "n_tokens")
    assert body["text"] == PROMPT + "".join(one["token"] for one in body["written"])


def test_drawn_tokens_and_their_values_are_those_of_the_library(tiny):
    asked = {"prompt": PROMPT, "n_tokens": 6, "temperature": 1.5, "seed": 11}
    tokens, scan = local(tiny, 6, temperature=1.5, seed=11)
    body = tiny.ok("POST", PATH, asked)
    assert [one["token_id"] for one in body["written"]] == [token.token_id for token in tokens]
    assert [one["prob"] for one in body["written"]] == [token.probability for token in tokens]
    assert body["tokens"] == list(scan.tokens)
    assert body["values"]["dims"] == ["token", "component"]
    np.testing.assert_array_equal(np.array(body["values"]["data"], dtype=float), scan.values)
    other = tiny.ok("POST", PATH, {**asked, "seed": 12})
    assert [one["token_id"] for one in other["written"]] != [token.token_id for token in tokens]


def test_the_file_is_the_scan_of_the_whole_text(tiny):
    _, scan = local(tiny, 3)
    answer = tiny.client.post(PATH, json={"prompt": PROMPT, "n_tokens": 3}, headers={"accept": RESULT_FILE})
    found = open_scan(answer.content)
    assert (found.tokens, found.mode, found.units) == (scan.tokens, "fMRI", scan.units)
    np.testing.assert_array_equal(found.values, scan.values)


def test_values_are_written_again_once_they_are_forgotten(tiny, monkeypatch):
    asked = {"prompt": PROMPT, "n_tokens": 4, "temperature": 1.0, "seed": 3}
    link = tiny.ok("POST", PATH, asked)["values"]["data_url"]
    calls = []
    generate = tiny.service.generate
    monkeypatch.setattr(tiny.service, "generate", lambda *a, **k: calls.append(a) or generate(*a, **k))

    def values():
        return np.load(io.BytesIO(tiny.client.get(link).content))

    kept = values()
    assert calls == []
    for seed in range(KEPT_TEXTS):
        tiny.ok("POST", PATH, {**asked, "seed": 100 + seed})
    calls.clear()
    np.testing.assert_array_equal(values(), kept)
    assert len(calls) == 1
    np.testing.assert_array_equal(kept, local(tiny, 4, temperature=1.0, seed=3)[1].values)


def test_why_a_text_ends_is_told(tiny, monkeypatch):
    first = tiny.ok("POST", PATH, {"prompt": PROMPT, "n_tokens": 1})["written"][0]["token_id"]
    monkeypatch.setattr(tiny.service.backend, "end_tokens", frozenset({first}))
    ended = tiny.ok("POST", PATH, {"prompt": PROMPT, "n_tokens": 9})
    assert (len(ended["written"]), ended["stopped"]) == (1, "end_token")
    monkeypatch.setattr(tiny.service.backend, "end_tokens", frozenset())
    long = "a" * 124
    room = 128 - len(tiny.copy.stimulus(long))
    assert 0 < room < 9
    full = tiny.ok("POST", PATH, {"prompt": long, "n_tokens": 9})
    assert (len(full["written"]), full["stopped"], len(full["tokens"])) == (room, "context", 128)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_tokens": 0}, "n_tokens: "),
        ({"n_tokens": 129}, "from 1 to 128"),
        ({"n_tokens": 2000}, "n_tokens: "),
        ({"n_tokens": True}, "n_tokens: "),
        ({"temperature": -1}, "temperature: "),
        ({"temperature": "hot"}, "temperature: "),
        ({"seed": -1}, "seed: "),
        ({"top_p": 0.9}, "top_p: "),
        ({"prompt": "a" * 400}, "128"),
    ],
)
def test_what_cannot_be_written_is_refused_in_words(tiny, options, words):
    assert words in tiny.refused("POST", PATH, {"prompt": PROMPT, **options})


def test_the_smallest_temperature_takes_the_likeliest_tokens(tiny):
    cold = tiny.ok("POST", PATH, {"prompt": PROMPT, "n_tokens": 2, "temperature": 5e-324})
    assert cold["written"] == tiny.ok("POST", PATH, {"prompt": PROMPT, "n_tokens": 2})["written"]


def test_a_generation_is_recorded_with_its_scan(tiny):
    session = tiny.store.create("writing")
    asked = {"prompt": PROMPT, "n_tokens": 2, "temperature": 0.5, "seed": 4}
    body = tiny.ok("POST", PATH, asked, headers={"Nmri3d-Session": session.id})
    opened = tiny.store.open(session.id)
    event = opened.events[-1]
    assert event.kind == "generate"
    assert event.data == {**asked, "tokens": [one["token_id"] for one in body["written"]]}
    again = nmri3d.scans.generation.Generation(tiny.copy, PROMPT, 2, temperature=0.5, seed=4)
    again.step(tiny.copy)
    np.testing.assert_array_equal(opened.result(event).values, again.step(tiny.copy).scan.values)
