"""Every layout of the default model, by weights and by activity, with the figures of its atlas beside their bounds.

Moran's I is that of fMRI scans of the benchmark's prompts, which are not in the reference text, z-scored against the
template, position 0 left out. The tables without weights have 302 and 1,192 components.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

import nmri3d
from nmri3d.atlas import LAYOUTS, Atlas, Moran, spatial_clustering
from nmri3d.bench.prompts import PROMPTS
from nmri3d.models.backend import Backend
from nmri3d.template import functional_features, template_of
from tests.atlas.tables import Shape, table
from tests.benchmarks.timing import Figure

AREAS = ("parameters", "equal")


def held_out(model: Backend) -> np.ndarray:
    """float32 [tokens, components]: z-scored fMRI values of prompts that no layout has seen, position 0 left out."""
    template, found = template_of(model), []
    for pair in (pair for pairs in PROMPTS.values() for pair in pairs):
        values = nmri3d.scan(model, "fMRI", pair.clean).values
        found.append(template.fmri_z(values, np.arange(len(values)))[1:])
    return np.concatenate(found)


def layouts() -> Iterator[Figure]:
    """A table of all layouts x figures, of the default model and of tables without weights."""
    model = nmri3d.load()
    activity = held_out(model)
    started = time.perf_counter()
    by_weights = model.circuit_features()
    yield Figure("features from the weights, seconds", f"{time.perf_counter() - started:.1f}", "")
    by_activity = functional_features(model)
    for name, features in (("weights", by_weights), ("activity", by_activity)):
        for layout in LAYOUTS:
            for area in AREAS:
                started = time.perf_counter()
                given = None if layout == "anatomical" and name == "weights" else features
                atlas = Atlas.build(model, layout, area=area, features=given, cache=False)
                seconds = time.perf_counter() - started
                yield from _figures(f"{layout}, by {name}, area {area}", atlas, seconds)
                yield _clustering(f"{layout}, by {name}, area {area}", spatial_clustering(atlas, activity), name)
    for n_layers, n_heads in ((30, 9), (34, 34)):
        components = table(n_layers, n_heads)
        for layout in LAYOUTS:
            started = time.perf_counter()
            atlas = Atlas.build(Shape(components), layout, cache=False)
            yield from _figures(f"{layout}, {len(components):,} without weights", atlas, time.perf_counter() - started)


def _figures(name: str, atlas: Atlas, seconds: float) -> Iterator[Figure]:
    q = atlas.quality
    yield Figure(f"{name}: seconds", f"{seconds:.1f}", "under 30")
    yield Figure(f"{name}: largest error of area", f"{q['area_error_max']:.4f}", "under 0.03")
    yield Figure(f"{name}: parcels in one piece", f"{q['connected_share']:.3f}", "1")
    yield Figure(f"{name}: isoperimetric quotient, median", f"{q['isoperimetric_median']:.3f}", "at least 0.5")
    yield Figure(f"{name}: border over smoothed border", f"{q['border_roughness']:.3f}", "at most 1.15")
    trust = f"{q['trustworthiness']:.3f} (random {q['trustworthiness_random']:.3f})"
    shared = f"{q['knn_share'] / q['knn_share_random']:.1f}"
    if atlas.layout == "anatomical":
        yield Figure(f"{name}: depth correlation", f"{q['depth_spearman']:.3f}", "at least 0.95")
        yield Figure(f"{name}: trustworthiness", trust, "")
        yield Figure(f"{name}: shared neighbors over random", shared, "")
    else:
        yield Figure(f"{name}: trustworthiness", f"{trust}, embedding {q['trustworthiness_embedding']:.3f}", "")
        yield Figure(f"{name}: kept of the embedding's", f"{q['trustworthiness_corrected']:.3f}", "at least 0.85")
        yield Figure(f"{name}: shared neighbors over random", shared, "at least 5")


def _clustering(name: str, moran: Moran, features: str) -> Figure:
    value = f"{moran.index:.3f} (permuted {moran.expected:.3f}), z {moran.z:.1f}"
    return Figure(f"{name}: Moran's I of held-out scans", value, "z at least 3" if features == "activity" else "")
