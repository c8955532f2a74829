"""How much memory there is and how much this process holds, in bytes.

RAM that is free means: what the system says can be had without swapping, or what the container's limit (cgroup v2)
leaves, whichever is less. GPU figures are the driver's, for all processes on the device.

Left out: disk, and memory of other processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nmri3d.errors import ModelTooLargeError

_CGROUP = Path("/sys/fs/cgroup")

OVERHEAD = 1.1
"""Allocator slack and the model's own objects, on top of the weights."""

WORKING_BYTES = 300_000_000
"""What a scan may use above the bare forward pass (the budget of a 1,024-token fMRI scan)."""


def memory() -> dict[str, Any]:
    """Memory in bytes: `process` (resident), `free` and `total` RAM, and `gpus`.

    `gpus` lists {name, used, total} for each CUDA device; it is empty without one, and while torch is not loaded.
    """
    import psutil

    free, total = _ram()
    return {"process": psutil.Process().memory_info().rss, "free": free, "total": total, "gpus": _gpus()}


def free_bytes(device: str) -> int:
    """Bytes that can still be had on a torch device ("cpu", "cuda", "cuda:1", "mps")."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return _ram()[0]  # Apple's GPUs share the RAM


def bytes_needed(n_params: int, dtype: str) -> int:
    """Bytes to hold and scan a model of so many parameters in this dtype."""
    size = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}[dtype]
    return int(n_params * size * OVERHEAD) + WORKING_BYTES


def check_fits(title: str, n_params: int, dtype: str, device: str) -> None:
    """Raise ModelTooLargeError, with the size needed and the size free, where a model does not fit on the device."""
    needed, free = bytes_needed(n_params, dtype), free_bytes(device)
    if needed > free:
        raise ModelTooLargeError(too_large(title, n_params, dtype, device), needed=needed, free=free)


def too_large(title: str, n_params: int, dtype: str, device: str) -> str:
    """The sentence for a model that does not fit."""
    place = "RAM" if device == "cpu" else f"the memory of {device}"
    remedy = "choose a smaller model, or free some memory"
    if dtype in ("float32", "float64"):
        remedy += f' (dtype="bfloat16" needs {human_bytes(bytes_needed(n_params, "bfloat16"))})'
    return (
        f"{title} ({n_params:,} parameters in {dtype}) needs {human_bytes(bytes_needed(n_params, dtype))} of {place} and "
        f"{human_bytes(free_bytes(device))} are free; {remedy}"
    )


def human_bytes(count: float) -> str:
    """A size for people: 538 MB, 2.7 GB (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _ram() -> tuple[int, int]:
    """Free and total RAM in bytes, the container's limit included."""
    import psutil

    machine = psutil.virtual_memory()
    free, total = machine.available, machine.total
    try:
        limit = int((_CGROUP / "memory.max").read_text())  # "max" where there is no limit
        used = int((_CGROUP / "memory.current").read_text())
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        # file pages count as used but are given back on demand
        used -= int(cached.get("inactive_file", 0)) + int(cached.get("active_file", 0))
        free, total = min(free, limit - used), min(total, limit)
    except (OSError, ValueError):
        pass
    return max(0, free), total


def _gpus() -> list[dict[str, Any]]:
    torch = sys.modules.get("torch")  # a question about memory must not cost the import of torch
    if torch is None or not torch.cuda.is_available():
        return []
    devices = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        devices.append({"name": torch.cuda.get_device_name(number), "used": total - free, "total": total})
    return devices
