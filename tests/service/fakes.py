"""A backend with planted values, and a loader that hands out such backends. The waits are events, not seconds."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.models.backend import ModelInfo, Run, Stimulus, no_progress

N_LAYERS = 4
D_MLP = 6
LOGITS = np.array([0.0, 3.0, -1.0, 2.0, 3.0])
PATIENCE = 10.0
"""Seconds after which a test that waits has failed."""

INFO = ModelInfo(
    model_id="fake",
    title="Fake",
    architecture="FakeForCausalLM",
    n_layers=N_LAYERS,
    n_heads=1,
    n_kv_heads=1,
    d_model=8,
    d_head=8,
    d_mlp=D_MLP,
    d_vocab=len(LOGITS),
    n_context=16,
    n_params=1000,
    dtype="float32",
    device="cpu",
    memory_bytes=4000,
    completeness=0.0,
    source="planted",
    fingerprint="0" * 64,
)


class Planted:
    """A tensor as far as reducers are concerned."""

    def __init__(self, array):
        self.array = array

    def float(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array


class FakeBackend:
    """Runs layer by layer and reports each. `gates[layer]`, where there is one, holds the pass until it is set."""

    step_axis = "token"
    outputs = "logits"
    examples = ("a b c",)
    kinds = ("embed", "mlp", "unembed")
    metric = "planted"
    abilities = frozenset({"residual"})

    def __init__(self, name="fake"):
        self.info = replace(INFO, model_id=name, title=name.title())
        layers = list(range(N_LAYERS))
        self.components = ComponentTable(
            kind=["embed", *["mlp"] * N_LAYERS, "unembed"],
            layer=[-1, *layers, -1],
            index=[-1] * (N_LAYERS + 2),
            n_params=range(1, N_LAYERS + 3),
        )
        self.structures = ("cortex",) * len(self.components)
        self.neurons = ComponentTable(
            kind=["neuron"] * (N_LAYERS * D_MLP),
            layer=np.repeat(layers, D_MLP),
            index=list(range(D_MLP)) * N_LAYERS,
            n_params=[1] * (N_LAYERS * D_MLP),
        )
        self.gates = {}
        self.reached = [threading.Event() for _ in layers]
        self.passes = 0
        self.layers_run = []
        self.closed = False
        self.at_once = 0

    def stimulus(self, text):
        if not text:
            raise InputError("the prompt is empty; write at least one word")
        words = tuple(text.split())
        return Stimulus(text, np.arange(len(words)), words, np.zeros(len(words), bool))

    def token_text(self, token):
        return f"token {token}"

    def run(self, stimulus, reads, *, logits=None, progress=no_progress):
        assert not self.closed, "a closed backend was run"
        self.at_once += 1
        assert self.at_once == 1, "two passes at once"
        self.passes += 1
        try:
            kept = {}
            for layer in range(N_LAYERS):
                progress(layer / N_LAYERS, f"layer {layer}")
                self.layers_run.append(layer)
                self.reached[layer].set()
                if layer in self.gates:
                    assert self.gates[layer].wait(PATIENCE), "a gate was never opened"
                site = f"blocks.{layer}.mlp.hook_post"
                if site in reads:
                    kept[site] = reads[site](Planted(self.activations(len(stimulus), layer)))
            return Run(kept, None if logits is None else LOGITS[None].repeat(len(logits), 0))
        finally:
            self.at_once -= 1

    @staticmethod
    def activations(steps, layer):
        """Planted [steps, D_MLP]; neuron 2 is the strongest and negative, then 5."""
        row = np.array([0.1, 0.2, -9.0, 0.3, 0.0, 4.0], dtype=np.float32)
        return row * np.arange(1, steps + 1, dtype=np.float32)[:, None] + layer

    def close(self):
        self.closed = True


class FakeLoader:
    """Stands for `nmri3d.models.load`: hands out a new FakeBackend a call, with reports; can fail, and can be held."""

    def __init__(self):
        self.backends = []
        self.calls = []
        self.errors = {}
        self.gate = None
        self.begun = threading.Event()

    def __call__(self, name, *, progress, **options):
        self.calls.append((name, options))
        progress(0.25, "reading")
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(PATIENCE), "the load was never let go"
        if errors := self.errors.get(name):
            raise errors.pop(0)
        progress(0.75, "checking")
        backend = FakeBackend(name)
        self.backends.append(backend)
        return backend
