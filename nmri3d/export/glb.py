"""A scene as one binary glTF 2.0 file (.glb): opens in 3D viewers, Blender, PowerPoint and VR headsets.

Convention. Meters, Y up, the front of the brain to +Z, as glTF asks: a point (x, y, z) mm in RAS becomes
(-x, z, y) / 1000. The points themselves stay mm in RAS; one node above all carries the change, so that anatomical
coordinates can be read back exactly. The cortex keeps its small texture, one column a component (scene/texture.py), not
smeared by mipmaps: columns are repeated, and the sampler asks for none. Colors a point are linear, as glTF defines them.
A point of the cortex carries its component's row as `_COMPONENT`; the `extras` of the file's `asset` name the rows, the
values, the unit and what was scanned.

Left out: cameras and lights, which viewers bring; other steps than the one that is painted.
"""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.errors import InputError
from nmri3d.export.shapes import Shape, drawn_shapes
from nmri3d.files import written_whole
from nmri3d.results import Scan

if TYPE_CHECKING:
    from nmri3d.scene.brain import BrainScene

TO_GLTF = (  # columns of the node's matrix: mm in RAS to meters with Y up
    *(-0.001, 0.0, 0.0, 0.0),
    *(0.0, 0.0, 0.001, 0.0),
    *(0.0, 0.001, 0.0, 0.0),
    *(0.0, 0.0, 0.0, 1.0),
)
ROUGHNESS = 0.85
COLUMN = 4
"""Pixels of a texture column in the file, so that a viewer's own mipmaps do not mix neighbors at once."""
_FLOAT, _UINT32 = 5126, 5125
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_LINEAR, _CLAMP = 9729, 33071
_WIDEST = 8192


def save_glb(scene: BrainScene, path: str | os.PathLike[str], scan: Scan | None = None, step: int = 0) -> Path:
    """Write what the scene shows, both hemispheres, whole or not at all; returns the path.

    scan, step: what is painted, for the file's own description. Raises InputError for another suffix than .glb.
    """
    target = Path(path)
    if target.suffix.lower() != ".glb":
        raise InputError(f"a glTF scene is written as one binary file; name it {target.stem}.glb")
    content = glb_bytes(scene, scan, step)
    with written_whole(target) as file:
        file.write(content)
    return target


def glb_bytes(scene: BrainScene, scan: Scan | None = None, step: int = 0) -> bytes:
    """The content of the file."""
    from nmri3d.export.facts import scan_facts

    drawn = drawn_shapes(scene, both=True)
    writer = _Writer()
    for name, image in drawn.textures.items():
        writer.add_texture(name, image)
    children = [writer.add_shape(shape) for shape in drawn.shapes]
    facts: dict[str, Any] = {"surface": scene.surface, "points": "mm in RAS, below the node's matrix"}
    facts |= {"components": list(scene.atlas.components.ids)}
    if scan is not None:
        facts |= scan_facts(scan, step)
    return writer.finish(children, facts)


