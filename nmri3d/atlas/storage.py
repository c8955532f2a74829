"""Atlases on disk: one .npz file an atlas, and the folder where built ones are kept.

Convention. A file holds plain arrays and one JSON text; nothing in it is ever executed (no pickle). It is written
beside its place and moved there, so that a reader finds a whole file or none. Whatever is wrong with a file is one
InputError. The cache lies in the user's cache folder, or under NMRI3D_CACHE.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.components import ComponentTable
from nmri3d.errors import InputError, Nmri3dError
from nmri3d.files import written_whole

if TYPE_CHECKING:
    from nmri3d.atlas.parcels import Atlas

FORMAT = "nmri3d atlas 2"

ARRAYS: dict[str, tuple[type, int]] = {
    "faces": (np.int32, 2),
    "face_component": (np.int32, 1),
    "sulcal_depth": (np.float32, 1),
    "curvature": (np.float32, 1),
    "target_area": (np.float64, 1),
    "area": (np.float64, 1),
    "body_inner": (np.float32, 2),
}
"""Arrays of an atlas, their types and dimensions."""

_COLUMNS = ("kind", "layer", "index", "n_params")


def cache_folder() -> Path:
    """Where built atlases are kept: NMRI3D_CACHE/atlas if that is set, else the user's cache folder."""
    from platformdirs import user_cache_path

    root = os.environ.get("NMRI3D_CACHE")
    return (Path(root) if root else user_cache_path("nmri3d")) / "atlas"


def save(atlas: Atlas, path: Path) -> Path:
    """Write an atlas, all or nothing; makes the folder. Raises OSError where it cannot be written."""
    meta = {
        "format": FORMAT,
        "layout": atlas.layout,
        "n_left_vertices": atlas.n_left_vertices,
        "n_left_faces": atlas.n_left_faces,
        "quality": dict(atlas.quality),
        "surfaces": list(atlas.surfaces),
        "bodies": [asdict(body) for body in atlas.bodies],
    }
    arrays = {name: getattr(atlas, name) for name in ARRAYS}
    arrays |= {f"surface_{name}": points for name, points in atlas.surfaces.items()}
    arrays |= {f"component_{name}": getattr(atlas.components, name) for name in _COLUMNS}
    arrays["component_kind"] = arrays["component_kind"].astype(np.str_)
    with written_whole(path) as file:
        np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
    return path


def load(path: Path) -> dict[str, Any]:
    """The fields of an atlas. Raises InputError for a file that is none, or that is damaged."""
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["format"] != FORMAT:
                raise InputError(f"{path.name} holds {meta['format']!r}, not {FORMAT!r}; build the atlas again")
            from nmri3d.atlas.parcels import BodyRange  # which imports this file

            fields: dict[str, Any] = {name: file[name] for name in ARRAYS}
            fields["surfaces"] = {name: file[f"surface_{name}"] for name in meta["surfaces"]}
            fields["components"] = ComponentTable(**{name: file[f"component_{name}"] for name in _COLUMNS})
        fields |= {name: meta[name] for name in ("layout", "n_left_vertices", "n_left_faces", "quality")}
        fields["bodies"] = tuple(BodyRange(**body) for body in meta["bodies"])
        _check(fields)
    except FileNotFoundError:
        raise InputError(f"there is no atlas file {path}") from None
    except Nmri3dError as error:
        raise InputError(f"{path.name} is not a whole atlas ({error})") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path.name} is not a whole atlas ({type(error).__name__}); build it again") from error
    for array in (*(fields[name] for name in ARRAYS), *fields["surfaces"].values()):
        array.setflags(write=False)
    return fields


def _check(fields: dict[str, Any]) -> None:
    """Raise ValueError where arrays do not fit together."""
    for name, (dtype, n_dimensions) in ARRAYS.items():
        if fields[name].dtype != dtype or fields[name].ndim != n_dimensions:
            raise ValueError(name)
    n_vertices, n_faces, n = len(fields["sulcal_depth"]), len(fields["faces"]), len(fields["components"])
    faces, component = fields["faces"], fields["face_component"]
    fits = (
        faces.shape == (n_faces, 3)
        and n_faces > 0
        and len(component) == n_faces
        and len(fields["curvature"]) == n_vertices
        and len(fields["area"]) == len(fields["target_area"]) == n
        and all(p.shape == (n_vertices, 3) and p.dtype == np.float32 for p in fields["surfaces"].values())
        and 0 <= fields["n_left_vertices"] <= n_vertices
        and 0 <= fields["n_left_faces"] <= n_faces
        and faces.min() >= 0
        and faces.max() < n_vertices
        and component.min() >= -1
        and component.max() < n
        and _bodies_fit(fields, n_vertices, n_faces)
    )
    if not fits:
        raise ValueError("arrays of different lengths")


def _bodies_fit(fields: dict[str, Any], n_vertices: int, n_faces: int) -> bool:
    """Whether the bodies follow the right hemisphere, one after the other, and have as many inner points as vertices."""
    bodies = fields["bodies"]
    starts = [(fields["n_left_vertices"], fields["n_left_faces"])]
    starts += [(body.first_vertex, body.first_face) for body in bodies]
    ends = [*starts[1:], (n_vertices, n_faces)]
    rising = all(first[0] <= after[0] and first[1] <= after[1] for first, after in zip(starts, ends, strict=True))
    n_inner = n_vertices - bodies[0].first_vertex if bodies else 0
    return rising and fields["body_inner"].shape == (n_inner, 3)
