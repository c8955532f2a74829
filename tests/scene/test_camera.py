"""Fitting a brain into a picture, and the letters at its edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.scene.camera import VIEW_ANGLE, VIEWS, fit, orientation_letters


@given(st.sampled_from(sorted(VIEWS)), st.floats(0.2, 5.0), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_all_points_fit_and_none_is_wasted(name, aspect, seed):
    rng = np.random.default_rng(seed)
    # As thick as brains are: of a needle that points at the camera, the tip itself is the place from which the rest just fits.
    points = rng.normal(size=(200, 3)) * rng.uniform(25, 90, size=3) + rng.normal(size=3) * 50
    side, up = np.array(VIEWS[name].side), np.array(VIEWS[name].up)
    focal_point, position = fit(points, side, up, aspect=aspect, margin=1.0)
    forward = (focal_point - position) / np.linalg.norm(focal_point - position)
    np.testing.assert_allclose(forward, -side, atol=1e-9)
    right = np.cross(forward, up)
    depth = (points - position) @ forward
    tangent = math.tan(math.radians(VIEW_ANGLE / 2))
    across = np.abs((points - position) @ right) / (depth * tangent * aspect)
    along = np.abs((points - position) @ up) / (depth * tangent)
    assert depth.min() > 0
    assert max(across.max(), along.max()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("lateral_left", "SIAP"),
        ("lateral_right", "SIPA"),
        ("medial_left", "SIPA"),
        ("medial_right", "SIAP"),
        ("dorsal", "APLR"),
        ("ventral", "APRL"),
        ("anterior", "SIRL"),
        ("posterior", "SILR"),
    ],
)
def test_letters_of_the_presets(name, letters):
    view = VIEWS[name]
    found = orientation_letters(100 * np.array(view.side), np.zeros(3), np.array(view.up))
    assert "".join(found[edge] for edge in ("top", "bottom", "left", "right")) == letters


def test_letters_of_an_oblique_camera_name_the_nearest_axes():
    found = orientation_letters(np.array([-100.0, 30.0, 20.0]), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    assert found == {"top": "S", "bottom": "I", "left": "A", "right": "P"}
