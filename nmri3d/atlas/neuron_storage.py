"""Neuron atlases on disk: one .npz file each, in the folder of the atlases.

Convention. As storage.py: plain arrays and one JSON text, never anything executed; written whole or not at all; whatever is
wrong with a file is one InputError.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import InputError, Nmri3dError
from nmri3d.files import written_whole

FORMAT = "nmri3d neurons 1"

ARRAYS: dict[str, tuple[type, int]] = {
    "image": (np.int32, 2),
    "inside": (np.uint8, 1),
    "component": (np.int32, 1),
    "vertex": (np.int32, 1),
    "coordinates": (np.float32, 2),
}
"""Arrays of a file, their types and dimensions; `inside` is packed, eight texels a byte."""


def save(path: Path, fields: Mapping[str, Any], neurons: ComponentTable) -> Path:
    """Write the fields of a neuron atlas, all or nothing; makes the folder. Raises OSError where it cannot be written."""
    arrays = {name: fields[name] for name in ARRAYS} | {"inside": np.packbits(fields["inside"])}
    meta = {"format": FORMAT, "neurons": neurons.key, "quality": dict(fields["quality"])}
    with written_whole(path) as file:
        np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
    return path


def load(path: Path, neurons: ComponentTable) -> dict[str, Any]:
    """The fields of a neuron atlas. Raises InputError for a file that is none, is damaged, or is of other neurons."""
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["format"] != FORMAT or meta["neurons"] != neurons.key:
                raise InputError(f"{path.name} is of another kind or of other neurons; build it again")
            fields: dict[str, Any] = {name: file[name] for name in ARRAYS}
            fields["quality"] = {str(name): float(value) for name, value in meta["quality"].items()}
        _check(fields, len(neurons))
    except FileNotFoundError:
        raise InputError(f"there is no neuron atlas {path.name}") from None
    except Nmri3dError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{path.name} is not a whole neuron atlas ({type(error).__name__}); build it again") from error
    shape = fields["image"].shape
    fields["inside"] = np.unpackbits(fields["inside"], count=shape[0] * shape[1]).reshape(shape).astype(bool)
    for name in ARRAYS:
        fields[name].setflags(write=False)
    return fields


def _check(fields: Mapping[str, Any], n: int) -> None:
    """Raise ValueError where arrays do not fit together."""
    for name, (dtype, n_dimensions) in ARRAYS.items():
        if fields[name].dtype != dtype or fields[name].ndim != n_dimensions:
            raise ValueError(name)
    image, m = fields["image"], len(fields["vertex"])
    fits = (
        image.size > 0
        and len(fields["inside"]) == -(-image.size // 8)
        and image.min() >= -1
        and image.max() < n
        and m > 0
        and len(fields["component"]) == m
        and fields["coordinates"].shape == (m, 2)
        and fields["vertex"].min() >= 0
        and bool((np.diff(fields["component"]) >= 0).all())
        and bool(np.isfinite(fields["coordinates"]).all())
    )
    if not fits:
        raise ValueError("arrays of different lengths")
