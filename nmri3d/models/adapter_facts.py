"""What TransformerLens knows of an architecture, asked once and remembered on disk.

TransformerLens takes about a second to import, and what a start needs of it is a few strings: which architectures it has
an adapter for, and which Hugging Face module is which part. They depend on its version and on the model's configuration
alone, and are kept under both. A file that is missing or damaged is made anew.

Left out: everything else that TransformerLens does; `TransformerLensBackend.bridge` imports it when it is asked for.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from nmri3d.errors import UnsupportedModelError
from nmri3d.files import written_whole
from nmri3d.models.weight_cache import cache_folder


def supported_architectures() -> frozenset[str]:
    """Names of the architectures that TransformerLens has an adapter for."""

    def ask() -> list[str]:
        from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

        return sorted(SUPPORTED_ARCHITECTURES)

    return frozenset(_remembered("supported", ask))


def module_paths(hf_model: Any) -> dict[str, str]:
    """Where the parts of a Hugging Face model lie, by TransformerLens' names for them.

    `blocks.attn.o` is relative to `blocks.attn`, that to one of the children of `blocks`, and that to the model;
    `parallel` is "yes" where attention and MLP of a block read the same residual. Raises UnsupportedModelError for an
    architecture that TransformerLens does not know.
    """
    key = hashlib.sha256(f"{type(hf_model).__name__} {hf_model.config.to_json_string()}".encode()).hexdigest()[:24]
    return _remembered(f"paths-{key}", lambda: _paths_of(adapter_of(hf_model)))


def adapter_of(hf_model: Any) -> Any:
    """TransformerLens' own architecture adapter. Raises UnsupportedModelError where it has none."""
    from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
    from transformer_lens.model_bridge.sources._hf_format import determine_architecture_from_hf_config

    config = copy.deepcopy(hf_model.config)
    try:
        architecture = determine_architecture_from_hf_config(config)
        bridge_config = build_bridge_config_from_hf(config, architecture, config.name_or_path, hf_model.dtype)
        return ArchitectureAdapterFactory.select_architecture_adapter(bridge_config)
    except ValueError as error:
        raise UnsupportedModelError(
            f"TransformerLens has no adapter for {type(hf_model).__name__} ({error}); choose a model of the GPT-2, Pythia, "
            "Llama, Qwen, Gemma, Mistral or Phi family"
        ) from error


def _paths_of(adapter: Any) -> dict[str, str]:
    paths = {"parallel": "yes" if adapter.cfg.parallel_attn_mlp else "no"}

    def walk(parts: dict[str, Any], prefix: str) -> None:
        for name, part in parts.items():
            if part.name is not None:
                paths[prefix + name] = part.name
            walk(getattr(part, "submodules", None) or {}, f"{prefix}{name}.")

    walk(adapter.component_mapping, "")
    return paths


def _remembered(name: str, ask: Callable[[], Any]) -> Any:
    """The JSON value kept under this name for this version of TransformerLens, asked for where there is none."""
    file = cache_folder().parent / "adapters" / f"{version('transformer-lens')}-{name}.json"
    with suppress(OSError, ValueError):
        return json.loads(file.read_bytes())
    value = ask()
    with suppress(OSError), written_whole(file) as part:  # a cache that cannot be written costs time, nothing else
        part.write(json.dumps(value).encode())
    return value
