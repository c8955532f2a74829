"""Which device and which number format a model is loaded to.

Convention. "auto" prefers CUDA, then Apple's MPS, then the CPU. On the CPU "auto" means float32 whatever the checkpoint
holds: half precision is slow there and rounds. On a GPU it means the checkpoint's own type (float64 becomes float32).

Left out: models spread over several devices; a scan needs every layer at hand.
"""

from __future__ import annotations

import gc
import sys

from nmri3d.errors import InputError, MachineError

DTYPES = ("float32", "float16", "bfloat16")


class OutOfMemory(Exception):
    """A device ran out of memory while a model was being loaded; never leaves `nmri3d.models`."""


def choose(device: str) -> str:
    """Torch device for a wish such as "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises InputError for what is no such device, and MachineError for one that this machine lacks.
    """
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise InputError(f"there is no device {device!r}; choose auto, cpu, cuda, cuda:0 or mps")
    count = {"cpu": 1, "cuda": torch.cuda.device_count() if has_cuda else 0, "mps": int(has_mps)}[kind]
    if int(number or 0) >= count:
        have = "cuda" if has_cuda else "mps" if has_mps else "cpu"
        raise MachineError(f'this machine has no device {device} that torch can use; choose device="{have}" or "auto"')
    return "cpu" if kind == "cpu" else device


def choose_dtype(device: str, dtype: str, stored: str) -> str:
    """Name of the number format in which weights that are stored as `stored` are loaded."""
    if dtype != "auto":
        return dtype
    return stored if device != "cpu" and stored in DTYPES else "float32"


def empty_cache() -> None:
    """Give memory of dropped tensors back to the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch is not None and torch.backends.mps.is_available():
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
