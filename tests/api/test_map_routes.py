"""GET /api/map: the atlas that is built here of the same model, and words where there is nothing to draw with."""

from __future__ import annotations

import io
import math
import typing

import numpy as np
import pytest
from starlette.testclient import TestClient

import nmri3d
from nmri3d.api import Security, create_app
from nmri3d.api.routes import exports, maps
from nmri3d.app.exporting import Exporter
from nmri3d.atlas import AREAS, LAYOUTS, NODE_LAYOUTS, SURFACES
from nmri3d.scene.camera import VIEWS
from nmri3d.template import SOURCES, layout_features
from tests.api.tiny_app import ADDRESS, tiny_app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with tiny_app(tmp_path_factory.mktemp("maps")) as app:
        security = Security.for_address("127.0.0.1", 8765, token="")
        app.app = create_app(app.service, security=security, store=app.store, picturing=Exporter(app.service))
        app.without = app.client
        app.client = TestClient(app.app, base_url=ADDRESS)
        yield app


def test_what_is_on_offer_is_what_there_is():
    assert typing.get_args(maps.Layout) == LAYOUTS
    assert typing.get_args(maps.Area) == AREAS
    assert typing.get_args(maps.Features) == SOURCES
    assert typing.get_args(maps.Surface) == SURFACES
    assert typing.get_args(exports.View) == tuple(VIEWS)
    assert {name for part in typing.get_args(exports.Form) for name in typing.get_args(part)} == {
        *SURFACES,
        *NODE_LAYOUTS,
    }


@pytest.mark.parametrize(
    ("choices", "surface"),
    [
        ({}, "pial"),
        ({"layout": "spectral", "area": "equal"}, "flat"),
        ({"features": "functional"}, "inflated"),
    ],
)
def test_a_map_is_the_atlas_that_is_built_here(tiny, choices, surface):
    options = dict(choices)
    features = layout_features(tiny.copy, options.pop("features", "weights"))
    atlas = nmri3d.Atlas.build(tiny.copy, **options, features=features)
    body = tiny.ok("GET", "/api/map", params={**choices, "surface": surface})
    expected = {
        "vertices": atlas.surfaces[surface],
        "faces": atlas.faces,
        "face_component": atlas.face_component,
        "sulcal_depth": atlas.sulcal_depth,
        "target_area": atlas.target_area,
        "area": atlas.area,
    }
    for name, array in expected.items():
        found = np.load(io.BytesIO(tiny.client.get(body[name]["data_url"]).content))
        np.testing.assert_array_equal(found, array, err_msg=name)
        assert body[name]["dims"] == list(maps.DIMS[name])
    assert body["area"]["data"] == atlas.area.tolist()
    assert body["components"] == list(tiny.copy.components.ids)
    assert body["quality"].keys() == atlas.quality.keys()
    for name, value in atlas.quality.items():
        assert body["quality"][name] == (value if math.isfinite(value) else None), name
    assert (body["layout"], body["surface"]) == (options.get("layout", "anatomical"), surface)


def test_maps_of_two_choices_have_two_addresses(tiny):
    found = [
        tiny.ok("GET", "/api/map", params={"surface": surface})["vertices"]["data_url"]
        for surface in ("pial", "white", "pial")
    ]
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("name", ["layout", "area", "features", "surface"])
def test_a_choice_that_is_not_on_offer_is_refused(tiny, name):
    for value in ("stack", "", "../pial", "PIAL"):
        assert f"{name}: " in tiny.refused("GET", "/api/map", params={name: value})


def test_a_server_that_does_not_draw_says_so(tiny):
    for method, path, body in (("GET", "/api/map", None), ("POST", "/api/export", {"format": "png", "mode": "T1"})):
        answer = tiny.without.request(method, path, json=body)
        assert answer.status_code == 404
        assert "start it by `nmri3d serve`" in answer.json()["detail"]
