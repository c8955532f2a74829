"""Which edges are drawn, how wide, in which color, and where their paths run."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmri3d.errors import InputError
from nmri3d.results import Tracts
from nmri3d.scene import tracts as module
from nmri3d.scene.colors import color_map
from nmri3d.scene.tracts import (
    FIRST_TUBES,
    MOST_TUBES,
    SAMPLES,
    THICKEST,
    THINNEST,
    TractStyle,
    blended_frame,
    carried_share,
    chosen_edges,
    drawable,
    placed,
    reference_score,
    sign_colors,
    tract_frame,
    tract_paths,
    tract_rules,
    tube_colors,
    tube_radius,
)
from tests.scene.small_atlas import BIAS, GEOMETRY, LEFT_CAP, RIGHT_CAP, small_table
from tests.scene.small_tracts import EDGES, random_tracts, small_tracts
from tests.scene.test_colors import DEFICIENCIES

COMPONENTS = small_table()
CORTICAL = [row for row in range(11) if row != BIAS]


# --- which -----------------------------------------------------------------------------------------------------------


def test_an_edge_is_drawn_if_both_its_ends_have_a_place_and_its_score_is_measured():
    tracts = small_tracts()
    np.testing.assert_array_equal(placed(tracts, COMPONENTS), [source != BIAS for source, *_ in EDGES])
    edges = drawable(tracts, COMPONENTS)
    assert edges.score.tolist() == pytest.approx([2.0, -1.0, 0.5, -0.25, 0.1, 0.05])
    assert (edges.total, edges.count) == (8.0, 90)
    for unmeasured in (0.0, np.nan, np.inf):
        score = tracts.score.copy()
        score[1] = unmeasured
        left = drawable(Tracts(tracts.source, tracts.target, tracts.slot, score, 8.0, 90), COMPONENTS)
        assert left.score.tolist() == pytest.approx([2.0, 0.5, -0.25, 0.1, 0.05])


def test_edges_come_strongest_first_whatever_their_order_and_never_too_many():
    tracts = random_tracts(COMPONENTS, MOST_TUBES + 50)
    shuffled = np.random.default_rng(1).permutation(len(tracts))
    mixed = Tracts(*(getattr(tracts, part)[shuffled] for part in ("source", "target", "slot", "score")), 1e4, 10**5)
    edges = drawable(mixed, COMPONENTS)
    assert len(edges) == MOST_TUBES
    np.testing.assert_array_equal(np.abs(edges.score), np.sort(np.abs(tracts.score))[::-1][:MOST_TUBES])


def test_a_share_keeps_the_fewest_edges_that_carry_it():
    edges = drawable(small_tracts(total=4.0), COMPONENTS)  # |scores| 2, 1, 0.5, 0.25, 0.1, 0.05 of a total of 4
    for share, expected in ((0.0, 0), (0.01, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 6)):
        assert len(chosen_edges(edges, share)) == expected, share
    assert carried_share(edges, chosen_edges(edges, 0.51)) == pytest.approx(0.75)
    assert np.isnan(carried_share(drawable(small_tracts(total=0.0), COMPONENTS), np.array([0])))


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_edges(a, b):
    edges = drawable(random_tracts(COMPONENTS, 60), COMPONENTS)
    small, large = (chosen_edges(edges, share).tolist() for share in sorted((a, b)))
    assert large[: len(small)] == small


def test_a_component_shows_its_own_edges_in_and_out():
    edges = drawable(small_tracts(), COMPONENTS)
    for row in range(11):
        expected = [i for i in range(len(edges)) if row in (edges.source[i], edges.target[i])]
        assert chosen_edges(edges, row=row).tolist() == expected
    assert chosen_edges(edges, share=0.3, row=8).tolist() == []  # only edges 0 and 1 carry so much
    assert chosen_edges(edges, row=8).tolist() == [2, 3]


def test_at_first_only_the_strongest_are_drawn():
    edges = drawable(random_tracts(COMPONENTS, 2 * FIRST_TUBES), COMPONENTS)
    np.testing.assert_array_equal(chosen_edges(edges), np.arange(FIRST_TUBES))


@pytest.mark.parametrize("wrong", [{"share": 1.1}, {"share": -0.1}, {"colors": "rainbow"}, {"reference": 0.0}])
def test_a_style_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        TractStyle(**wrong)


# --- widths ----------------------------------------------------------------------------------------------------------


def test_width_grows_with_the_size_of_the_score_and_the_smallest_stays_visible():
    score = np.linspace(0, 3, 200)
    radius = tube_radius(score, 3.0)
    assert np.all(np.diff(radius) > 0)
    assert radius[0] == pytest.approx(THINNEST)
    assert radius[-1] == pytest.approx(THICKEST)
    np.testing.assert_array_equal(tube_radius(-score, 3.0), radius)
    area = np.square(radius.astype(float))
    np.testing.assert_allclose(np.diff(area), np.diff(area)[0], rtol=1e-3)  # the cross-section is what is proportional
    assert tube_radius(np.array([9.0]), 3.0)[0] == pytest.approx(THICKEST)
    assert tube_radius(np.array([0.0, 1.0]), 0.0).tolist() == pytest.approx([THINNEST, THINNEST])


def test_the_reference_is_the_largest_kept_score():
    assert reference_score(small_tracts()) == 2.0
    assert reference_score(drawable(small_tracts(), COMPONENTS).pruned(0.0)) == 0.0


# --- colors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["standard", "colorblind"])
def test_signs_have_the_hues_of_the_parcels(variant):
    negative, positive = sign_colors(variant)
    table = color_map("DTI", variant).table
    assert any((negative == color).all() for color in table[:100])
    assert any((positive == color).all() for color in table[-100:])
    tangents = np.tile([1.0, 0.0, 0.0], (2, SAMPLES, 1))
    painted = tube_colors(np.array([-0.1, 5.0]), tangents, TractStyle(variant=variant))
    assert (painted[0] == negative).all()
    assert (painted[1] == positive).all()


@pytest.mark.parametrize("variant", ["standard", "colorblind"])
@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_signs_are_told_apart_by_everybody(variant, deficiency):
    linear = (sign_colors(variant) / 255.0) ** 2.2
    if deficiency:
        linear = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    seen = 255 * linear ** (1 / 2.2)
    assert np.abs(seen[0] - seen[1]).max() > 60


def test_directions_are_red_green_and_blue_either_way_along_an_axis():
    for axis in range(3):
        tangents = np.zeros((2, SAMPLES, 3))
        tangents[0, :, axis], tangents[1, :, axis] = 1, -1
        colors = tube_colors(np.ones(2), tangents, TractStyle(colors="direction"))
        assert (colors[0] == colors[1]).all()
        assert colors[0, 0].argmax() == axis
    mixed = np.tile(np.array([1.0, 1.0, 0.0]) / np.sqrt(2), (1, SAMPLES, 1))
    red, green, blue = tube_colors(np.ones(1), mixed, TractStyle(colors="direction"))[0, 0].astype(int)
    assert min(red, green) > 2 * blue  # yellow


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", GEOMETRY)
def test_a_frame_starts_on_the_parcels_and_points_inwards(atlas, surface):
    frame = tract_frame(atlas, surface)
    radius, shift = GEOMETRY[surface]
    for row in range(11):
        if row == BIAS:
            assert frame.side[row] == -1
            assert np.isnan(frame.anchor[row]).all()
            continue
        faces = atlas.faces[atlas.face_component == row]
        assert atlas.center_vertex[row] in faces
        center = np.array([shift if frame.side[row] else -shift, 0, 0])
        np.testing.assert_allclose(np.linalg.norm(frame.anchor[row] - center), radius, rtol=1e-4)
        assert np.linalg.norm(frame.inward[row]) == pytest.approx(1, abs=1e-5)
        assert np.dot(frame.inward[row], center - frame.anchor[row]) > 0
    np.testing.assert_allclose(frame.inward[LEFT_CAP], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(frame.core, [[-shift, 0, 0], [shift, 0, 0]], atol=0.5)
    # the medial walls are the caps that face each other
    assert frame.gate[0, 0] > -shift + 0.85 * radius - 1
    assert frame.gate[1, 0] < shift - 0.85 * radius + 1


def test_paths_leave_and_arrive_along_the_inward_normals(atlas):
    frame = tract_frame(atlas, "pial")
    pairs = np.array([(a, b) for a in CORTICAL for b in CORTICAL if a != b])
    points, tangents = tract_paths(frame, pairs[:, 0], pairs[:, 1])
    assert points.shape == tangents.shape == (len(pairs), SAMPLES, 3)
    assert np.isfinite(points).all()
    np.testing.assert_allclose(points[:, 0], frame.anchor[pairs[:, 0]], atol=1e-4)
    np.testing.assert_allclose(points[:, -1], frame.anchor[pairs[:, 1]], atol=1e-4)
    np.testing.assert_allclose(tangents[:, 0], frame.inward[pairs[:, 0]], atol=1e-4)
    np.testing.assert_allclose(tangents[:, -1], -frame.inward[pairs[:, 1]], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=2), 1, atol=1e-5)
    chord = points[:, 2:] - points[:, :-2]
    turned = np.einsum("esx,esx->es", chord, tangents[:, 1:-1]) / np.linalg.norm(chord, axis=2)
    assert turned.min() > 0.9  # the tangents are those of the points


def test_paths_run_inside_and_cross_at_the_medial_walls(atlas):
    frame = tract_frame(atlas, "pial")
    radius, shift = GEOMETRY["pial"]
    points, _ = tract_paths(frame, np.array([1, LEFT_CAP]), np.array([4, RIGHT_CAP]))
    assert np.linalg.norm(points[0] - [-shift, 0, 0], axis=1).max() <= radius + 1e-3
    assert np.linalg.norm(points[0, SAMPLES // 2] - [-shift, 0, 0]) < 0.75 * radius  # bends through the white matter
    crossing = points[1, np.abs(points[1, :, 0]).argmin()]
    assert np.linalg.norm(crossing[1:]) < 0.3 * radius


def test_a_morph_moves_the_ends_along(atlas):
    pial, inflated = tract_frame(atlas, "pial"), tract_frame(atlas, "inflated")
    half = blended_frame(pial, inflated, 0.5)
    np.testing.assert_allclose(
        half.anchor[CORTICAL], (pial.anchor[CORTICAL] + inflated.anchor[CORTICAL]) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(half.inward[CORTICAL], axis=1), 1, rtol=1e-5)


def test_an_unknown_surface_is_refused(atlas):
    with pytest.raises(InputError, match="pial"):
        tract_frame(atlas, "round")


def test_the_browser_is_told_every_number():
    rules = tract_rules()
    value, slope = np.array(rules["value"]), np.array(rules["slope"])
    np.testing.assert_allclose(value.sum(axis=1), 1, atol=1e-12)  # B-splines are a partition of unity
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-9)
    steps = np.linspace(0, module._KNOTS - 3, SAMPLES)
    np.testing.assert_allclose(np.gradient(value, steps, axis=0)[3:-3], slope[3:-3], atol=0.05)
    assert rules["sign_colors"]["standard"] == sign_colors("standard").tolist()
