"""Activations of MLP neurons: on demand, since a model has 10^4 to 10^6 of them.

Convention: the signed activation after the nonlinearity; in gated MLPs, after the gate (the input of the output
projection, TransformerLens' `hook_post`).
"""

from __future__ import annotations

import numpy as np
import torch

from nmri3d.components import component_id
from nmri3d.models.backend import Backend, Progress, Stimulus, no_progress
from nmri3d.models.checks import require_indices
from nmri3d.models.residual_backend import require
from nmri3d.results import TopNeuron


def neuron_activations(
    model: Backend, stimulus: Stimulus, layers: frozenset[int], *, progress: Progress = no_progress
) -> np.ndarray:
    """Float32 [steps, neurons of the whole model]; NaN for the neurons of other layers. One forward pass of the body."""
    reads = {f"blocks.{layer}.mlp.hook_post": lambda post: post.float().cpu() for layer in layers}
    run = model.run(stimulus, reads, progress=progress)
    values = torch.full((len(stimulus), len(model.neurons)), torch.nan)
    for layer in layers:
        values[:, model.neurons.rows(layer=layer)] = run.reads[f"blocks.{layer}.mlp.hook_post"]
    return values.numpy()


def top_neurons(model: Backend, prompt: str, layer: int, position: int = -1, k: int = 10) -> list[TopNeuron]:
    """The k neurons of a layer with the largest absolute activation at a position, strongest first.

    Raises InputError for a layer or position that does not exist.
    """
    require(model, "neurons")
    stimulus = model.stimulus(prompt)
    [layer] = require_indices("layer", [layer], model.info.n_layers, "this model")
    [position] = require_indices("position", [position], len(stimulus), "the prompt")
    site = f"blocks.{layer}.mlp.hook_post"
    activation = model.run(stimulus, {site: lambda post: post[position].float().cpu()}).reads[site].numpy()
    return strongest(activation, layer, k)


def strongest(activation: np.ndarray, layer: int, k: int) -> list[TopNeuron]:
    """The k largest by magnitude of one layer's activations [d_mlp], strongest first, equal ones by index."""
    best = np.argsort(-np.abs(activation), kind="stable")[:k].tolist()
    return [TopNeuron(component_id("neuron", layer, index), index, float(activation[index])) for index in best]
