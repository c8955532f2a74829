"""A template from a few sentences, so that no test waits for the whole reference text."""

from functools import cache

import pytest

import nmri3d.template
from nmri3d.template import build_template
from tests.models.backends import tiny_backend

TEXTS = ("The fox gave 5 drinks to Mary.", "Rome is the capital of Italy, and", "One store after the other (in Paris)")


@cache
def short_template(family: str):
    return build_template(tiny_backend(family), texts=TEXTS)


@pytest.fixture(autouse=True)
def template(request, monkeypatch):
    """Baselines, noise and traces of tiny models take the short template; the real model keeps its own."""
    whole = nmri3d.template.template_of

    def template_of(model, progress=None):
        family = model.info.model_id.removeprefix("tiny-")
        return short_template(family) if family != model.info.model_id else whole(model)

    monkeypatch.setattr(nmri3d.template, "template_of", template_of)
    return short_template
