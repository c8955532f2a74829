"""What cannot be used is refused before it costs anything, by its own class, with the cause and the remedy."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nmri3d import errors
from nmri3d.models import budget, huggingface, load_checkpoint, preflight
from tests.models.tiny import tiny_checkpoint_folder, tiny_tokenizer
from tests.models.tiny_gguf import write_tiny_gguf

Change = Callable[[Path], None]


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama to spoil."""
    return Path(shutil.copytree(llama_folder, tmp_path / "spoiled"))


@pytest.fixture
def no_weights_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to load weights fails the test."""

    def load_model(*arguments: Any, **options: Any) -> None:
        pytest.fail("the weights were read although the model cannot be used")

    monkeypatch.setattr(huggingface, "load_model", load_model)


def configured(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            config.pop(key, None)
            if value is not None:
                config[key] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def removed(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def written(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content) and None


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.usefixtures("no_weights_read")
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (pickled, errors.ModelFormatError, ["pickle", "pytorch_model.bin", "safetensors"]),
        (removed("model.safetensors"), errors.ModelFormatError, ["no weights"]),
        (cut, errors.ModelFormatError, ["model.safetensors", "cut off", "download it again"]),
        (written("model.safetensors", b""), errors.ModelFormatError, ["0 bytes"]),
        (written("model.safetensors", b"\xff" * 64), errors.ModelFormatError, ["longer than the file"]),
        (
            written("model.safetensors", struct.pack("<Q", 4) + b"nope"),
            errors.ModelFormatError,
            ["header cannot be read"],
        ),
        (
            written("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
            errors.ModelFormatError,
            ["git lfs pull"],
        ),
        (
            removed("tokenizer.json", "tokenizer_config.json"),
            errors.ModelFormatError,
            ["no tokenizer", "save_pretrained"],
        ),
        (removed("config.json"), errors.ModelNotFoundError, ["no config.json", ".gguf"]),
        (written("config.json", b"{"), errors.ModelFormatError, ["not valid JSON"]),
        (written("config.json", b"[]"), errors.ModelFormatError, ["not a model configuration"]),
        (adapter, errors.UnsupportedModelError, ["adapter", "merge"]),
        (
            configured(model_type="bert", architectures=["BertForMaskedLM"]),
            errors.UnsupportedModelError,
            ["BertForMaskedLM", "predicts the next token", "Llama"],
        ),
        (
            configured(model_type="bert", architectures=["BertLMHeadModel"]),
            errors.UnsupportedModelError,
            ["BertLMHeadModel", "causal"],
        ),
        (
            configured(model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
            errors.UnsupportedModelError,
            ["T5ForConditionalGeneration", "encoder-decoder"],
        ),
        (
            configured(model_type="ctrl", architectures=["CTRLLMHeadModel"]),
            errors.UnsupportedModelError,
            ["CTRLLMHeadModel", "not supported", "TransformerLens"],
        ),
        (
            configured(model_type="brandnew", architectures=["BrandNewForCausalLM"]),
            errors.UnsupportedModelError,
            ["'brandnew'", "upgrade transformers"],
        ),
        (
            configured(
                model_type="internlm2",
                architectures=["InternLM2ForCausalLM"],
                auto_map={"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
            ),
            errors.UnsupportedModelError,
            ["InternLM2ForCausalLM", "trust_remote_code=True"],
        ),
        (configured(model_type=None, architectures=None), errors.UnsupportedModelError, ["names no architecture"]),
        (
            configured(quantization_config={"quant_method": "gptq", "bits": 4}),
            errors.UnsupportedModelError,
            ["gptq", "unquantized"],
        ),
    ],
)
def test_refused_before_any_weight_is_read(
    change: Change, error: type[errors.ModelError], words: list[str], folder: Path
) -> None:
    change(folder)
    with pytest.raises(errors.ModelError) as raised:
        load_checkpoint(folder)
    assert type(raised.value) is error
    for word in words:
        assert word in str(raised.value)


@pytest.mark.usefixtures("no_weights_read")
def test_too_large_tells_the_size_needed_and_the_size_free(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "free_bytes", lambda device: 200_000_000)
    n_params = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    with pytest.raises(errors.ModelTooLargeError) as raised:
        load_checkpoint(folder)
    assert budget.human_bytes(budget.bytes_needed(n_params, "float32")) in str(raised.value)
    assert "200 MB are free" in str(raised.value)
    assert f"{n_params:,} parameters" in str(raised.value)
    assert "bfloat16" in str(raised.value)


@pytest.mark.usefixtures("no_weights_read")
def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint_folder("llama", tmp_path, max_shard_size="30KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(errors.ModelFormatError, match=shard.name):
        load_checkpoint(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_that_are_no_numbers_are_named(value: float, dtype: str, tmp_path: Path) -> None:
    folder = tiny_checkpoint_folder("gpt2", tmp_path, dtype=dtype)
    weights = load_file(folder / "model.safetensors")
    name = "transformer.h.1.mlp.c_proj.weight"
    weights[name][3, 4] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        errors.ModelFormatError, match=r"1 NaN or infinite weights in transformer\.h\.1\.mlp\.c_proj\.weight"
    ):
        load_checkpoint(folder)


def test_large_finite_weights_are_no_error() -> None:
    model = torch.nn.Linear(4, 4, bias=False)
    torch.nn.init.constant_(model.weight, 3e38)  # the sum of them overflows
    huggingface.check_finite(model, "large")


def test_a_missing_weight_is_an_error_and_not_a_random_one(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(errors.ModelFormatError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load_checkpoint(folder)


def test_a_weight_of_another_shape_is_an_error(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(errors.ModelFormatError):
        load_checkpoint(folder)


def test_a_broken_tokenizer_is_an_error(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(errors.ModelFormatError, match="tokenizer in"):
        load_checkpoint(folder)


@pytest.mark.parametrize("keep", [2, 10, 1000, 0.5, 0.999])
def test_a_cut_gguf_file_is_refused(keep: float, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(errors.ModelFormatError, match=r"tiny\.gguf"):
        load_checkpoint(file)


def test_a_gguf_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes().replace(b"llama", b"lemur"))
    with pytest.raises(errors.UnsupportedModelError, match="lemur"):
        load_checkpoint(file)


def test_a_tokenizer_that_needs_code_is_refused_with_the_remedy(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    described = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "tokenizer.model").write_bytes(b"")
    (folder / "own.py").write_text("raise SystemExit('the code ran')")
    with pytest.raises(errors.UnsupportedModelError, match="trust_remote_code=True"):
        load_checkpoint(folder)


def test_a_folder_with_two_gguf_files_asks_which(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(errors.InputError, match=r"a\.gguf"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/folder", "no model file or folder"),
        ("./nothing-here", "no model file or folder"),
        ("~/nothing-here.gguf", "no model file or folder"),
        (Path("nothing-here"), "no model file or folder"),
        ("smollm2 135m", "did you mean smollm2-135m"),
        ("GPT-2 medium!", "neither"),
    ],
)
def test_a_name_that_means_nothing(name: str | Path, words: str) -> None:
    with pytest.raises(errors.ModelNotFoundError, match=words):
        load_checkpoint(name)


@pytest.mark.parametrize("name", ["weights.bin", "model.safetensors"])
def test_a_bare_weight_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(errors.ModelError):
        load_checkpoint(tmp_path / name)


def test_every_tiny_tokenizer_is_found() -> None:
    """The refusal of a folder without tokenizer must not hit what transformers itself writes."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tiny_tokenizer().save_pretrained(folder)
        preflight.check_tokenizer(Path(folder))


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=4),
    position=st.floats(0, 1),
    content=st.binary(min_size=1, max_size=12),
)
def test_headers_are_read_and_damage_never_escapes(
    shapes: list[list[int]], position: float, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever safetensors writes is read with its sizes; whatever is cut off or overwritten is refused or read, no more."""
    file = tmp_path_factory.mktemp("headers") / "x.safetensors"
    save_file({f"t{number}": torch.zeros(shape) for number, shape in enumerate(shapes)}, file)
    assert [preflight.read_header(file)[f"t{number}"]["shape"] for number in range(len(shapes))] == shapes
    whole = file.read_bytes()
    at = int(position * (len(whole) - 1))
    for damaged in (whole[:at], whole + content, whole[:at] + content + whole[at + len(content) :]):
        file.write_bytes(damaged)
        try:
            header = preflight.read_header(file)
        except errors.ModelFormatError:
            continue
        assert len(damaged) >= len(whole)
        assert all("shape" in entry and "dtype" in entry for entry in header.values())
