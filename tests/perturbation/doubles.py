"""Tiny models that compute in float64 from end to end, so that first and second order can be told apart.

Hugging Face's norms and softmax compute in float32 whatever the weights are; `float64_inside` makes them compute in
float64 for one test.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from nmri3d.models.transformer_lens import TransformerLensBackend
from tests.models.backends import tiny_checkpoint
from tests.perturbation.plain import Plain

_FAMILIES = ("gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "gemma2", "mistral", "phi3")


class _Wide:
    """The torch module as a family's code sees it, with float32 meaning float64."""

    def __getattr__(self, name: str) -> Any:
        return torch.float64 if name == "float32" else getattr(torch, name)


def float64_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends, no code narrows a float64 tensor to float32."""
    narrow = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else narrow(self))
    for family in _FAMILIES:
        module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
        monkeypatch.setattr(module, "torch", _Wide())


def doubles(family: str, monkeypatch: pytest.MonkeyPatch) -> tuple[TransformerLensBackend, Plain]:
    """A backend and a plain model of the same weights, each its own copy, in float64."""
    float64_inside(monkeypatch)
    checkpoint, other = tiny_checkpoint(family), tiny_checkpoint(family)
    checkpoint.hf_model.double()
    return TransformerLensBackend(checkpoint), Plain(other.hf_model.double(), family)
