"""What a checkpoint on disk is, found out before anything costly happens: architecture, files, size, damage.

Reads only `config.json`, the headers of the weight files and the folder's listing; never a tensor. The safetensors format
is 8 bytes (little-endian length), that many bytes of JSON (name -> dtype, shape, data_offsets), then the data
(https://huggingface.co/docs/safetensors); a file whose length differs from what its header promises is damaged.

Left out: values. NaN weights are found after loading, by `loading`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmri3d.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from nmri3d.models.adapter_facts import supported_architectures

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
"""A folder that holds none of these has no tokenizer."""

PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_LFS_POINTER = b"version https://git-lfs"
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# in transformers' list of causal models, but they read in both directions
_BIDIRECTIONAL = frozenset({"BertLMHeadModel", "RobertaForCausalLM", "BD3LM", "DreamModel", "GiddForDiffusionLM"})


@dataclass(frozen=True)
class Preflight:
    """What is known of a checkpoint before it is loaded.

    architecture  transformers class name, such as "LlamaForCausalLM"
    n_params      numbers stored in the weight files (tied weights once)
    dtype         floating type of most of them: "float32", "float16", "bfloat16" or "float64"
    quantized     words for the quantization that was undone at load ("Q4_1"), or ""
    needs_code    whether it runs only with code that the checkpoint brings along
    """

    architecture: str
    n_params: int
    dtype: str
    quantized: str = ""
    needs_code: bool = False


def inspect_folder(folder: Path, *, trust_remote_code: bool) -> Preflight:
    """Check a folder of safetensors.

    Raises ModelNotFoundError (no model in it), ModelFormatError (pickle only, damaged, no tokenizer) and
    UnsupportedModelError (architecture, needs code of its own, quantized).
    """
    _, architecture, needs_code = check_description(folder, trust_remote_code=trust_remote_code)
    dtypes = _stored_types(folder)
    floating = [(count, name) for name, count in dtypes.items() if name in _DTYPES]
    if not floating:
        raise ModelFormatError(
            f"the weight files in {folder} hold no floating-point numbers; use the unquantized model"
        )
    return Preflight(architecture, dtypes.total(), _DTYPES[max(floating)[1]], needs_code=needs_code)


def count_parameters(folder: Path) -> int:
    """Numbers stored in a folder's safetensors files, by their headers. Raises ModelFormatError as `weight_files` does."""
    return _stored_types(folder).total()


def _stored_types(folder: Path) -> Counter[str]:
    """How many numbers of each safetensors dtype the weight files hold."""
    types = Counter[str]()
    for file in weight_files(folder):
        for entry in read_header(file).values():
            types[entry["dtype"]] += math.prod(entry["shape"])
    return types


def check_description(folder: Path, *, trust_remote_code: bool) -> tuple[dict[str, Any], str, bool]:
    """Check what can be checked without the weights; returns config, architecture, and whether it needs its own code.

    Errors as in `inspect_folder`.
    """
    config = read_config(folder)
    architecture, needs_code = check_architecture(config, folder, trust_remote_code=trust_remote_code)
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise UnsupportedModelError(
            f"the weights in {folder} are quantized ({method}), so they are not plain numbers that a scan can read; "
            "use the unquantized model, or its GGUF file"
        )
    check_tokenizer(folder)
    return config, architecture, needs_code


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a checkpoint folder."""
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            raise UnsupportedModelError(
                f"{folder} holds an adapter (LoRA), not a model; merge it into its base model and save that"
            )
        raise ModelNotFoundError(
            f"{folder} holds no model: it has no config.json and no .gguf file; give a folder that "
            "save_pretrained wrote, or the path of a .gguf file"
        )
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelFormatError(f"{path} is not valid JSON ({error}); download the model again") from error
    if not isinstance(config, dict):
        raise ModelFormatError(f"{path} is not a model configuration; download the model again")
    return config


def check_architecture(config: dict[str, Any], where: object, *, trust_remote_code: bool) -> tuple[str, bool]:
    """Architecture name of a config, and whether it needs the checkpoint's own code.

    Raises UnsupportedModelError for what is no decoder-only language model, what neither TransformerLens has an adapter for
    nor `discovery` finds the parts of, and what needs code that was not allowed.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = config.get("model_type")
    listed = config.get("architectures") or []
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(model_type))
    causal_names = {causal} if isinstance(causal, str) else set(causal or ())
    architecture = listed[0] if listed else (causal if isinstance(causal, str) else None)
    if not isinstance(architecture, str):
        raise UnsupportedModelError(
            f"the config.json of {where} names no architecture; use a checkpoint that save_pretrained wrote"
        )
    # a configuration that transformers knows is run by transformers' own code, whatever the folder brings along
    needs_code = model_type not in CONFIG_MAPPING_NAMES and bool(config.get("auto_map"))
    if config.get("is_encoder_decoder"):
        raise UnsupportedModelError(_not_causal(architecture, "an encoder-decoder model"))
    if architecture in _BIDIRECTIONAL or not (architecture in causal_names or needs_code):
        known = model_type in CONFIG_MAPPING_NAMES
        raise UnsupportedModelError(
            _not_causal(architecture, "not a model that predicts the next token (a causal decoder)")
            if known
            else f"transformers {_version('transformers')} does not know the model type {model_type!r} "
            f"({architecture}); upgrade transformers, or choose a supported model: {_examples()}"
        )
    if architecture not in supported_architectures() and not needs_code:
        _check_parts(architecture, config)
    if needs_code and not trust_remote_code:
        raise UnsupportedModelError(
            f"{architecture} runs only with Python code that comes with the checkpoint {where}; read that code, and if "
            "you trust it, load with trust_remote_code=True"
        )
    return architecture, needs_code


