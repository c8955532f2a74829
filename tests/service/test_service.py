"""The service over planted models: loads and swaps, scans that are kept, shared, withdrawn."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from nmri3d import scans
from nmri3d.errors import (
    BusyError,
    Cancelled,
    InputError,
    MachineError,
    ModelError,
    ModelNotFoundError,
    ModelTooLargeError,
)
from nmri3d.service import Service
from nmri3d.service.core import LISTED
from nmri3d.service.events import ModelFailed, ModelLoading, ModelReady, ModelUnloaded
from tests.service.fakes import D_MLP, LOGITS, N_LAYERS, PATIENCE, FakeBackend
from tests.service.test_queueing import wait_for

PROMPT = "The capital of France is"


# -- the model -----------------------------------------------------------------------------------------------------------


def test_a_load_tells_everybody_from_beginning_to_end(a_service, loader):
    heard, states = [], []
    a_service.subscribe(lambda event: (heard.append(event), states.append(a_service.status.state)))
    info = a_service.load("first", device="cpu", revision="main", token="secret")
    assert info is a_service.backend.info
    assert heard == [
        ModelLoading("first", 0.0, "Looking for first"),
        ModelLoading("first", 0.25, "reading"),
        ModelLoading("first", 0.75, "checking"),
        ModelReady(info),
    ]
    assert states == ["loading", "loading", "loading", "ready"]
    assert a_service.status.info is info
    chosen = {"device": "cpu", "dtype": "auto", "revision": "main", "token": "secret"}
    assert loader.calls == [("first", {**chosen, "backend": "auto", "remote": False, "trust_remote_code": False})]


def test_reports_that_nobody_could_tell_apart_are_not_sent(a_service, monkeypatch):
    def loads(name, *, progress, **options):
        for i in range(10_001):
            progress(i / 10_000, "downloading")
        return FakeBackend(name)

    monkeypatch.setattr(a_service._slot, "_loader", loads)
    heard = []
    a_service.subscribe(heard.append)
    a_service.load("big")
    assert 150 <= len(heard) <= 210


def test_a_swap_keeps_the_old_model_answering_and_then_closes_it(a_service, loader):
    a_service.load("first")
    first = a_service.backend
    loader.gate = threading.Event()
    loader.begun.clear()
    job = a_service.run(lambda progress: a_service.load("second", progress=progress))
    assert loader.begun.wait(PATIENCE)
    assert a_service.status.state == "loading"
    assert a_service.status.info is first.info
    assert a_service.scan("T1").provenance.model_id == "first"
    loader.gate.set()
    job.result(PATIENCE)
    assert first.closed
    assert a_service.scan("T1").provenance.model_id == "second"  # nothing is kept of the model before


def test_asking_for_the_model_that_is_there_loads_nothing(a_loaded_service, loader):
    before = a_loaded_service.backend
    a_loaded_service.load("fake")
    assert a_loaded_service.backend is before
    a_loaded_service.load("fake", dtype="float16")
    assert a_loaded_service.backend is not before
    assert len(loader.calls) == 2


def test_one_load_at_a_time(a_service, loader):
    loader.gate = threading.Event()
    job = a_service.run(lambda progress: a_service.load("slow", progress=progress))
    assert loader.begun.wait(PATIENCE)
    with pytest.raises(BusyError, match="slow is being loaded"):
        a_service.load("other")
    with pytest.raises(BusyError, match="slow is being loaded"):
        a_service.unload()
    with pytest.raises(BusyError, match=r"slow is still being loaded \(25%\)"):
        a_service.scan("T1")
    loader.gate.set()
    job.result(PATIENCE)
    assert a_service.status.state == "ready"


def test_a_load_that_fails_leaves_the_model_before(a_loaded_service, loader):
    before, heard = a_loaded_service.backend, []
    loader.errors["missing"] = [ModelNotFoundError("There is no model missing.")]
    a_loaded_service.subscribe(heard.append)
    with pytest.raises(ModelNotFoundError):
        a_loaded_service.load("missing")
    assert a_loaded_service.backend is before
    assert not before.closed
    assert heard[-1] == ModelFailed("missing", "There is no model missing.", kept="fake")
    assert (a_loaded_service.status.state, a_loaded_service.status.error) == ("ready", "There is no model missing.")
    assert a_loaded_service.scan("T1").provenance.model_id == "fake"


def test_a_first_load_that_fails_says_why_there_is_no_model(a_service, loader):
    loader.errors["missing"] = [ModelNotFoundError("There is no model missing.")]
    with pytest.raises(ModelNotFoundError):
        a_service.load("missing")
    assert a_service.status.state == "failed"
    with pytest.raises(ModelError, match=r"load of missing failed: There is no model missing\."):
        a_service.scan("T1")
    a_service.load("fake")
    assert (a_service.status.state, a_service.status.error) == ("ready", None)


@pytest.mark.parametrize("by", ["job", "anybody"])
def test_a_load_that_is_withdrawn_leaves_all_as_it_was(a_service, loader, by):
    heard = []
    a_service.subscribe(heard.append)
    loader.gate = threading.Event()
    job = a_service.run(lambda progress: a_service.load("slow", progress=progress))
    assert loader.begun.wait(PATIENCE)
    if by == "job":
        job.cancel()
    else:
        a_service.cancel_load()
    loader.gate.set()
    with pytest.raises(Cancelled):
        job.result(PATIENCE)
    assert a_service.backend is None
    assert (a_service.status.state, a_service.status.error) == ("empty", None)
    assert heard[-1].cancelled
    loader.gate = None
    a_service.load("slow")  # the withdrawal was for that load only
    assert a_service.status.state == "ready"


def test_where_both_do_not_fit_the_old_model_goes_first(a_loaded_service, loader):
    before, heard = a_loaded_service.backend, []
    loader.errors["large"] = [ModelTooLargeError("large needs 2 GB and 1 GB are free.")]
    a_loaded_service.subscribe(heard.append)
    a_loaded_service.load("large")
    assert before.closed
    assert [call[0] for call in loader.calls] == ["fake", "large", "large"]
    assert [type(event) for event in heard if not isinstance(event, ModelLoading)] == [ModelUnloaded, ModelReady]
    assert a_loaded_service.backend.info.model_id == "large"


def test_what_would_not_fit_even_alone_does_not_cost_the_old_model(a_loaded_service, loader):
    before = a_loaded_service.backend
    error = ModelTooLargeError("huge needs 99 GB and 1 GB are free.")
    error.needed, error.free = 99e9, 1e9
    loader.errors["huge"] = [error]
    with pytest.raises(ModelTooLargeError):
        a_loaded_service.load("huge")
    assert a_loaded_service.backend is before
    assert not before.closed


def test_unload_closes_and_tells(a_loaded_service):
    before, heard = a_loaded_service.backend, []
    a_loaded_service.subscribe(heard.append)
    a_loaded_service.unload()
    assert before.closed
    assert a_loaded_service.backend is None
    assert heard == [ModelUnloaded("fake")]
    assert a_loaded_service.status.state == "empty"
    with pytest.raises(ModelError, match="No model is loaded"):
        a_loaded_service.predict(PROMPT)


def test_a_request_that_waited_while_the_model_was_changed_is_withdrawn(a_loaded_service, backend):
    backend.gates[0] = threading.Event()
    running = a_loaded_service.run(lambda progress: a_loaded_service.scan("fMRI", PROMPT, progress=progress))
    assert backend.reached[0].wait(PATIENCE)
    swap = a_loaded_service.run(lambda progress: a_loaded_service.load("second", progress=progress))
    wait_for(lambda: len(a_loaded_service._turns._waiters) == 1)  # the swap waits for the scan
    late = a_loaded_service.run(lambda progress: a_loaded_service.scan("fMRI", "late", progress=progress))
    wait_for(lambda: len(a_loaded_service._turns._waiters) == 2)
    backend.gates[0].set()
    assert running.result(PATIENCE).provenance.model_id == "fake"
    swap.result(PATIENCE)
    with pytest.raises(Cancelled, match="model was changed"):
        late.result(PATIENCE)


# -- scans ---------------------------------------------------------------------------------------------------------------


def test_an_equal_scan_is_measured_once_and_shared_read_only(a_loaded_service, backend):
    first = a_loaded_service.scan("fMRI", PROMPT)
    assert a_loaded_service.scan("fMRI", PROMPT) is first
    assert a_loaded_service.scan("fmri", PROMPT, aggregation="l2_norm") is first  # the default, given
    assert backend.passes == 1
    with pytest.raises(ValueError, match="read-only"):
        first.values[0, 0] = 7


def test_another_option_prompt_or_mode_is_another_scan(a_loaded_service, backend):
    results = [
        a_loaded_service.scan("fMRI", PROMPT),
        a_loaded_service.scan("fMRI", PROMPT, aggregation="max"),
        a_loaded_service.scan("fMRI", PROMPT, layers=[0]),
        a_loaded_service.scan("fMRI", PROMPT + " "),
        a_loaded_service.scan("T1"),
        a_loaded_service.scan("T2"),
    ]
    assert len(set(map(id, results))) == backend.passes == 6


def test_five_prompts_are_kept_and_weights_always(a_loaded_service, backend):
    a_loaded_service.scan("T1")
    for i in range(6):
        a_loaded_service.scan("fMRI", f"prompt {i}")
    passes = backend.passes
    a_loaded_service.scan("T1")
    for i in range(5, 0, -1):
        a_loaded_service.scan("fMRI", f"prompt {i}")
    assert backend.passes == passes
    a_loaded_service.scan("fMRI", "prompt 0")
    assert backend.passes == passes + 1


def test_equal_scans_at_once_run_the_model_once(a_loaded_service, backend):
    backend.gates[1] = threading.Event()
    jobs = [
        a_loaded_service.run(lambda progress: a_loaded_service.scan("fMRI", PROMPT, progress=progress), owner=i)
        for i in range(4)
    ]
    assert backend.reached[1].wait(PATIENCE)
    backend.gates[1].set()
    results = [job.result(PATIENCE) for job in jobs]
    assert len(set(map(id, results))) == backend.passes == 1


def test_progress_is_that_of_the_pass(a_loaded_service):
    shares = []
    a_loaded_service.scan("fMRI", PROMPT, progress=lambda share, what: shares.append(share))
    assert shares == [layer / N_LAYERS for layer in range(N_LAYERS)]


def test_a_cancel_takes_effect_within_one_layer_and_leaves_nothing(a_loaded_service, backend):
    backend.gates[1] = threading.Event()
    job = a_loaded_service.run(lambda progress: a_loaded_service.scan("fMRI", PROMPT, progress=progress))
    assert backend.reached[1].wait(PATIENCE)
    job.cancel()
    backend.gates[1].set()
    with pytest.raises(Cancelled):
        job.result(PATIENCE)
    assert backend.layers_run == [0, 1]
    backend.gates.clear()
    assert a_loaded_service.scan("fMRI", PROMPT).n_steps == 5
    assert backend.passes == 2


def test_an_error_is_not_kept_and_the_model_goes_on(a_loaded_service, backend):
    for _ in range(2):
        with pytest.raises(InputError, match="empty"):
            a_loaded_service.scan("fMRI", "")
    assert a_loaded_service.scan("fMRI", PROMPT).n_steps == 5


@pytest.mark.parametrize("prompt", [3, ["The", "capital"], b"bytes"])
def test_a_prompt_that_is_no_text_is_refused_in_words(a_loaded_service, prompt):
    with pytest.raises(InputError, match="must be a text"):
        a_loaded_service.scan("fMRI", prompt)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")]
)
def test_memory_that_runs_out_is_named(a_loaded_service, monkeypatch, error):
    def runs_out(*args, **options):
        raise error

    monkeypatch.setattr(scans, "scan", runs_out)
    with pytest.raises(MachineError, match="ran out of memory"):
        a_loaded_service.scan("fMRI", PROMPT)


def test_another_runtime_error_stays_what_it_is(a_loaded_service, monkeypatch):
    def breaks(*args, **options):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(scans, "scan", breaks)
    with pytest.raises(RuntimeError, match="shapes differ"):
        a_loaded_service.scan("fMRI", PROMPT)


# -- predictions and neurons ---------------------------------------------------------------------------------------------


def test_predictions_are_the_softmax_likeliest_first(a_loaded_service, backend):
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum()
    found = a_loaded_service.predict(PROMPT, k=3)
    assert [p.token_id for p in found] == [1, 4, 3]
    assert [p.token for p in found] == ["token 1", "token 4", "token 3"]
    assert [p.probability for p in found] == pytest.approx(expected[[1, 4, 3]])
    assert [p.logit for p in found] == [3.0, 3.0, 2.0]
    found.clear()  # a caller's list is its own
    assert len(a_loaded_service.predict(PROMPT, k=3)) == 3
    assert backend.passes == 1
    everything = a_loaded_service.predict(PROMPT, k=len(LOGITS))
    assert sum(p.probability for p in everything) == pytest.approx(1.0)


def test_neurons_are_ordered_by_strength_and_keep_their_sign(a_loaded_service, backend):
    found = a_loaded_service.top_neurons(PROMPT, 0, 1, k=2)
    assert [(n.component, n.index) for n in found] == [("blocks.0.mlp.neuron_2", 2), ("blocks.0.mlp.neuron_5", 5)]
    assert [n.activation for n in found] == pytest.approx([-18.0, 8.0])
    assert a_loaded_service.top_neurons(PROMPT, 0, -1, k=1)[0].activation == pytest.approx(-45.0)
    assert len(a_loaded_service.top_neurons(PROMPT, 0, 0, k=D_MLP)) == D_MLP
    assert backend.passes == 1  # one pass serves every position


@pytest.mark.parametrize("k", [0, max(LISTED, len(LOGITS)) + 1, True, 2.0, "3", None])
def test_a_bad_number_of_predictions_never_starts_the_model(a_loaded_service, backend, k):
    with pytest.raises(InputError, match="k must be"):
        a_loaded_service.predict(PROMPT, k=k)
    assert backend.passes == 0


@pytest.mark.parametrize(
    ("layer", "position", "k", "message"),
    [
        (N_LAYERS, 0, 1, "layer must be from 0 to 3, not 4"),
        (-1, 0, 1, "layer must be from 0 to 3, not -1"),
        (0, 5, 1, "position must be from -5 to 4, not 5"),
        (0, 0, D_MLP + 1, "k must be from 1 to 6, not 7"),
        (0, "0", 1, "position must be a whole number"),
    ],
)
def test_a_neuron_that_is_not_there_is_refused(a_loaded_service, layer, position, k, message):
    with pytest.raises(InputError, match=message):
        a_loaded_service.top_neurons(PROMPT, layer, position, k)


def test_what_is_derived_is_made_once_a_model(a_loaded_service):
    made = []

    def make(backend, progress):
        made.append(backend.info.model_id)
        return made[-1] + " atlas"

    jobs = [a_loaded_service.run(lambda _: a_loaded_service.derive("atlas", make)) for _ in range(3)]
    assert {job.result(PATIENCE) for job in jobs} == {"fake atlas"}
    assert made == ["fake"]
    a_loaded_service.load("second")
    assert a_loaded_service.derive("atlas", make) == "second atlas"


# -- ending and importing ------------------------------------------------------------------------------------------------


def test_close_withdraws_loads_and_scans(loader):
    service = Service(loader=loader)
    loader.gate = threading.Event()
    job = service.run(lambda progress: service.load("slow", progress=progress))
    assert loader.begun.wait(PATIENCE)
    threading.Timer(0.05, loader.gate.set).start()
    assert service.close()
    assert job.cancelled
    assert service.backend is None


def test_importing_the_service_imports_nothing_heavy():
    program = (
        "import sys, nmri3d.service; "
        "print([name for name in ('torch', 'transformers', 'vtk', 'fastapi', 'trame') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_ndif_is_asked_for_as_a_backend(a_service, loader):
    a_service.load("far", backend="ndif")
    assert loader.calls[-1][1]["backend"] == "auto"
    assert loader.calls[-1][1]["remote"]
