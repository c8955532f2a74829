"""One `.npz` file a result: its arrays, its component table, and one JSON text with all else. Never pickle.

Left out: what the arrays mean; each result knows its own.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.files import written_whole

_COLUMNS = ("kind", "layer", "index", "n_params")


def write_result(
    path: str | os.PathLike[str],
    form: str,
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    components: ComponentTable | None = None,
) -> Path:
    """Write a result whole or not at all; returns the path (suffix `.npz` added if missing). Raises as `packed`."""
    return write_packed(path, packed(form, meta, arrays, components))


def write_packed(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write what `packed` made, whole or not at all; returns the path (suffix `.npz` added if missing)."""
    target = Path(path)
    if target.suffix != ".npz":
        target = target.with_name(target.name + ".npz")
    with written_whole(target) as file:
        file.write(content)
    return target


def packed(
    form: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], components: ComponentTable | None = None
) -> bytes:
    """The bytes of a result's file. Raises InputError for an array that only pickle could save."""
    kept = {name: np.asarray(array) for name, array in arrays.items()}
    if components is not None:
        kept |= {f"components/{name}": getattr(components, name) for name in _COLUMNS}
    for name, array in kept.items():
        if array.dtype.hasobject:
            raise InputError(
                f"{name} holds Python objects, which only pickle could save; give it a numeric or text dtype"
            )
    kept["meta"] = np.frombuffer(json.dumps({"format": form, **meta}).encode(), dtype=np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    return file.getvalue()


def read_result(
    path: str | os.PathLike[str] | bytes, form: str
) -> tuple[dict[str, Any], dict[str, np.ndarray], ComponentTable | None]:
    """The JSON text, the arrays and the component table of a file that `write_result` wrote in this form, or its bytes.

    Raises InputError for a file that is missing, damaged or something else.
    """
    name = "this" if isinstance(path, bytes) else os.fspath(path)
    try:
        with io.BytesIO(path) if isinstance(path, bytes) else open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {key: archive[key] for key in archive.files}
        meta = json.loads(arrays.pop("meta").tobytes())
        found = meta.pop("format", None)
    except FileNotFoundError:
        raise InputError(f"there is no file {name}") from None
    except Exception as error:
        raise InputError(f"{name} is not a result that nmri3d saved, or it is damaged ({error})") from error
    if found != form:
        raise InputError(f"{name} holds {found!r}, not {form!r}; it is another result, or of another version of nmri3d")
    columns = {name: arrays.pop(f"components/{name}") for name in _COLUMNS if f"components/{name}" in arrays}
    return meta, arrays, ComponentTable(**columns) if columns else None
