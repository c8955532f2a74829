"""The client against a real server: everything equals the same measurement made here."""

from __future__ import annotations

import io
import threading
import time
import zipfile

import numpy as np
import pytest

import nmri3d
from nmri3d import errors
from nmri3d.scans.head_kinds import head_kinds
from nmri3d.scans.logit_lens import logit_lens
from nmri3d.scans.own_effect import own_effect
from tests.base.test_imports import loaded_by

PROMPT = "The capital of France is"
HEAD = "blocks.1.attn.head_2"


@pytest.fixture
def local(service):
    """The model itself, to measure without service and server."""
    return service.require_backend()


def assert_equal_scans(found, wanted):
    np.testing.assert_array_equal(found.values, wanted.values)
    assert (found.mode, found.units, found.tokens, found.signed) == (
        wanted.mode,
        wanted.units,
        wanted.tokens,
        wanted.signed,
    )
    assert found.components.ids == wanted.components.ids
    assert found.details.keys() == wanted.details.keys()
    for name, array in wanted.details.items():
        np.testing.assert_array_equal(found.details[name], array, err_msg=name)
    assert found.provenance.fingerprint == wanted.provenance.fingerprint


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("T1", {}),
        ("T2", {"statistic": "kurtosis"}),
        ("fMRI", {}),
        ("fmri", {"aggregation": "raw", "layers": (1,), "positions": range(2)}),
        ("fMRI", {"level": "neuron"}),
        ("DTI", {"method": "dla", "edges": "none"}),
        ("DTI", {"method": "atp", "effect": "zero"}),
        ("FLAIR", {"template": "off"}),
    ],
)
def test_a_scan_equals_the_local_one(remote, local, mode, options):
    prompt = None if mode in ("T1", "T2") else PROMPT
    found, wanted = remote.scan(mode, prompt, **options), nmri3d.scan(local, mode, prompt, **options)
    assert_equal_scans(found, wanted)
    if wanted.tracts is not None:
        np.testing.assert_array_equal(found.tracts.score, wanted.tracts.score)


def test_a_perturbation_equals_the_local_one(remote, local):
    before = local.fingerprint()
    edits = [nmri3d.Edit(HEAD, "noise", sigma=2.0, seed=3), nmri3d.Edit("blocks.0.mlp", "zero", positions=[1])]
    found, wanted = remote.perturb(PROMPT, edits), nmri3d.perturb(local, PROMPT, edits)
    np.testing.assert_array_equal(found.change, wanted.change)
    assert (found.before, found.after, found.kl) == (wanted.before, wanted.after, wanted.kl)
    injected = nmri3d.Edit(HEAD, "inject", values=np.linspace(-1, 1, local.info.d_model))
    assert remote.perturb(PROMPT, injected).kl == nmri3d.perturb(local, PROMPT, injected).kl
    assert local.fingerprint() == before


def test_traces_sweeps_and_edges_equal_the_local_ones(remote, local):
    found = remote.trace(PROMPT, draws=2, sites=("resid",), marked=[2])
    wanted = nmri3d.trace(local, PROMPT, draws=2, sites=("resid",), marked=[2])
    np.testing.assert_array_equal(found.values, wanted.values)
    np.testing.assert_array_equal(found.stderr, wanted.stderr)
    assert (found.tokens, found.target, found.note) == (wanted.tokens, wanted.target, wanted.note)
    swept = remote.ablate_all(PROMPT, effect="zero", components=[HEAD, "blocks.0.mlp"])
    np.testing.assert_array_equal(
        swept.values, nmri3d.ablate_all(local, PROMPT, effect="zero", components=[HEAD, "blocks.0.mlp"]).values
    )
    assert remote.estimate_ablate_all(PROMPT) >= 0
    assert remote.estimate_trace(PROMPT, draws=2, marked=[2]) >= 0
    edge = ("blocks.0.mlp", HEAD, "q")
    assert remote.verify_edge(PROMPT, *edge, effect="zero") == nmri3d.verify_edge(local, PROMPT, *edge, effect="zero")


