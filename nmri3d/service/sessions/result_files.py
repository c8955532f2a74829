"""The results of a session: files named by the SHA-256 of their bytes, and the way of bytes onto the disk.

Convention. A file is written beside its place, brought onto the disk, renamed, and the folder brought onto the disk: after
`write_durably` it is there whole, whatever happens. A result is never pickle.

Left out: what a result holds, which `nmri3d.results` knows.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nmri3d.errors import InputError
from nmri3d.files import written_whole
from nmri3d.results import Comparison, Heatmap, Scan, Sweep, open_scan
from nmri3d.results import comparison as comparison_module
from nmri3d.results import heatmap as heatmap_module
from nmri3d.results import scan as scan_module
from nmri3d.results import sweep as sweep_module

Result = Scan | Comparison | Heatmap | Sweep

RESULT_FOLDER = "results"

MOST_UNPACKED = 2 * 2**30
"""Bytes that the arrays of one result's file may say they have when they are unpacked."""

_OPEN: dict[str, Callable[[bytes], Any]] = {
    scan_module.FORMAT: open_scan,
    comparison_module.FORMAT: Comparison.open,
    heatmap_module.FORMAT: Heatmap.open,
    sweep_module.FORMAT: Sweep.open,
}


def is_result_name(name: object) -> bool:
    """Whether it is a hash as `result_name` gives it."""
    return isinstance(name, str) and re.fullmatch(r"[0-9a-f]{64}", name, re.ASCII) is not None


def result_name(content: bytes) -> str:
    """The name of a result's file: the SHA-256 of its bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def result_path(folder: Path, name: str) -> Path:
    """Where a session's folder keeps the result of this name."""
    return folder / RESULT_FOLDER / f"{name}.npz"


def open_result(content: bytes) -> Result:
    """The result that a file's bytes hold. Raises InputError for anything else, pickle among it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MOST_UNPACKED:
            raise ValueError(f"it would unpack to {unpacked:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            form = json.loads(arrays["meta"].tobytes())["format"]
        return _OPEN[form](content)
    except Exception as error:  # whatever a file that is no result makes numpy, zipfile or json raise
        raise InputError(f"a result of this session is damaged, or not one that nmri3d saved ({error})") from error


def write_durably(path: Path, content: bytes) -> None:
    """Write a file whole and bring it onto the disk, its name too. Raises OSError."""
    with written_whole(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder onto the disk, where the system can. Raises OSError."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
