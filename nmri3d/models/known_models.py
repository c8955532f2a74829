"""The models that are known by name: the embedded default and the well-known ones of the hub.

Left out: whether they are on this disk (`registry`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from nmri3d.models.location import EMBEDDED


@dataclass(frozen=True)
class KnownModel:
    model_id: str
    title: str
    family: str
    n_params: int
    stored_bytes: int  # a parameter, in the published safetensors
    gated: bool = False


WELL_KNOWN = (
    KnownModel("openai-community/gpt2", "GPT-2 small", "GPT-2", 124_439_808, 4),
    KnownModel("openai-community/gpt2-medium", "GPT-2 medium", "GPT-2", 354_823_168, 4),
    KnownModel("EleutherAI/pythia-1.4b", "Pythia 1.4B", "GPT-NeoX", 1_414_647_808, 2),
    KnownModel("google/gemma-2-2b", "Gemma 2 2B", "Gemma-2", 2_614_341_888, 4, gated=True),
    KnownModel("meta-llama/Llama-3.2-3B", "Llama 3.2 3B", "Llama", 3_212_749_824, 2, gated=True),
    KnownModel("Qwen/Qwen2.5-3B", "Qwen 2.5 3B", "Qwen2", 3_085_938_688, 2),
    KnownModel("mistralai/Mistral-7B-v0.3", "Mistral 7B v0.3", "Mistral", 7_248_023_552, 2),
    KnownModel("microsoft/Phi-3-mini-4k-instruct", "Phi-3 mini 3.8B", "Phi-3", 3_821_079_552, 2),
    KnownModel("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2 135M (original)", "Llama", 134_515_008, 2),
)


def known_ids() -> list[str]:
    """Ids of the embedded default and the well-known models, for spelling suggestions."""
    return [EMBEDDED, *(known.model_id for known in WELL_KNOWN)]


def did_you_mean(name: str) -> str:
    """Words that name the known models closest to a misspelled one; empty where none is close."""
    by_key: dict[str, str] = {}
    for known in known_ids():
        by_key.setdefault(known.lower(), known)
        by_key.setdefault(known.lower().rpartition("/")[2], known)
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, by_key, n=4, cutoff=0.6)
    close += difflib.get_close_matches(wanted.rpartition("/")[2], by_key, n=4, cutoff=0.6)
    found = list(dict.fromkeys(by_key[key] for key in close))[:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""
