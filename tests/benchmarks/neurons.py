"""The neuron level: placing the neurons of the default model and of one as large as a 3B model, and repainting them.

The default model's neuron atlas is built in fresh processes, as a person would meet it: the first builds it, the second
finds it in the cache. The large one has random features, and an atlas without weights: only sizes count for time and memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.timing import Figure, best

PROMPT = "The capital of France is"
LAYERS, PER_MLP, HEADS = 28, 8192, 24

_DEFAULT = """
import time, nmri3d
from nmri3d.atlas.neurons import NeuronAtlas
model = nmri3d.load()
atlas = nmri3d.Atlas.build(model)
started = time.perf_counter()
built = NeuronAtlas.build(atlas, model.neurons, model.neuron_features, identity=model.info.fingerprint)
print(time.perf_counter() - started, *built.quality.values())
"""

_LARGE = """
import resource, time
import numpy as np
from nmri3d.atlas import Atlas
from nmri3d.atlas.neurons import NeuronAtlas
from tests.benchmarks.neurons import Large
model = Large()
atlas = Atlas.build(model, cache=False)
started = time.perf_counter()
built = NeuronAtlas.build(atlas, model.neurons, model.neuron_features, cache=False)
seconds = time.perf_counter() - started
print(seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *built.quality.values())
"""


class Large:
    """Tables and random features of a model of 28 layers with 8,192 neurons each."""

    def __init__(self) -> None:
        import numpy as np

        from nmri3d.components import ComponentTable

        kind = ["embed", *(["head"] * HEADS + ["mlp"]) * LAYERS, "unembed"]
        layer = [-1, *(layer for layer in range(LAYERS) for _ in range(HEADS + 1)), -1]
        index = [-1, *([*range(HEADS), -1] * LAYERS), -1]
        n_params = [300_000_000, *([1_500_000] * HEADS + [75_000_000]) * LAYERS, 3072]
        self.components = ComponentTable(np.array(kind), np.array(layer), np.array(index), np.array(n_params))
        n = LAYERS * PER_MLP
        self.neurons = ComponentTable(
            np.full(n, "neuron"),
            np.repeat(np.arange(LAYERS), PER_MLP),
            np.tile(np.arange(PER_MLP), LAYERS),
            np.full(n, 9216),
        )

    def layout_features(self) -> object:
        import numpy as np

        return np.random.default_rng(0).standard_normal((len(self.components), 16)).astype(np.float32)

    def neuron_features(self, layer: int) -> object:
        import numpy as np

        return np.random.default_rng(layer).standard_normal((PER_MLP, 32)).astype(np.float32)


def neurons(*, large: bool) -> Iterator[Figure]:
    """Time, memory and quality of neuron atlases, and bytes and work of a repaint."""
    from nmri3d.models.embedded import locate_embedded

    weights = locate_embedded(lambda share, what: None).folder
    with tempfile.TemporaryDirectory() as folder:
        # a cache of its own that holds the prepared weights and no atlas
        (Path(folder) / "models").symlink_to(weights.parent)
        cold, cached = (_printed(_DEFAULT, NMRI3D_CACHE=folder) for _ in range(2))
    yield Figure("neuron atlas of the default model, 46,080 neurons, cold, s", f"{cold[0]:.1f}", "under 60")
    yield Figure("neuron atlas of the default model, from the cache, s", f"{cached[0]:.2f}", "under 1")
    yield from _quality(cold[1:])
    if large:
        seconds, memory, *quality = _printed(_LARGE)
        yield Figure(f"neuron atlas of {LAYERS * PER_MLP:,} neurons, s", f"{seconds:.0f}", "under 600")
        yield Figure("... peak memory of the process, GB", f"{memory / 1e9:.2f}", "under 6")
        yield from _quality(quality)
    yield from _repaint()


def _quality(values: list[float]) -> Iterator[Figure]:
    texels, error, roundness, overlap = values
    yield Figure("... texels a neuron; mean error of that, %", f"{texels:.1f}; {100 * error:.2f}", "a few %")
    yield Figure("... roundness (median; disc 1, square 0.95)", f"{roundness:.2f}")
    yield Figure("... neighbors shared with the features, times chance", f"{overlap:.1f}")


def _repaint() -> Iterator[Figure]:
    import msgpack

    import nmri3d
    from nmri3d.app.neuron_payload import chart_payload, step_payload
    from nmri3d.atlas.neurons import NeuronAtlas
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import component_colors, display_range, scan_color_map

    model = nmri3d.load()
    atlas = nmri3d.Atlas.build(model)
    built = NeuronAtlas.build(atlas, model.neurons, model.neuron_features, identity=model.info.fingerprint)
    scan = nmri3d.scan_neurons(model, "fMRI", PROMPT)
    shown = display_range(scan)
    n = len(model.neurons)
    size = len(msgpack.packb(step_payload(scan, -1, shown)))
    yield Figure("repaint of neurons, bytes to the browser", f"{size:,}", f"at most {n + 2000:,}")
    with BrainScene(atlas) as scene:
        chart = chart_payload(atlas, built, scene.vertex_of_split, scene.component_of_split)
        yield Figure("where neurons lie, bytes to the browser, once", f"{len(msgpack.packb(chart)):,}")
        actor = scene.show_neurons(built)
        assert actor is not None
        colors = component_colors(scan.values[-1], shown, scan_color_map(scan))
        yield Figure(
            "repaint of neurons, server's own picture, ms", f"{1e3 * best(lambda: actor.paint(colors), times=9):.0f}"
        )


def _printed(code: str, **environment: str) -> list[float]:
    import os

    run = [sys.executable, "-c", code]
    ended = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return [float(word) for word in ended.stdout.split()]
