"""The reference passages that move a component most: what it usually answers to.

Ranked by the Euclidean norm of the component's write, the largest at positions 1.. of each passage (of a network without a
residual stream: by the size of the part's activation, at any step of its own reference stimuli). That says where the
component is strong, not what it does there, nor that it is strong nowhere else: the reference text is small.
"""

from __future__ import annotations

import math

from nmri3d.models.backend import Backend
from nmri3d.results import Example
from nmri3d.template.build import _fitting
from nmri3d.template.reference import reference_of
from nmri3d.template.template import Template


def moving_passages(model: Backend, template: Template, component: str, k: int = 5) -> list[Example]:
    """The k (at most 5) passages where a component's write is largest, largest first; none for a row that writes nothing.

    Raises InputError for a component that the model does not have.
    """
    row, texts = template.components.row(component), reference_of(model)
    found: list[Example] = []
    for passage, position, value in zip(
        template.top_passage[row].tolist(),
        template.top_position[row].tolist(),
        template.top_value[row].tolist(),
        strict=True,
    ):
        if passage < 0 or len(found) == k:
            break
        stimulus = _fitting(model, texts[passage])
        mean = float(template.fmri_mean[row])
        ratio = value / abs(float(template.fmri_mean_first[row]) if math.isnan(mean) else mean)
        found.append(Example(passage, texts[passage], position, stimulus.labels[position], value, ratio))
    return found
