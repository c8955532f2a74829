"""The model menu, the memory figures, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nmri3d.models import budget, catalog, memory
from tests.models.fake_hub import FakeHub


def test_the_menu_offers_the_default_first_and_every_model_of_the_specification(hub: FakeHub, own_cache: Path) -> None:
    entries = catalog()
    assert entries[0].model_id == "smollm2-135m"
    ids = [entry.model_id for entry in entries]
    assert len(set(ids)) == len(ids)
    for part in (
        "gpt2",
        "gpt2-medium",
        "pythia-1.4b",
        "gemma-2-2b",
        "Llama-3.2-3B",
        "Qwen2.5-3B",
        "Mistral-7B-v0.3",
        "Phi-3",
    ):
        assert any(part in name for name in ids), part
    assert {entry.model_id for entry in entries if entry.gated} == {"google/gemma-2-2b", "meta-llama/Llama-3.2-3B"}
    for entry in entries:
        assert not entry.cached
        assert entry.needs_network
        assert entry.download_bytes
        assert entry.memory_bytes
        assert entry.memory_bytes > 4 * (entry.n_params or 0)
    assert hub.requests == []


def test_the_menu_survives_a_cache_that_is_none(hub: FakeHub, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    plain = len(catalog())
    broken = Path(constants.HF_HUB_CACHE)
    (broken / "models--tiny--half" / "snapshots" / "0").mkdir(parents=True)
    (broken / "models--broken").write_text("")
    assert len(catalog()) == plain


@pytest.mark.parametrize(
    ("model_id", "config"),
    [
        ("openai-community/gpt2", ("GPT2", {})),
        ("openai-community/gpt2-medium", ("GPT2", {"n_embd": 1024, "n_layer": 24, "n_head": 16})),
        (
            "EleutherAI/pythia-1.4b",
            ("GPTNeoX", {"hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 8192, "vocab_size": 50304}),
        ),
        ("google/gemma-2-2b", ("Gemma2", {"num_hidden_layers": 26})),
        (
            "meta-llama/Llama-3.2-3B",
            (
                "Llama",
                {
                    "vocab_size": 128256,
                    "hidden_size": 3072,
                    "intermediate_size": 8192,
                    "num_hidden_layers": 28,
                    "num_attention_heads": 24,
                    "num_key_value_heads": 8,
                    "tie_word_embeddings": True,
                },
            ),
        ),
        (
            "Qwen/Qwen2.5-3B",
            (
                "Qwen2",
                {
                    "vocab_size": 151936,
                    "hidden_size": 2048,
                    "intermediate_size": 11008,
                    "num_hidden_layers": 36,
                    "num_attention_heads": 16,
                    "num_key_value_heads": 2,
                    "tie_word_embeddings": True,
                },
            ),
        ),
        ("mistralai/Mistral-7B-v0.3", ("Mistral", {"vocab_size": 32768})),
        ("microsoft/Phi-3-mini-4k-instruct", ("Phi3", {})),
    ],
)
def test_parameter_counts_are_those_of_the_architecture(model_id: str, config: tuple[str, dict[str, object]]) -> None:
    """Counted on the meta device, from the published widths, without a weight."""
    import torch
    import transformers

    prefix, options = config
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{prefix}Config")(**options))
    (entry,) = [entry for entry in catalog() if entry.model_id == model_id]
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.n_params


def test_memory_figures_are_those_of_this_process() -> None:
    before = memory()["process"]
    block = bytearray(b"x") * 150_000_000
    after = memory()
    assert after["process"] - before > 0.9 * len(block)
    assert 0 <= after["free"] < after["total"]
    assert isinstance(after["gpus"], list)


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 100\nactive_file 100000\ninactive_file 200000\n")
    assert (memory()["free"], memory()["total"]) == (600_000, 1_000_000)
    unlimited = budget._ram()[1]
    (tmp_path / "memory.max").write_text("max\n")
    assert memory()["total"] > unlimited


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (92_871_040, "92.9 MB"), (538e6, "538 MB"), (2.7e9, "2.7 GB")],
)
def test_sizes_for_people(count: float, words: str) -> None:
    assert budget.human_bytes(count) == words


@pytest.mark.parametrize(
    "statement",
    [
        "import nmri3d.models",
        "from nmri3d.models import load, load_checkpoint, Checkpoint, CatalogEntry",
        "from nmri3d.models import catalog; catalog()",
        "from nmri3d.models import memory; memory()",
        "import nmri3d; nmri3d.load",
    ],
)
def test_names_and_menu_cost_neither_torch_nor_transformers(statement: str) -> None:
    check = "import sys; heavy = {'torch', 'transformers', 'vtk', 'gguf'} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", f"{statement}; {check}"], check=True)
