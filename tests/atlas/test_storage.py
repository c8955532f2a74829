"""Saving, loading and the cache; damaged files; what a cached atlas costs to open."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmri3d.atlas import Atlas
from nmri3d.atlas import parcels as parcels_module
from nmri3d.atlas.storage import ARRAYS, cache_folder
from nmri3d.errors import InputError
from tests.atlas.tables import Shape, table


def assert_equal(first: Atlas, second: Atlas) -> None:
    for name in ARRAYS:
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
        assert getattr(first, name).dtype == getattr(second, name).dtype
    assert list(first.surfaces) == list(second.surfaces)
    for name in first.surfaces:
        assert np.array_equal(first.surfaces[name], second.surfaces[name])
    assert first.components == second.components
    assert (first.layout, first.n_left_faces, first.n_left_vertices) == (
        second.layout,
        second.n_left_faces,
        second.n_left_vertices,
    )
    assert dict(first.quality) == pytest.approx(dict(second.quality), nan_ok=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    return tmp_path / "atlas"


@pytest.fixture
def builds(monkeypatch):
    """Counts how often an atlas is built."""
    real, calls = parcels_module._build, []
    monkeypatch.setattr(parcels_module, "_build", lambda *args: calls.append(args) or real(*args))
    return calls


def test_what_was_saved_is_loaded(any_atlas, tmp_path):
    path = any_atlas.save(tmp_path / "new" / "atlas.npz")
    assert_equal(any_atlas, Atlas.load(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["atlas.npz"]


def test_second_build_comes_from_the_cache(cache, builds):
    first = Atlas.build(Shape(table(2, 2)))
    second = Atlas.build(Shape(table(2, 2)))
    assert len(builds) == 1
    assert_equal(first, second)
    assert cache_folder() == cache
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    "change", [{"area": "equal"}, {"seed": 1}, {"resolution": "fsaverage6"}, "features", "components", "fingerprint"]
)
def test_whatever_matters_is_in_the_key(cache, builds, change):
    Atlas.build(Shape(table(2, 2)))
    if change == "features":
        Atlas.build(Shape(table(2, 2), seed=1))
    elif change == "components":
        Atlas.build(Shape(table(2, 3)))
    elif change == "fingerprint":
        Atlas.build(_with_fingerprint("abc"))
        Atlas.build(_with_fingerprint("abc"))
        assert len(builds) == 2
        Atlas.build(_with_fingerprint("def"))
        assert len(builds) == 3
        return
    else:
        Atlas.build(Shape(table(2, 2)), **change)
    assert len(builds) == 2


def _with_fingerprint(fingerprint: str) -> Shape:
    class Known(Shape):
        info = types.SimpleNamespace(fingerprint=fingerprint)

    return Known(table(2, 2))


def test_features_are_not_computed_where_the_cache_has_the_atlas(cache):
    Atlas.build(_with_fingerprint("abc"))

    class Slow(Shape):
        info = types.SimpleNamespace(fingerprint="abc")

        def layout_features(self):
            raise AssertionError("computed although the atlas is in the cache")

    assert Atlas.build(Slow(table(2, 2))).quality["n_parcels"] == 8


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "folder"])
def test_a_damaged_cache_is_rebuilt(cache, builds, damage):
    good = Atlas.build(Shape(table(2, 2)))
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "text":
            path.write_text("this is not an atlas")
        case "flipped":
            middle = len(whole) // 2
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
        case "folder":
            path.unlink()
            path.mkdir()
    again = Atlas.build(Shape(table(2, 2)))
    assert len(builds) == 2
    assert_equal(good, again)
    if damage != "folder":
        assert_equal(good, Atlas.load(path))


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch, builds):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("NMRI3D_CACHE", str(blocked))
    for _ in range(2):
        assert Atlas.build(Shape(table(2, 2))).quality["n_parcels"] == 8
    assert len(builds) == 2


@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_an_error_or_changes_nothing(atlases, tmp_path, position, value):
    good = atlases("two layers")
    path = good.save(tmp_path / "atlas.npz")
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] = value
    path.write_bytes(bytes(content))
    try:
        loaded = Atlas.load(path)
    except InputError:
        return
    assert_equal(good, loaded)


def test_arrays_that_do_not_fit_together_are_refused(atlases, tmp_path):
    path = atlases("two layers").save(tmp_path / "atlas.npz")
    with np.load(path) as file:
        content = dict(file)
    broken = {
        "component out of range": {"face_component": content["face_component"] + 100},
        "vertex out of range": {"faces": content["faces"] + np.int32(1)},
        "too short": {"area": content["area"][:-1]},
        "another type": {"sulcal_depth": content["sulcal_depth"].astype(np.float64)},
        "another format": {"meta": np.array('{"format": "nmri3d atlas 99"}')},
    }
    for name, change in broken.items():
        np.savez(path, **(content | change))
        with pytest.raises(InputError, match="not a whole atlas"):
            Atlas.load(path)
        assert name


def test_pickle_is_never_read(tmp_path):
    path = tmp_path / "atlas.npz"
    np.savez(path, meta=np.array([{"format": "nmri3d atlas 1"}], dtype=object))
    with pytest.raises(InputError, match="not a whole atlas"):
        Atlas.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no atlas file .*nowhere\.npz"):
        Atlas.load(tmp_path / "nowhere.npz")


def test_failed_write_leaves_nothing(atlases, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        atlases("two layers").save(tmp_path / "atlas.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_cached_atlas_needs_no_scipy_and_building_no_torch_or_vtk(tmp_path):
    """In fresh processes: what is loaded, by name."""
    script = (
        "import sys\n"
        "from nmri3d.atlas import Atlas\n"
        "from tests.atlas.tables import Shape, table\n"
        "Atlas.build(Shape(table(2, 2)))\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    environment = os.environ | {"NMRI3D_CACHE": str(tmp_path)}
    built, cached = (
        set(
            subprocess.run(
                [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for _ in range(2)
    )
    assert {"scipy", "nibabel"} <= built
    assert not {"torch", "vtk", "vtkmodules", "pyvista", "transformers", "trame", "sklearn"} & built
    assert not {"scipy", "nibabel", "nilearn", "torch", "vtkmodules"} & cached