def require_adapter(architecture: str) -> None:
    """Raise UnsupportedModelError for an architecture that TransformerLens has no adapter for."""
    if architecture not in supported_architectures():
        raise UnsupportedModelError(
            f"TransformerLens {_version('transformer-lens')} has no adapter for {architecture}; load it with "
            "backend='nnsight', or leave the choice to backend='auto'"
        )


def _check_parts(architecture: str, config: dict[str, Any]) -> None:
    """Raise UnsupportedModelError for an architecture whose parts are not found in a model of it without weights."""
    from nmri3d.models import discovery

    try:
        discovery.check_skeleton(config)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"the architecture {architecture} is not supported: TransformerLens {_version('transformer-lens')} has no "
            f"adapter for it (it has {len(supported_architectures())} others), and {error}"
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, shards in their index' order."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.is_file():
        try:
            names = list(dict.fromkeys(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelFormatError(f"{index} is not a shard index; download the model again") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ModelFormatError(
                f"{folder} lacks {len(missing)} of its {len(names)} weight files ({missing[0]}); download the model again"
            )
        return [folder / name for name in names]
    if single.is_file():
        return [single]
    pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in folder.glob(pattern))
    if pickles:
        raise ModelFormatError(
            f"{folder} holds its weights only as pickle ({pickles[0]}), which can run any code when it is read; "
            "use a safetensors version, or convert it with model.save_pretrained on a machine that may run that code"
        )
    raise ModelFormatError(
        f"{folder} has a config.json but no weights (model.safetensors); finish the download, or save the model again"
    )


def check_tokenizer(folder: Path) -> None:
    """Raise ModelFormatError for a folder without tokenizer files."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelFormatError(
            f"{folder} holds a model but no tokenizer; save it there with tokenizer.save_pretrained({str(folder)!r})"
        )


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Header of a safetensors file: tensor name -> {dtype, shape, data_offsets}. Raises ModelFormatError if damaged."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if (start + stream.read(len(_LFS_POINTER) - 8)).startswith(_LFS_POINTER):
            raise ModelFormatError(f"{file} is only a git-lfs pointer; run `git lfs pull` in its folder")
        if len(start) < 8:
            raise ModelFormatError(_damaged(file, f"it has {size} bytes"))
        (length,) = struct.unpack("<Q", start)
        if length > min(_HEADER_LIMIT, size - 8):
            raise ModelFormatError(_damaged(file, "its header is longer than the file"))
        stream.seek(8)
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            for entry in header.values():
                math.prod(entry["shape"]), entry["dtype"]
        except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
            raise ModelFormatError(_damaged(file, "its header cannot be read")) from error
    if 8 + length + end != size:
        raise ModelFormatError(_damaged(file, f"it has {size} bytes where its header promises {8 + length + end}"))
    return header


def _damaged(file: Path, how: str) -> str:
    return f"{file} is broken or was cut off: {how}; download it again"


def _not_causal(architecture: str, what: str) -> str:
    return f"{architecture} is {what}; nmri3d scans decoder-only language models, such as {_examples()}"


def _examples() -> str:
    return "GPT-2, GPT-NeoX (Pythia), Llama, Qwen2, Qwen3, Gemma-2, Mistral or Phi-3"


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


def inspect(folder: Path, gguf: str | None, *, trust_remote_code: bool) -> Preflight:
    """Check a checkpoint: a folder of safetensors, or one .gguf file in it. Errors as in `inspect_folder`."""
    if gguf is None:
        return inspect_folder(folder, trust_remote_code=trust_remote_code)
    return inspect_gguf(folder / gguf)


def inspect_gguf(file: Path) -> Preflight:
    """Check a GGUF file; errors as in `inspect_folder`. Reads metadata and the tensors' descriptions only."""
    import gguf
    from transformers import AutoConfig

    with file.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise ModelFormatError(f"{file} is not a GGUF file, or it is broken; download it again")
    if re.search(r"-\d{5}-of-(?!00001)\d{5}\.gguf$", file.name):
        raise ModelFormatError(f"{file} is one of several parts; join them with `llama-gguf-split --merge`")
    try:
        reader = gguf.GGUFReader(file)
        types = Counter[str]()
        for tensor in reader.tensors:
            types[tensor.tensor_type.name] += int(tensor.n_elements)
    except Exception as error:
        raise ModelFormatError(_damaged(file, str(error))) from error
    try:
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except Exception as error:
        raise UnsupportedModelError(
            f"transformers {_version('transformers')} cannot read the GGUF file {file} ({error}); "
            "use the safetensors version of the model"
        ) from error
    architecture, _ = check_architecture(config.to_dict(), file, trust_remote_code=False)
    common = types.most_common(1)[0][0]
    plain = _DTYPES.get(common)
    return Preflight(architecture, types.total(), plain or "float32", quantized="" if plain else common)