def test_looking_inside_equals_the_local_way(remote, local, service):
    assert remote.predict(PROMPT, k=3) == service.predict(PROMPT, k=3)
    assert remote.top_neurons(PROMPT, 1, -1, 4) == service.top_neurons(PROMPT, 1, -1, 4)
    np.testing.assert_array_equal(remote.attention(PROMPT, 1), local.attention(local.stimulus(PROMPT), 1))
    found, wanted = remote.logit_lens(PROMPT, k=2), logit_lens(local, PROMPT, k=2)
    for name in ("token_ids", "texts", "probabilities", "kl", "entropy", "layers"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    effect, expected = remote.own_effect(PROMPT, HEAD), own_effect(local, PROMPT, HEAD)
    np.testing.assert_array_equal(effect.change, expected.change)
    kinds, scored = remote.head_kinds(), head_kinds(local)
    np.testing.assert_array_equal(kinds.induction, scored.induction)
    assert kinds.names(0.0) == scored.names(0.0)


def test_what_is_written_is_scanned(remote, local):
    tokens, scan = remote.generate(PROMPT, 3)
    assert len(tokens) == 3
    again = nmri3d.scan(local, "fMRI", PROMPT + "".join(token.token for token in tokens))
    assert scan.tokens[-3:] == tuple(token.token for token in tokens)
    assert scan.values.shape[1] == again.values.shape[1]


def test_the_model_describes_itself(remote, local):
    assert remote.info == local.info
    assert remote.components.ids == local.components.ids
    np.testing.assert_array_equal(remote.components.n_params, local.components.n_params)


def test_a_map_and_a_picture_come(remote, local, tmp_path):
    arrays, quality = remote.map(layout="anatomical")
    atlas = nmri3d.Atlas.build(local)
    np.testing.assert_array_equal(arrays["face_component"], atlas.face_component)
    assert quality.keys() == atlas.quality.keys()
    picture = remote.export(tmp_path / "brain.png", mode="fMRI", prompt=PROMPT, size=(320, 240))
    from PIL import Image

    with Image.open(picture) as image:
        assert image.size == (320, 240)


def test_a_session_records_what_is_asked(remote, tmp_path):
    with remote.session("a study") as session_id:
        remote.scan("fMRI", PROMPT)
        remote.perturb(PROMPT, nmri3d.Edit(HEAD, "zero"))
    remote.scan("fMRI", "not recorded")
    kept = next(one for one in remote.sessions() if one["id"] == session_id)
    assert kept["title"] == "a study"
    path = remote.export_session(session_id, tmp_path / "study.zip")
    with zipfile.ZipFile(path) as archive:
        log = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".jsonl")).decode()
    assert "not recorded" not in log
    assert log.count('"scan"') >= 1
    again = remote.import_session(path)
    assert again != session_id


def test_no_network_is_imported_to_ask_for_one(server):
    code = f"""
import nmri3d
with nmri3d.connect({server.url!r}) as model:
    assert model.scan("fMRI", {PROMPT!r}).values.shape[1] == len(model.components)
    model.trace({PROMPT!r}, draws=1, marked=[1]), model.logit_lens({PROMPT!r})
"""
    assert loaded_by(code) == set()


def test_errors_are_the_local_ones_in_the_local_words(remote, local):
    for ask in (
        lambda model: model.scan("fMRI", PROMPT, aggregation="raw", layers=[99]),
        lambda model: model.perturb(PROMPT, nmri3d.Edit("blocks.9.mlp", "zero")),
    ):
        with pytest.raises(errors.InputError) as found:
            ask(remote)
        assert str(found.value)
    with pytest.raises(errors.InputError) as wanted:
        nmri3d.perturb(local, PROMPT, nmri3d.Edit("blocks.9.mlp", "zero"))
    assert str(found.value) == str(wanted.value)
    with pytest.raises(errors.InputError, match="no scan"):
        remote.scan("X-ray", PROMPT)
    with pytest.raises(errors.NotFoundError):
        remote.export_session("nobody", io.BytesIO())


def test_addresses_and_tokens_are_told_in_words(server):
    with pytest.raises(errors.InputError, match="no address"):
        nmri3d.connect("localhost:8765")
    with pytest.raises(errors.ModelAccessError, match="token"):
        nmri3d.connect(server.address, token="wrong")
    with pytest.raises(errors.ModelAccessError, match="token"):
        nmri3d.connect(server.address)
    with pytest.raises(errors.MachineError, match="does not answer"):
        nmri3d.connect("http://127.0.0.1:9/", token="x")


def test_work_is_watched_and_withdrawn(remote, service):
    shares = []
    remote.ablate_all(PROMPT, effect="zero", progress=lambda share, what: shares.append((share, what)))
    assert shares[-1][0] == 1.0

    def give_up(share, what):
        raise errors.Cancelled("enough")

    begun = time.monotonic()
    with pytest.raises(errors.Cancelled, match="enough"):
        remote.trace(PROMPT, draws=1000, progress=give_up)
    assert time.monotonic() - begun < 30
    deadline = time.monotonic() + 20
    while service.figures()["jobs"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not service.figures()["jobs"]


def test_a_busy_server_is_waited_for(server, service):
    """A server whose first model is still loading answers 503; the client asks again."""
    with nmri3d.connect(server.url, patience=20) as patient:
        held = service._turns  # the model is at work
        waiting = threading.Event()

        def hold():
            with held.hold(lambda share, what: None):
                waiting.set()
                time.sleep(1.0)

        thread = threading.Thread(target=hold)
        thread.start()
        assert waiting.wait(10)
        assert patient.predict("another prompt", k=1)
        thread.join()
