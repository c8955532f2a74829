"""Folders of tiny models, made once; a cache of our own for every test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.fake_hub import FakeHub
from tests.models.tiny import tiny_checkpoint_folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama; copy it before changing it."""
    return tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for prepared models; returns the folder that they go to."""
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def remote_code_folder(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model that runs only with Python code in its own folder, under a name that TransformerLens knows."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = Path(shutil.copytree(llama_folder, tmp_path / "with-code"))
    config = json.loads((folder / "config.json").read_text())
    module = "modeling_internlm2"
    config |= {
        "model_type": "internlm2",
        "architectures": ["InternLM2ForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{module}.InternLM2Config",
            "AutoModelForCausalLM": f"{module}.InternLM2ForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / f"{module}.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n"
        "class InternLM2Config(LlamaConfig):\n    model_type = 'internlm2'\n\n"
        "class InternLM2ForCausalLM(LlamaForCausalLM):\n    config_class = InternLM2Config\n"
    )
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, with an empty hub cache and no token anywhere."""
    from huggingface_hub import constants

    with FakeHub() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(variable, raising=False)
        yield server
