"""What clients ask under load, with the answer that the same call gives alone, on another copy of the model.

Convention. Answers are compared number by number and exactly: the server computes with the same kernels, one request at a
time, so not even the last bit may differ. NaN equals NaN.

Left out: what has no numbers of its own (maps, pictures, sessions).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

import nmri3d
from nmri3d.results import Comparison, Heatmap, open_scan

PROMPTS = (
    "The capital of France is",
    "When Mary and John went to the store, John gave a drink to",
    "The quick brown fox jumps over the lazy dog",
    "A radiologist opens a patient and looks at one slice after the other",
    "Two and two is",
    "The capital of Italy is",
    "Grüße aus Köln",
    "She said that",
)
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
EDITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("zero", {}),
    ("amplify", {"factor": 3.0}),
    ("noise", {"sigma": 0.5, "seed": 7}),
)
FILE = {"Accept": "application/vnd.nmri3d+npz"}


@dataclass(frozen=True)
class Question:
    """A request, and what its answer must say."""

    kind: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    read: Callable[[httpx.Response], Any]
    alone: Any

    def is_answered_by(self, answer: httpx.Response) -> bool:
        """Whether the answer equals the one computed alone, bit by bit."""
        return same(self.read(answer), self.alone)


def same(a: Any, b: Any) -> bool:
    """Equal arrays, numbers and texts all the way down; when and how fast they were measured does not count."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, field.name), getattr(b, field.name))
            for field in dataclasses.fields(a)
            if field.name != "provenance"
        )
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def questions(model: Any) -> list[Question]:
    """All questions, their answers computed here and now, one after the other.

    model  a copy of the one that the server has
    """
    middle = model.info.n_layers // 2
    head, mlp = f"blocks.{middle}.attn.head_1", f"blocks.{middle}.mlp"
    asked = [
        _scan(model, "structural", "T1", None, {}),
        _scan(model, "weights", "T2", None, {}),
        _scan(model, "activation", "fMRI", PROMPTS[0], {"aggregation": "max"}),
        _scan(model, "activation", "fMRI", PROMPTS[1], {"level": "neuron"}),
        _scan(model, "anomaly", "FLAIR", PROMPTS[0], {}),
        _scan(model, "circuits", "DTI", PROMPTS[1], {"corrupt": CORRUPT, "method": "atp"}),
        _scan(model, "circuits", "DTI", PROMPTS[0], {"method": "dla"}),
        _trace(model, PROMPTS[1], CORRUPT, {"layers": [middle, middle + 1], "positions": [-1, -2], "sites": ["resid"]}),
        _perturbation(model, "ablate", PROMPTS[4], mlp, {}),
    ]
    for i, prompt in enumerate(PROMPTS):
        kind, options = EDITS[i % len(EDITS)]
        asked += [
            _scan(model, "activation", "fMRI", prompt, {}),
            _prediction(model, prompt, 5 + i),
            _perturbation(model, kind, prompt, head if i % 2 else mlp, options),
        ]
    return asked


def _scan(model: Any, path: str, mode: str, prompt: str | None, options: dict[str, Any]) -> Question:
    body = options if prompt is None else {"prompt": prompt, **options}
    alone = nmri3d.scan(model, mode, prompt, **options)
    return Question(f"scan {mode}", f"/api/scan/{path}", body, FILE, lambda answer: open_scan(answer.content), alone)


def _perturbation(model: Any, kind: str, prompt: str, component: str, options: dict[str, Any]) -> Question:
    body = {"prompt": prompt, "target_component": component, **options}
    alone = nmri3d.perturb(model, prompt, [nmri3d.Edit(component, kind, **options)])
    path = f"/api/perturb/{kind}"
    return Question(f"perturb {kind}", path, body, FILE, lambda answer: Comparison.open(answer.content), alone)


def _trace(model: Any, clean: str, corrupt: str, options: dict[str, Any]) -> Question:
    body = {"clean": clean, "corrupt": corrupt, **options}
    alone = nmri3d.trace(model, clean, corrupt, **options)
    return Question("trace", "/api/measure/trace", body, FILE, lambda answer: Heatmap.open(answer.content), alone)


def _prediction(model: Any, prompt: str, k: int) -> Question:
    from nmri3d.models.backend import no_progress
    from nmri3d.service.answers import next_tokens

    alone = [
        {"token": one.token, "token_id": one.token_id, "logit": one.logit, "prob": one.probability}
        for one in next_tokens(model, prompt, k, no_progress)
    ]
    body = {"prompt": prompt, "k": k}
    return Question("predict", "/api/measure/predict", body, {}, lambda answer: answer.json()["predictions"], alone)
