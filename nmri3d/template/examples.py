"""The reference passages that move a component most: what it usually answers to.

Ranked by the Euclidean norm of the component's write, the largest at positions 1.. of each passage. That says where the
component is strong, not what it does there, nor that it is strong nowhere else: the reference text is small.
"""

from __future__ import annotations

from nmri3d.models.backend import Backend
from nmri3d.results import Example
from nmri3d.template.build import _fitting
from nmri3d.template.reference import passages
from nmri3d.template.template import Template


def moving_passages(model: Backend, template: Template, component: str, k: int = 5) -> list[Example]:
    """The k (at most 5) passages where a component's write is largest, largest first; none for a row that writes nothing.

    Raises InputError for a component that the model does not have.
    """
    row = template.components.row(component)
    found: list[Example] = []
    for passage, position, value in zip(
        template.top_passage[row].tolist(),
        template.top_position[row].tolist(),
        template.top_value[row].tolist(),
        strict=True,
    ):
        if passage < 0 or len(found) == k:
            break
        stimulus = _fitting(model, passages()[passage])
        ratio = value / float(template.fmri_mean[row])
        found.append(Example(passage, passages()[passage], position, stimulus.labels[position], value, ratio))
    return found
