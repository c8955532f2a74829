"""A session measured again: what is the same is equal to the last bit, what is not is told, and nothing kept is used."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import nmri3d
from nmri3d.errors import Cancelled, ModelError
from nmri3d.models.transformer_lens import TransformerLensBackend
from nmri3d.service import Service
from nmri3d.service.replay import replay
from nmri3d.service.sessions import SessionStore
from tests.models.backends import tiny_checkpoint

PROMPT, OTHER = "The capital of France is", "The capital of Italy is"
EDITS = [nmri3d.Edit("blocks.1.attn.head_2", "amplify", factor=3), nmri3d.Edit("blocks.0.mlp", "zero", positions=[1])]


@pytest.fixture(scope="module")
def service():
    service = Service(loader=lambda name, **_: TransformerLensBackend(tiny_checkpoint("llama", seed=int(name))))
    service.load("0")
    yield service
    assert service.close()


@pytest.fixture
def session(tmp_path):
    return SessionStore(tmp_path).create()


def model_of(service):
    info = service.require_backend().info
    return {"model_id": info.model_id, "fingerprint": info.fingerprint}


def record_everything(service, session):
    """One event of every kind that is measured."""
    session.record("model", model_of(service))
    for mode, prompt, options in (
        ("T1", None, {}),
        ("T2", None, {"statistic": "max"}),
        ("fMRI", PROMPT, {"aggregation": "raw", "layers": [0, 2]}),
        ("DTI", PROMPT, {"corrupt": OTHER}),
        ("FLAIR", PROMPT, {"template": "off"}),
    ):
        scan = service.scan(mode, prompt, **options)
        session.record("scan", {"mode": mode, "prompt": prompt, "options": options}, scan)
    neurons = service.scan_neurons("fMRI", PROMPT)
    session.record("scan", {"mode": "fMRI", "level": "neuron", "prompt": PROMPT, "options": {}}, neurons)
    for count in (1, 2):
        stack = EDITS[:count]
        session.record("edit", {"prompt": PROMPT, "edit": stack[-1].as_record()}, service.perturb(PROMPT, stack))
    session.record("undo", {"prompt": PROMPT}, service.perturb(PROMPT, EDITS[:1]))
    session.record("view", {"step": 3})
    trace = service.trace(PROMPT, OTHER, sites=("resid",))
    session.record("trace", {"clean": PROMPT, "corrupt": OTHER, "options": {"sites": ("resid",)}}, trace)
    noise = service.trace(PROMPT, draws=2, seed=5, sites=["mlp"])
    session.record(
        "trace", {"clean": PROMPT, "corrupt": None, "options": {"draws": 2, "seed": 5, "sites": ["mlp"]}}, noise
    )
    patch = {"effect": "patch", "corrupt": OTHER}
    session.record("sweep", {"prompt": PROMPT, "options": patch}, service.sweep(PROMPT, **patch))
    written = service.generate(PROMPT, 3, lambda step: None, temperature=0.7, seed=3)
    asked = {"prompt": PROMPT, "n_tokens": 9, "temperature": 0.7, "seed": 3}
    session.record("generate", {**asked, "tokens": [token.token_id for token in written.tokens]}, written.scan)


def test_everything_that_was_measured_is_measured_again_and_equal(service, session):
    record_everything(service, session)
    reports = []
    replayed = replay(service, session, lambda share, what: reports.append((share, what)))
    assert [(one.kind, one.state, one.difference, one.reason) for one in replayed] == [
        (kind, "equal", 0.0, "")
        for kind in (["scan"] * 6 + ["edit"] * 2 + ["undo"] + ["trace"] * 2 + ["sweep", "generate"])
    ]
    assert [one.number for one in replayed] == [e.number for e in session.events if e.kind not in ("model", "view")]
    begun = [(share, what) for share, what in reports if what.startswith("event ")]
    assert begun[0] == (0.0, "event 1, scan")
    assert [share for share, _ in begun] == pytest.approx([at / 13 for at in range(13)])
    assert all(0 <= share <= 1 for share, _ in reports)


def test_nothing_that_is_kept_is_used(service, session, monkeypatch):
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, service.scan("fMRI", PROMPT))
    runs = []
    run = TransformerLensBackend.run
    monkeypatch.setattr(TransformerLensBackend, "run", lambda *args, **kwargs: runs.append(1) or run(*args, **kwargs))
    service.scan("fMRI", PROMPT)
    assert runs == []  # kept
    [one] = replay(service, session)
    assert (one.state, len(runs)) == ("equal", 1)


def test_a_number_that_is_not_the_same_is_told_with_its_size_and_place(service, session):
    scan = service.scan("fMRI", PROMPT)
    values = scan.values.copy()
    values[2, 1] += 0.5
    missing = scan.values.copy()
    missing[0, 0] = np.nan
    for changed in (values, missing, scan.values):
        recorded = dataclasses.replace(scan, values=changed)
        session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, recorded)
    session.record("scan", {"mode": "fMRI", "prompt": OTHER, "options": {}}, scan)
    session.record("scan", {"mode": "fMRI", "prompt": "a", "options": {}}, scan)
    differs, has_nan, equal, other, shorter = replay(service, session)
    assert (differs.state, differs.array) == ("differs", "values")
    assert differs.difference == pytest.approx(abs(float(values[2, 1]) - float(scan.values[2, 1])))
    assert differs.reason == f"The largest difference, in values, is {differs.difference:.3g}."
    assert (has_nan.state, has_nan.difference, has_nan.array) == ("differs", None, "values")
    assert equal.state == "equal"
    assert (other.state, other.array) == ("differs", "tokens")
    assert (shorter.state, shorter.array) == ("differs", "values")
    assert "another shape" in shorter.reason


def test_an_event_of_another_model_is_told_and_not_measured(service, session, monkeypatch):
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, service.scan("fMRI", PROMPT))
    other = Service(loader=lambda *_, **__: TransformerLensBackend(tiny_checkpoint("llama", seed=1)))
    other.load("1")
    monkeypatch.setattr(TransformerLensBackend, "run", lambda *_, **__: pytest.fail("it was measured"))
    [one] = replay(other, session)
    made_on = service.require_backend().info
    assert (one.state, one.difference) == ("skipped", None)
    assert one.reason == f"It was measured on another model, tiny-llama ({made_on.fingerprint[:12]})."
    assert other.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mode": "fMRI", "prompt": PROMPT, "options": {"progress": 1}}, "progress cannot be an option"),
        ({"mode": "fMRI", "prompt": PROMPT, "options": {"model": "x"}}, "model cannot be an option"),
        ({"mode": "fMRI", "prompt": PROMPT, "options": {"speed": 9}}, "has no option 'speed'"),
        ({"mode": "fMRI", "prompt": PROMPT, "options": ["x"]}, "cannot be asked for"),
        ({"mode": "fMRI", "prompt": PROMPT, "options": {"layers": {"a": 1}}}, "layer"),
        ({"mode": "PET", "prompt": PROMPT, "options": {}}, "no scan 'PET'"),
        ({"mode": 5, "prompt": PROMPT, "options": {}}, "no scan 5"),
        ({"mode": "fMRI", "prompt": 5, "options": {}}, "a prompt is text"),
        ({"prompt": PROMPT}, "mode"),
        ({}, "mode"),
    ],
)
def test_data_that_cannot_be_asked_for_are_told(service, session, data, words):
    session.record("scan", data, service.scan("fMRI", PROMPT))
    [one] = replay(service, session)
    assert one.state == "skipped"
    assert words in one.reason


def test_what_has_no_result_or_a_damaged_one_is_told(service, session):
    session.record("scan", {"mode": "T1", "prompt": None, "options": {}})
    event = session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, service.scan("fMRI", PROMPT))
    session.record("reset", {})
    (session._folder / "results" / f"{event.result}.npz").write_bytes(b"")
    first, second = replay(service, session)
    assert first.reason == "No result was recorded with it."
    assert "result of event 1 is damaged" in second.reason


def test_other_tokens_are_told(service, session):
    written = service.generate(PROMPT, 2, lambda step: None)
    asked = {"prompt": PROMPT, "n_tokens": 2, "temperature": 0.0, "seed": 0}
    session.record("generate", {**asked, "tokens": [1, 2]}, written.scan)
    [one] = replay(service, session)
    assert (one.state, one.reason[:28]) == ("skipped", "The model wrote other tokens")


def test_a_replay_can_be_withdrawn_and_needs_a_model(service, session):
    for _ in range(4):
        session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, service.scan("fMRI", PROMPT))

    def withdraw(share, what):
        if share > 0.3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        replay(service, session, withdraw)
    with pytest.raises(ModelError, match="No model is loaded"):
        replay(Service(), session)


@pytest.mark.model
def test_the_real_model_gives_the_same_numbers_again(smollm2, session):
    service = Service(loader=lambda *_, **__: smollm2)
    service.load("smollm2-135m")
    session.record("model", model_of(service))
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, service.scan("fMRI", PROMPT))
    edit = nmri3d.Edit("blocks.20.mlp", "zero")
    session.record("edit", {"prompt": PROMPT, "edit": edit.as_record()}, service.perturb(PROMPT, [edit]))
    assert [(one.state, one.difference) for one in replay(service, session)] == [("equal", 0.0)] * 2
