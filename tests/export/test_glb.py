"""glTF files, read back by a parser of the test's own and by VTK's importer."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from nmri3d.errors import InputError
from nmri3d.export.glb import linear, save_glb
from nmri3d.scene.colors import component_colors, display_range, scan_color_map
from nmri3d.scene.painting import paint_scan
from nmri3d.scene.texture import texture_image


class Document:
    """A .glb file taken apart by the specification's own words (glTF 2.0, section 4)."""

    def __init__(self, content: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON"
        assert size % 4 == 0
        self.json = json.loads(content[20 : 20 + size])
        size_of_buffer, kind = struct.unpack_from("<I4s", content, 20 + size)
        assert kind == b"BIN\0"
        self.buffer = content[28 + size :]
        assert len(self.buffer) == size_of_buffer
        assert 0 <= size_of_buffer - self.json["buffers"][0]["byteLength"] < 4

    def view(self, number: int) -> bytes:
        view = self.json["bufferViews"][number]
        assert view["byteOffset"] % 4 == 0
        return self.buffer[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def array(self, number: int) -> np.ndarray:
        accessor = self.json["accessors"][number]
        kind = {5126: np.float32, 5125: np.uint32}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
        values = np.frombuffer(self.view(accessor["bufferView"]), kind)
        assert len(values) == accessor["count"] * width
        return values if width == 1 else values.reshape(-1, width)

    def shapes(self) -> dict:
        """Name -> (primitive, material) of the nodes of the scene."""
        top = self.json["nodes"][self.json["scenes"][self.json["scene"]]["nodes"][0]]
        result = {}
        for child in top["children"]:
            node = self.json["nodes"][child]
            (primitive,) = self.json["meshes"][node["mesh"]]["primitives"]
            result[node["name"]] = (primitive, self.json["materials"][primitive["material"]])
        return result

    @property
    def matrix(self) -> np.ndarray:
        return np.array(self.json["nodes"][0]["matrix"]).reshape(4, 4).T

    def image(self, number: int) -> np.ndarray:
        with Image.open(io.BytesIO(self.view(self.json["images"][number]["bufferView"]))) as image:
            return np.asarray(image.convert("RGBA"))


def shown(scene, scan, step=0):
    scene.show_form("pial")
    scene.view("lateral_left")
    scene.select(None)
    scene.show_borders(False)
    paint_scan(scene, scan, step, display_range(scan), scan_color_map(scan))


def test_the_painted_cortex_is_in_the_file(scene, scan, tmp_path):
    shown(scene, scan, 1)
    document = Document(save_glb(scene, tmp_path / "brain.glb", scan, 1).read_bytes())
    shapes = document.shapes()
    assert list(shapes) == ["cortex left", "cortex right"]
    colors = component_colors(scan.values[1], display_range(scan), scan_color_map(scan))
    expected = texture_image(colors, scene.layout)
    drawn = 0
    for primitive, material in shapes.values():
        sampler = document.json["samplers"][0]
        assert (sampler["minFilter"], sampler["wrapS"]) == (9729, 33071)  # linear without mipmaps, clamped
        image = document.image(material["pbrMetallicRoughness"]["baseColorTexture"]["index"])
        np.testing.assert_array_equal(image[:, 1::4], expected)
        u, v = document.array(primitive["attributes"]["TEXCOORD_0"]).T.astype(float)
        row = document.array(primitive["attributes"]["_COMPONENT"]).astype(int)
        # what a viewer samples at a vertex: the color of its component, or the grey of what belongs to none
        place = np.floor(v * image.shape[0]).astype(int)
        sampled = image[place, np.floor(u * image.shape[1]).astype(int)]
        grey = {0: (62, 65, 72), 1: (126, 130, 138)}
        for side, shade in ((0, 0.85), (1, 1.0)):
            here = place == side
            painted = np.floor(colors[row[here], :3] * shade + 0.5)
            wanted = np.where(row[here, None] >= 0, painted, grey[side])
            np.testing.assert_array_equal(sampled[here, :3], wanted)
            assert here.sum() > 50
        triangles = document.array(primitive["indices"]).reshape(-1, 3)
        drawn += len(triangles)
        assert triangles.max() == len(row) - 1
        assert (row[triangles] == row[triangles[:, :1]]).all()
        assert "alphaMode" not in material
        normals = document.array(primitive["attributes"]["NORMAL"])
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert drawn == len(scene.split_faces)


def test_points_are_exact_and_meters_with_y_up(scene, scan, tmp_path):
    shown(scene, scan)
    document = Document(save_glb(scene, tmp_path / "brain.glb", scan).read_bytes())
    points = np.concatenate([document.array(p["attributes"]["POSITION"]) for p, _ in document.shapes().values()])
    np.testing.assert_array_equal(np.unique(points, axis=0), np.unique(scene.form_of("pial").points, axis=0))
    matrix = document.matrix
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1e-9)  # no mirror: left stays left
    for anatomical, expected in (((0, 0, 50), (0, 0.05, 0)), ((0, 50, 0), (0, 0, 0.05)), ((-50, 0, 0), (0.05, 0, 0))):
        np.testing.assert_allclose((matrix @ [*anatomical, 1])[:3], expected)
    for primitive, _ in document.shapes().values():
        accessor = document.json["accessors"][primitive["attributes"]["POSITION"]]
        values = document.array(primitive["attributes"]["POSITION"])
        np.testing.assert_array_equal(np.float32(accessor["min"]), values.min(axis=0))
        np.testing.assert_array_equal(np.float32(accessor["max"]), values.max(axis=0))


def test_the_file_says_what_was_measured(scene, scan, tmp_path):
    scan = type(scan)(**(vars(scan) | {"values": np.where(np.arange(11) == 3, np.nan, scan.values)}))
    shown(scene, scan, 2)
    extras = Document(save_glb(scene, tmp_path / "brain.glb", scan, 2).read_bytes()).json["asset"]["extras"]
    assert extras["components"] == list(scan.components.ids)
    assert extras["values"][3] is None
    assert extras["values"][4] == scan.values[2, 4]
    assert extras["units"] == "L2 norm"
    assert extras["provenance"]["fingerprint"] == scan.provenance.fingerprint


def test_tubes_are_colored_and_the_cortex_is_glass(scene, dti, tmp_path):
    shown(scene, dti)
    document = Document(save_glb(scene, tmp_path / "tracts.glb", dti).read_bytes())
    shapes = document.shapes()
    primitive, material = shapes["tracts"]
    assert len(document.array(primitive["indices"])) == 3 * scene.tracts.mesh.n_cells
    colors = np.asarray(scene.tracts.mesh.point_data["Colors"])
    stored = document.array(primitive["attributes"]["COLOR_0"]).astype(float)
    back = np.where(stored <= 0.0031308, 12.92 * stored, 1.055 * stored ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(np.unique(np.round(255 * back), axis=0), np.unique(colors, axis=0), atol=0.6)
    assert material["pbrMetallicRoughness"]["baseColorFactor"] == [1, 1, 1, 1]
    primitive, material = shapes["cortex left"]
    assert material["alphaMode"] == "BLEND"
    assert document.image(0)[..., 3].max() < 255
    scene.show_tracts(None)


def test_marks_are_unlit_and_a_hidden_hemisphere_comes_along(scene, scan, tmp_path):
    shown(scene, scan)
    scene.view("medial_left")
    scene.show_borders(True)
    scene.select(1)
    document = Document(save_glb(scene, tmp_path / "brain.glb", scan).read_bytes())
    shapes = document.shapes()
    assert {"cortex left", "cortex right", "borders", "selection"} <= set(shapes)
    assert "KHR_materials_unlit" in shapes["borders"][1]["extensions"]
    assert document.json["extensionsUsed"] == ["KHR_materials_unlit"]
    glow = shapes["selection"][1]["pbrMetallicRoughness"]["baseColorFactor"]
    np.testing.assert_allclose(glow, [0, 1, linear(np.array(170 / 255)), 1], atol=1e-6)
    assert scene.hemispheres == "left"  # as it was
    scene.select(None)
    scene.show_borders(False)
    scene.view("lateral_left")


def test_vtks_own_reader_draws_the_same_picture(scene, scan, tmp_path):
    import pyvista

    shown(scene, scan)
    path = save_glb(scene, tmp_path / "brain.glb", scan)
    matrix = Document(path.read_bytes()).matrix
    camera = scene.plotter.camera
    reader = pyvista.Plotter(off_screen=True, window_size=(400, 300), lighting="none")
    reader.import_gltf(str(path), set_camera=False)
    for actor in reader.renderer.actors.values():
        actor.GetProperty().LightingOff()
    reader.set_background(pyvista.Color("#0a0c10"))
    reader.enable_anti_aliasing("msaa", multi_samples=8)
    scene.actor.prop.lighting = False
    try:
        expected = scene.screenshot((400, 300)).astype(int)
        scene.stage.fit("lateral_left", (400, 300))
        reader.camera.position = (matrix @ [*camera.GetPosition(), 1])[:3]
        reader.camera.focal_point = (matrix @ [*camera.GetFocalPoint(), 1])[:3]
        reader.camera.up = matrix[:3, :3] @ camera.GetViewUp() * 1000
        reader.camera.view_angle = camera.GetViewAngle()
        reader.renderer.ResetCameraClippingRange()
        read = np.asarray(reader.screenshot(return_img=True)).astype(int)
    finally:
        scene.actor.prop.lighting = True
        reader.close()
    difference = np.abs(read[..., :3] - expected).max(axis=-1)
    assert (expected.max(axis=-1) > 40).mean() > 0.2
    assert (difference > 24).mean() < 0.02  # edges
    assert np.median(difference[expected.max(axis=-1) > 40]) <= 4  # VTK goes by linear light and back


def test_refusals_leave_no_file(scene, scan, tmp_path):
    for name in ("a.gltf", "a.obj", "a"):
        with pytest.raises(InputError, match=r"a\.glb"):
            save_glb(scene, tmp_path / name, scan)
    assert list(tmp_path.iterdir()) == []