class _Writer:
    """A glTF document under way, and its one buffer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []
        self._materials: list[dict[str, Any]] = []
        self._meshes: list[dict[str, Any]] = []
        self._nodes: list[dict[str, Any]] = [{}]  # the first is the one above all
        self._images: list[dict[str, Any]] = []
        self._texture_of: dict[str, int] = {}

    def add_texture(self, name: str, image: np.ndarray) -> None:
        repeat = max(1, min(COLUMN, _WIDEST // image.shape[1]))
        # v = 0 is the first row of a glTF image, as it is of ours
        view = self._add_view(_png(np.repeat(image, repeat, axis=1)), None)
        self._images.append({"name": name, "mimeType": "image/png", "bufferView": view})
        self._texture_of[name] = len(self._images) - 1

    def add_shape(self, shape: Shape) -> int:
        """The number of its node."""
        attributes = {"POSITION": self._add_array(shape.points, bounds=True)}
        if shape.normals is not None:
            attributes["NORMAL"] = self._add_array(shape.normals)
        if shape.texture_coordinates is not None:
            attributes["TEXCOORD_0"] = self._add_array(shape.texture_coordinates)
        if shape.colors is not None:
            attributes["COLOR_0"] = self._add_array(linear(shape.colors / 255.0).astype(np.float32))
        if shape.component is not None:
            attributes["_COMPONENT"] = self._add_array(shape.component.astype(np.float32))
        primitive = {
            "attributes": attributes,
            "indices": self._add_array(shape.triangles.ravel(), element=True),
            "material": self._add_material(shape),
        }
        self._meshes.append({"name": shape.name, "primitives": [primitive]})
        self._nodes.append({"name": shape.name, "mesh": len(self._meshes) - 1})
        return len(self._nodes) - 1

    def finish(self, children: list[int], facts: dict[str, Any]) -> bytes:
        self._nodes[0] = {"name": "brain", "matrix": list(TO_GLTF), "children": children}
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "nmri3d", "extras": facts},
            "scene": 0,
            "scenes": [{"name": "Neural MRI 3D", "nodes": [0]}],
            "nodes": self._nodes,
            "meshes": self._meshes,
            "materials": self._materials,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self._buffer)}],
        }
        if self._images:
            document["images"] = self._images
            document["samplers"] = [{"magFilter": _LINEAR, "minFilter": _LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP}]
            document["textures"] = [{"sampler": 0, "source": number} for number in range(len(self._images))]
        if any("extensions" in material for material in self._materials):
            document["extensionsUsed"] = ["KHR_materials_unlit"]
        return _container(json.dumps(document, ensure_ascii=False, allow_nan=False).encode(), bytes(self._buffer))

    def _add_material(self, shape: Shape) -> int:
        surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS}
        surface["baseColorFactor"] = [*linear(np.array(shape.color[:3])).tolist(), shape.color[3]]
        if shape.texture:
            surface["baseColorTexture"] = {"index": self._texture_of[shape.texture]}
        material: dict[str, Any] = {"name": shape.name, "pbrMetallicRoughness": surface, "doubleSided": True}
        if shape.translucent:
            material["alphaMode"] = "BLEND"
        if not shape.lit:
            material["extensions"] = {"KHR_materials_unlit": {}}
        self._materials.append(material)
        return len(self._materials) - 1

    def _add_array(self, array: np.ndarray, *, bounds: bool = False, element: bool = False) -> int:
        array = np.ascontiguousarray(array)
        kinds = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
        width = 1 if array.ndim == 1 else array.shape[1]
        accessor: dict[str, Any] = {
            "bufferView": self._add_view(array.tobytes(), _ELEMENT_BUFFER if element else _ARRAY_BUFFER),
            "componentType": _UINT32 if element else _FLOAT,
            "count": len(array),
            "type": kinds[width],
        }
        if bounds:
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def _add_view(self, content: bytes, target: int | None) -> int:
        self._buffer += bytes(-len(self._buffer) % 4)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._buffer), "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        self._buffer += content
        self._views.append(view)
        return len(self._views) - 1


def linear(color: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 to linear light (IEC 61966-2-1)."""
    color = np.asarray(color, dtype=np.float64)
    result: np.ndarray = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return result


def _png(image: np.ndarray) -> bytes:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    return buffer.getvalue()


def _container(document: bytes, buffer: bytes) -> bytes:
    document += b" " * (-len(document) % 4)
    buffer += bytes(-len(buffer) % 4)
    total = 12 + 8 + len(document) + 8 + len(buffer)
    head = struct.pack("<4sII", b"glTF", 2, total)
    return b"".join(
        [
            head,
            struct.pack("<I4s", len(document), b"JSON"),
            document,
            struct.pack("<I4s", len(buffer), b"BIN\0"),
            buffer,
        ]
    )
