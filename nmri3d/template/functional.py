"""Functional features: how the activity of components varies together over the reference text.

The fMRI value of a component, the norm of its write, is taken at every token of the reference text but the first of each
passage (many models park large values there), and z-scored against the component's own distribution there. Two
components are then as far apart as their activity is uncorrelated: the squared distance of their whole series, each of
unit length, is 2 (1 - r). Of that the KEPT principal components are features; on the default model they hold 70 % of the
variance, and activity on other prompts is a little more clustered on a layout by them than by all.

Convention. A component that writes nothing or always the same (unembed, some attention biases) has zeros. The features
belong to a fingerprint of weights, a version of this file and of the reference text, under which they are cached beside
the templates.

Left out: what a component does with the answer; components that are active together may do unlike things.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.results.storage import read_result, write_result
from nmri3d.template.access import CACHE_VARIABLE, cache_folder
from nmri3d.template.build import _fitting
from nmri3d.template.reference import reference_of, text_digest

VERSION = 1
KEPT = 64
_SAME = 1e-4
"""A component whose standard deviation is less than so much of its mean does not vary."""


def functional_features(model: Backend, progress: Progress = no_progress) -> np.ndarray:
    """float32 [components, k], k at most KEPT: features for `Atlas.build(model, layout, features=...)`.

    Runs the reference text once (about 20 seconds for the default model; `progress` reports it, and may raise
    Cancelled: then nothing is kept). Later calls read them from the user's cache. Warns where that cannot be written.
    """
    path = cache_folder() / f"{model.info.fingerprint[:24]}-functional-{VERSION}-{text_digest(reference_of(model))}.npz"
    try:
        _, arrays, components = read_result(path, _form(model))
        if components == model.components and _sound(arrays.get("features"), len(model.components)):
            return arrays["features"]
    except InputError:  # not there, or damaged: measured anew
        pass
    features = principal_features(reference_activity(model, progress))
    try:
        _keep(features, model, path)
    except OSError as error:
        warnings.warn(
            f"functional features cannot be kept in {cache_folder()} ({error.strerror or error}); make room, or set "
            f"{CACHE_VARIABLE} to a folder that can be written",
            stacklevel=2,
        )
    progress(1.0, "functional features ready")
    return features


def reference_activity(model: Backend, progress: Progress = no_progress) -> np.ndarray:
    """float32 [tokens, components]: the norm of every write at positions 1.. of all passages of the reference text.

    Of a network without a residual stream: the activation at every step, NaN where a part is silent.
    """
    plan = model.write_plan("l2_norm", frozenset(range(model.info.n_layers)))
    texts, found = reference_of(model), []
    first = 1 if "residual" in model.abilities else 0
    for number, text in enumerate(texts):
        progress(number / len(texts), f"reference text, passage {number + 1} of {len(texts)}")
        run = model.run(_fitting(model, text), plan.reads)
        found.append(plan.collect(run)[first:])
    return np.concatenate(found).astype(np.float32)


def principal_features(activity: np.ndarray, kept: int = KEPT) -> np.ndarray:
    """float32 [n, k]: principal components of the z-scored series activity [tokens, n], of unit length before the cut."""
    values = activity.astype(np.float64)
    there = ~np.isnan(values)
    n = np.maximum(1, there.sum(axis=0))
    mean = np.where(there, values, 0).sum(axis=0) / n
    apart = np.where(there, values - mean, 0)  # silent steps are as usual: they tell nothing
    std = np.sqrt(np.square(apart).sum(axis=0) / n)
    varies = std > _SAME * np.abs(mean)
    series = np.divide(apart, std * np.sqrt(n), out=np.zeros_like(values), where=varies)
    # The Gram matrix of n components is small however long the text is.
    strength, directions = np.linalg.eigh(series.T @ series)
    largest = np.argsort(-strength, kind="stable")[: min(kept, len(strength))]
    features = directions[:, largest] * np.sqrt(np.maximum(strength[largest], 0))
    features *= np.sign(features[np.abs(features).argmax(axis=0), np.arange(features.shape[1])])
    return features.astype(np.float32)


def _form(model: Backend) -> str:
    return f"nmri3d-functional-{VERSION}-{text_digest(reference_of(model))}"


def _sound(features: np.ndarray | None, n: int) -> bool:
    return features is not None and features.ndim == 2 and len(features) == n and bool(np.isfinite(features).all())


def _keep(features: np.ndarray, model: Backend, path: Path) -> None:
    meta = {"fingerprint": model.info.fingerprint, "model_id": model.info.model_id}
    write_result(path, _form(model), meta, {"features": features}, model.components)
