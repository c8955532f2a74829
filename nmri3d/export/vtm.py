"""A scan as a VTK multi-block file (.vtm with its folder of parts), with the raw numbers: opens in ParaView and PyVista.

Convention. Points are mm in RAS. Block "cortex": the whole surface that is shown, unsplit, faces in the atlas' order (of a
layout of balls, those that it draws). A face carries `component` (row of the component table, -1 for none) and
`values` (raw, one number a step, NaN for none); a point of a surface `sulcal_depth` and, as `surface_<name>`, its place
on every other surface of the atlas. Block "tracts": a line an edge that can
be drawn, strongest first, with `score`, `source`, `target` (rows) and `slot`. Field data name the rows: `component_id`,
`kind`, `layer`, `index`, `n_params`; of a scan `tokens`, `units`, `mode` and `provenance` (JSON).

Left out: colors, which the reader's own color maps give; edges without a place on the cortex.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from nmri3d.errors import InputError
from nmri3d.export.facts import scan_facts
from nmri3d.results import Scan, Tracts
from nmri3d.results.tracts import SLOTS

if TYPE_CHECKING:
    import pyvista

    from nmri3d.scene.brain import BrainScene


def save_vtm(scene: BrainScene, path: str | os.PathLike[str], scan: Scan | None = None) -> Path:
    """Write the surface that is shown, its components, and a scan with all its steps; returns the path.

    Two things are written, the file and beside it the folder of the same name without suffix; an older pair of
    that name is replaced when both are whole. Raises InputError for another suffix than .vtm, or within a morph.
    """
    target = Path(path)
    if target.suffix.lower() != ".vtm":
        raise InputError(f"a VTK multi-block file ends in .vtm; name it {target.stem}.vtm")
    blocks = vtm_blocks(scene, scan)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.stem}.{secrets.token_hex(6)}.part")
    part.mkdir()
    try:
        blocks.save(part / target.name)
        folder = target.with_suffix("")
        if folder.is_dir():
            shutil.rmtree(folder)
        os.replace(part / folder.name, folder)
        os.replace(part / target.name, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def vtm_blocks(scene: BrainScene, scan: Scan | None = None) -> pyvista.MultiBlock:
    """The blocks that are written: "cortex", and "tracts" for a scan that has some."""
    import pyvista

    if scene.surface is None:
        raise InputError("the surface is half-way between two; call show_surface first")
    blocks = pyvista.MultiBlock({"cortex": _cortex(scene, scene.surface, scan)})
    if scan is not None and scan.tracts is not None:
        blocks["tracts"] = _tracts(scene, scene.surface, scan.tracts)
    return blocks


def _cortex(scene: BrainScene, shown: str, scan: Scan | None) -> pyvista.PolyData:
    table = scene.atlas.components
    mesh, rows = _balls(scene, shown) if scene.form.kind == "nodes" else _surface(scene, shown)
    mesh.cell_data["component"] = rows
    fields: dict[str, Any] = {
        "component_id": list(table.ids),
        "kind": [str(kind) for kind in table.kind],
        "layer": table.layer,
        "index": table.index,
        "n_params": table.n_params,
        "surface": [shown],
    }
    if scan is not None:
        mesh.cell_data["values"] = _face_values(scan.values, rows)
        facts = scan_facts(scan, 0)
        provenance = json.dumps(facts["provenance"], ensure_ascii=False)
        fields |= {"mode": [scan.mode], "units": [scan.units], "provenance": [provenance]}
        if scan.tokens:
            fields["tokens"] = list(scan.tokens)
            values = mesh.GetCellData().GetArray("values")
            for step, token in enumerate(scan.tokens):
                values.SetComponentName(step, _as_attribute(f"{step} {token}"))
        mesh.set_active_scalars("values", preference="cell")
    else:
        mesh.set_active_scalars("component", preference="cell")
    _add_fields(mesh, fields)
    return mesh


def _surface(scene: BrainScene, shown: str) -> tuple[pyvista.PolyData, np.ndarray]:
    """A surface of the atlas and its faces' component rows, int32."""
    import pyvista

    atlas = scene.atlas
    mesh = pyvista.PolyData.from_regular_faces(_points(atlas.surfaces[shown]), atlas.faces)
    mesh.point_data["sulcal_depth"] = np.asarray(atlas.sulcal_depth, dtype=np.float32)
    for name, points in atlas.surfaces.items():
        if name != shown:
            mesh.point_data[f"surface_{name}"] = np.asarray(points, dtype=np.float32)
    return mesh, np.asarray(atlas.face_component, dtype=np.int32)


def _balls(scene: BrainScene, shown: str) -> tuple[pyvista.PolyData, np.ndarray]:
    """A layout of balls, of the faces that it draws, and their component rows, int32."""
    import pyvista

    form = scene.form_of(shown)
    mesh = pyvista.PolyData.from_regular_faces(_points(form.points), scene.split_faces[form.faces])
    return mesh, np.asarray(scene.face_component[form.faces], dtype=np.int32)


def _points(points: np.ndarray) -> Any:
    """A copy, float32: the mesh keeps what it is given."""
    return np.array(points, dtype=np.float32)


def _face_values(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values [steps, components] of each face, [faces, steps]; NaN, or -1 of whole numbers, where a face has no component."""
    of_face = np.ascontiguousarray(values.T[np.maximum(rows, 0)])
    of_face[rows < 0] = np.nan if of_face.dtype.kind == "f" else -1
    return of_face


def _tracts(scene: BrainScene, shown: str, tracts: Tracts) -> pyvista.PolyData:
    import pyvista

    from nmri3d.scene.tracts import drawable, tract_paths

    edges = drawable(tracts, scene.atlas.components)
    paths, _ = tract_paths(scene.form_of(shown).frame, edges.source, edges.target)
    n, samples = paths.shape[:2]
    mesh = pyvista.PolyData()
    mesh.points = np.ascontiguousarray(paths, dtype=np.float32).reshape(-1, 3)
    numbers = np.arange(n * samples).reshape(n, samples)
    mesh.lines = np.concatenate([np.full((n, 1), samples), numbers], axis=1).ravel()
    mesh.cell_data["source"] = np.asarray(edges.source, dtype=np.int32)
    mesh.cell_data["target"] = np.asarray(edges.target, dtype=np.int32)
    mesh.cell_data["slot"] = np.array([SLOTS.index(slot) for slot in edges.slot.tolist()], dtype=np.uint8)
    mesh.cell_data["score"] = np.asarray(edges.score, dtype=np.float32)
    mesh.set_active_scalars("score", preference="cell")
    _add_fields(
        mesh,
        {
            "component_id": list(scene.atlas.components.ids),
            "slot_name": list(SLOTS),
            "total": np.array([tracts.total]),
            "count": np.array([tracts.count]),
        },
    )
    return mesh


def _add_fields(mesh: pyvista.PolyData, fields: dict[str, Any]) -> None:
    from vtkmodules.vtkCommonCore import vtkStringArray

    for name, values in fields.items():
        if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
            mesh.field_data[name] = values
            continue
        texts = vtkStringArray()  # PyVista takes ASCII only
        texts.SetName(name)
        for value in values:
            texts.InsertNextValue(value.replace("\0", "\\x00"))  # NUL would end it
        mesh.GetFieldData().AddArray(texts)


def _as_attribute(text: str) -> str:
    """A text as it stands in an attribute of XML, into which VTK writes names as they are, quotes and all."""
    seen = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return escape(seen, {'"': "&quot;"})
