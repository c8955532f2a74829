"""Loading gives Hugging Face's own model: same logits, right type, ready to be read, and gone when it is dropped."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from nmri3d.errors import Cancelled, InputError, ModelNotFoundError
from nmri3d.models import load, load_checkpoint
from tests.models.tiny import BOS, BOS_FAMILIES, FAMILIES, PROMPTS, tiny_checkpoint_folder, tiny_model
from tests.models.tiny_gguf import write_tiny_gguf


def logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_from_a_folder_with_its_own_logits(family: str, tmp_path: Path) -> None:
    folder = tiny_checkpoint_folder(family, tmp_path / family, seed=3)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.hf_model.config._attn_implementation == "eager"
    assert not checkpoint.hf_model.training
    assert not any(parameter.requires_grad for parameter in checkpoint.hf_model.parameters())
    assert (checkpoint.device, checkpoint.dtype, checkpoint.warnings) == ("cpu", "float32", ())
    assert checkpoint.model_id == str(folder.resolve())
    reference = tiny_model(family, seed=3)
    for prompt in PROMPTS:
        ids = checkpoint.tokenizer(prompt)["input_ids"]
        assert (ids[0] == 0) == (family in BOS_FAMILIES)
        assert checkpoint.tokenizer.decode(ids).removeprefix(BOS) == prompt
        torch.testing.assert_close(logits(checkpoint.hf_model, ids), logits(reference, ids), rtol=1e-4, atol=1e-5)


def test_shards_are_one_model(tmp_path: Path) -> None:
    folder = tiny_checkpoint_folder("qwen3", tmp_path, seed=1, max_shard_size="30KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    loaded = load_checkpoint(str(folder)).hf_model
    for name, tensor in tiny_model("qwen3", seed=1).state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")],
)
def test_half_precision_is_widened_on_the_cpu_unless_asked_for(dtype: str, expected: str, tmp_path: Path) -> None:
    folder = tiny_checkpoint_folder("gpt2", tmp_path, dtype="bfloat16")
    checkpoint = load_checkpoint(folder, dtype=dtype)
    assert checkpoint.dtype == expected
    assert checkpoint.hf_model.dtype == getattr(torch, expected)


@pytest.mark.parametrize(("quantization", "tolerance"), [("F32", 1e-5), ("Q8_0", 0.15)])
@pytest.mark.parametrize("by", ["file", "folder"])
def test_gguf_is_the_model_that_was_written(quantization: str, tolerance: float, by: str, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "tiny.gguf", seed=5, quantization=quantization)
    checkpoint = load_checkpoint(file if by == "file" else tmp_path)
    ids = [0, *range(40, 60)]
    found, expected = logits(checkpoint.hf_model, ids), logits(tiny_model("llama", seed=5), ids)
    assert (found - expected).abs().max() < tolerance
    assert getattr(checkpoint.hf_model.config, "quantization_config", None) is None
    prompt = PROMPTS[2]
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer(prompt)["input_ids"]).removeprefix(BOS) == prompt
    assert any("Q8_0" in warning for warning in checkpoint.warnings) == (quantization == "Q8_0")


def test_a_dropped_model_is_freed(tmp_path: Path) -> None:
    folders = [tiny_checkpoint_folder(family, tmp_path / family) for family in ("llama", "gpt2")]
    alive = []
    for turn in range(6):
        checkpoint = load_checkpoint(folders[turn % 2])
        logits(checkpoint.hf_model, [1, 2, 3])
        alive.append(weakref.ref(checkpoint.hf_model))
        alive.append(weakref.ref(next(checkpoint.hf_model.parameters())))
    del checkpoint
    gc.collect()
    assert [reference() for reference in alive] == [None] * len(alive)


def test_progress_only_goes_forward_and_ends_at_one(llama_folder: Path, tmp_path: Path) -> None:
    for name in (llama_folder, write_tiny_gguf(tmp_path / "tiny.gguf")):
        calls: list[tuple[float, str]] = []
        load_checkpoint(name, progress=lambda share, what, calls=calls: calls.append((share, what)))
        shares = [share for share, _ in calls]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert len({share for share in shares if 0.65 <= share <= 0.95}) > 10  # moves while weights are loaded
        assert all(what for _, what in calls)


def test_progress_that_raises_withdraws_the_load(llama_folder: Path) -> None:
    def cancel(share: float, what: str) -> None:
        if share > 0.8:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        load_checkpoint(llama_folder, progress=cancel)
    load_checkpoint(llama_folder)  # and nothing is left locked or silenced
    from transformers.utils import logging

    assert logging.set_tqdm_hook(None) is None


def test_loading_prints_nothing(llama_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_checkpoint(llama_folder)
    load_checkpoint(write_tiny_gguf(tmp_path / "tiny.gguf"))
    assert capfd.readouterr() == ("", "")


def test_a_gpu_without_room_falls_back_to_the_cpu_and_says_so(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nmri3d.models import budget, devices

    monkeypatch.setattr(devices, "choose", lambda device: "cuda")
    free_ram = budget.free_bytes("cpu")
    monkeypatch.setattr(budget, "free_bytes", lambda device: 1000 if device == "cuda" else free_ram)
    checkpoint = load_checkpoint(llama_folder)
    assert checkpoint.device == "cpu"
    (warning,) = checkpoint.warnings
    assert "CPU" in warning
    assert "1.0 kB free" in warning


def test_a_gpu_that_runs_out_while_loading_falls_back_to_the_cpu(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    from nmri3d.models import budget, devices

    real = transformers.AutoModelForCausalLM.from_pretrained

    def from_pretrained(folder: Path, **options: object) -> object:
        if options.pop("device_map", None):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(folder, **options)

    monkeypatch.setattr(devices, "choose", lambda device: "cuda")
    free_ram = budget.free_bytes("cpu")
    monkeypatch.setattr(budget, "free_bytes", lambda device: free_ram)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    checkpoint = load_checkpoint(llama_folder)
    assert checkpoint.device == "cpu"
    assert checkpoint.dtype == "float32"
    assert "cuda ran out of memory" in checkpoint.warnings[0]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"backend": "jax"}, ["'jax'", "auto", "transformer_lens", "nnsight"]),
        ({"dtype": "int8"}, ["'int8'", "float32", "bfloat16"]),
        ({"device": "gpu"}, ["'gpu'", "cuda", "cpu"]),
        ({"device": "cuda:x"}, ["'cuda:x'"]),
    ],
)
def test_arguments_that_cannot_be_are_refused_with_what_can(
    arguments: dict[str, str], names: list[str], llama_folder: Path
) -> None:
    with pytest.raises(InputError) as raised:
        load(llama_folder, **arguments)
    for name in names:
        assert name in str(raised.value)


@pytest.mark.parametrize("name", ["", None, 7, b""])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(InputError):
        load_checkpoint(name)  # type: ignore[arg-type]


def test_a_phantom_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="no phantom 'unheard-of'"):
        load("phantom:unheard-of")


def test_a_phantom_comes_from_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    class Point:
        name = "sprout"

        @staticmethod
        def load() -> object:
            return lambda *, device, progress: ("sprout", device)

    def entry_points(*, group: str) -> list[type[Point]]:
        return [Point] if group == "nmri3d.phantoms" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert load("phantom:sprout", device="cpu") == ("sprout", "cpu")
    with pytest.raises(ModelNotFoundError, match="choose one of sprout"):
        load("phantom:spruot")


def test_models_that_are_swapped_and_closed_are_freed(tmp_path: Path) -> None:
    folders = [tiny_checkpoint_folder(family, tmp_path / family) for family in ("gemma2", "gpt_neox", "phi3")]
    alive = []
    for folder in folders * 2:
        backend = load(folder)
        backend.run(backend.stimulus("The capital of France"), {}, logits=[-1])
        alive += [weakref.ref(backend), weakref.ref(backend.hf_model), weakref.ref(next(backend.hf_model.parameters()))]
        backend.close()
    del backend
    gc.collect()
    assert [reference() for reference in alive] == [None] * len(alive)


def test_code_that_is_trusted_runs(remote_code_folder: Path) -> None:
    checkpoint = load_checkpoint(remote_code_folder, trust_remote_code=True)
    assert type(checkpoint.hf_model).__name__ == "InternLM2ForCausalLM"
    ids = [0, 5, 6, 7]
    torch.testing.assert_close(logits(checkpoint.hf_model, ids), logits(tiny_model("llama"), ids), rtol=1e-4, atol=1e-5)
