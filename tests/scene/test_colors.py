"""Color maps and display ranges: known answers, and what must hold for every range."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.errors import AlignmentError, InputError
from nmri3d.results import MODES, Provenance, Scan
from nmri3d.scene.colors import (
    ColorMap,
    DisplayRange,
    color_map,
    component_colors,
    display_range,
    scan_color_map,
    strengths,
)
from tests.scene.small_atlas import BIAS, small_table

# Machado, Oliveira, Fernandes 2009, severity 1, for linear RGB
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
SEQUENTIAL = ("T1", "T2", "fMRI", "FLAIR")


def lightness(table: np.ndarray, deficiency: str | None = None) -> np.ndarray:
    """CIE L* [n]: another measure of lightness than the one that the maps are built with."""
    srgb = table / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if deficiency:
        linear = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(luminance) - 16


def scan_of(values, mode="fMRI", signed=False) -> Scan:
    values = np.atleast_2d(np.asarray(values))
    tokens = tuple(f"t{i}" for i in range(len(values))) if len(values) > 1 else ()
    return Scan(mode, values, "units", small_table(), tokens, Provenance("tiny", "0" * 64), signed=signed)


@pytest.mark.parametrize("mode", ["T1", "T2", "fMRI"])
def test_standard_maps_grow_lighter_in_even_steps(mode):
    light = lightness(color_map(mode).table)
    assert light[-1] - light[0] > 45
    smooth = np.convolve(np.diff(light), np.ones(16) / 16, mode="valid")  # 8-bit rounding hides in a window of 16
    assert smooth.min() > 0.4 * smooth.mean()
    assert smooth.max() < 1.8 * smooth.mean()


@pytest.mark.parametrize("variant", ["standard", "colorblind"])
def test_what_is_usual_for_the_template_stays_dark(variant):
    table = color_map("FLAIR", variant).table
    light = lightness(table)
    assert np.diff(light[::8]).min() > 0  # still, more is lighter
    assert light[128] < light[0] + 0.3 * (light[-1] - light[0])
    assert light[230] > light[0] + 0.6 * (light[-1] - light[0])


@pytest.mark.parametrize("mode", SEQUENTIAL)
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colorblind_maps_keep_their_order_under_color_blindness(mode, deficiency):
    light = lightness(color_map(mode, "colorblind").table, deficiency)
    assert light[-1] - light[0] > 40
    assert np.diff(light[::8]).min() > 0


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_signs_differ_in_hue_and_zero_is_darkest(deficiency):
    table = color_map("DTI", "colorblind").table
    light = lightness(table, deficiency)
    assert 120 <= int(np.argmin(light)) <= 135
    assert abs(light[10] - light[-11]) < 15
    below, above = table[10].astype(int), table[-11].astype(int)
    assert below[2] - below[0] > 60  # blue
    assert above[0] - above[2] > 60  # orange


def test_console_colors_are_on_their_maps():
    def distance(mode, color):
        return np.abs(color_map(mode).table.astype(int) - color).sum(axis=1).min()

    assert distance("T1", [0x88, 0x99, 0xAA]) < 12
    assert distance("T2", [0x44, 0x88, 0xCC]) < 12
    assert distance("fMRI", [0x1A, 0x2A, 0x5A]) < 12
    assert distance("fMRI", [0xFF, 0x44, 0x20]) < 24
    assert distance("FLAIR", [0xFF, 0x44, 0x66]) < 24
    assert distance("DTI", [0x44, 0xDD, 0xAA]) < 12
    assert distance("DTI", [0x88, 0x66, 0xFF]) < 24


@pytest.mark.parametrize(
    ("mode", "signed", "expected"),
    [
        ("fMRI", False, "fMRI"),
        ("fMRI", True, "DTI"),
        ("DTI", True, "DTI"),
        ("T2", True, "T2"),
        ("FLAIR", False, "FLAIR"),
    ],
)
def test_signed_changes_take_the_map_of_signs(mode, signed, expected):
    scan = scan_of(np.ones((1, 11)), mode, signed)
    for variant in ("standard", "colorblind"):
        assert scan_color_map(scan, variant).name == color_map(expected, variant).name


def test_every_mode_has_both_variants_and_others_are_refused():
    for mode in MODES:
        assert color_map(mode).table.shape == (256, 3)
        assert color_map(mode, "colorblind").table.shape == (256, 3)
    with pytest.raises(InputError, match="T1, T2, fMRI"):
        color_map("PET")
    with pytest.raises(InputError, match="standard, colorblind"):
        color_map("T1", "pretty")
    with pytest.raises(AlignmentError):
        ColorMap("short", np.zeros((3, 3)))


def test_heavy_tails_take_a_log_bar_and_even_values_a_linear_one():
    rng = np.random.default_rng(0)
    heavy = np.exp(2 * rng.normal(size=(40, 11)))
    even = 5 + rng.normal(size=(40, 11))
    assert display_range(scan_of(heavy)).scale == "log"
    assert display_range(scan_of(even)).scale == "linear"
    assert display_range(scan_of(heavy, mode="T2")).scale == "linear"
    assert display_range(scan_of(even, mode="T1")).scale == "log"


def test_the_range_is_the_2nd_to_98th_percentile_of_cortical_values_after_the_first_step():
    rng = np.random.default_rng(1)
    values = 10 + rng.normal(size=(50, 11))
    values[0, 3] = 4000.0  # the first token's sink
    values[:, BIAS] = 1e6  # has no place on the cortex
    values[7, 2] = np.nan
    display = display_range(scan_of(values))
    pool = sorted(float(v) for row in values[1:] for c, v in enumerate(row) if c != BIAS and v == v)
    low, high = np.percentile(pool, [2, 98])
    assert (display.vmin, display.vmax) == (pytest.approx(low), pytest.approx(high))
    every = [float(v) for row in values for c, v in enumerate(row) if c != BIAS]
    assert display.n_below == sum(v < display.vmin for v in every)
    assert display.n_above == sum(v > display.vmax for v in every) > sum(v > display.vmax for v in pool)


def test_a_single_step_is_kept_and_sinks_can_be_counted():
    one = display_range(scan_of(np.linspace(1, 2, 11)))
    assert one.vmax > 1.9
    values = np.tile(np.linspace(1, 2, 11), (2, 1))
    values[0] *= 100
    assert display_range(scan_of(values)).vmax < 2.1
    assert display_range(scan_of(values), sinks="counted").vmax > 100
    with pytest.raises(InputError):
        display_range(scan_of(values), sinks="sometimes")


@pytest.mark.parametrize("signed", [False, True])
def test_steps_that_are_no_tokens_are_all_counted(signed):
    values = np.tile(np.linspace(1, 2, 11), (2, 1))
    values[0] *= 100
    rounds = replace(scan_of(values, signed=signed), step_axis="refinement round")
    assert display_range(rounds).vmax > 100
    assert display_range(rounds, sinks="counted") == display_range(rounds)
    assert display_range(replace(rounds, step_axis="token")).vmax < 2.1


def test_a_signed_scan_is_symmetric_about_zero():
    display = display_range(scan_of([[-8.0, *np.linspace(-1, 3, 10)]], mode="DTI", signed=True))
    assert display.scale == "symmetric"
    assert display.vmin == -display.vmax
    assert display.fraction(np.array([0.0]))[0] == 0.5
    assert display_range(scan_of(np.zeros((1, 11)), signed=True)).vmax > 0


@pytest.mark.parametrize(("value", "mode"), [(0.0, "fMRI"), (-3.0, "fMRI"), (7.0, "T2"), (123456.0, "T1")])
def test_equal_values_get_a_bar_around_them(value, mode):
    display = display_range(scan_of(np.full((1, 11), value), mode=mode))
    assert display.vmin < value < display.vmax
    assert display.fraction(np.array([value]))[0] == pytest.approx(0.5, abs=0.2)
    assert (display.n_below, display.n_above) == (0, 0)


def test_a_percentile_has_its_own_scale():
    values = np.random.default_rng(0).uniform(30, 60, (4, 11))
    percentile = replace(scan_of(values, "FLAIR"), units="percentile of the template")
    shown = display_range(percentile)
    assert (shown.vmin, shown.vmax, shown.scale) == (0.0, 100.0, "linear")
    assert [label for _, label in shown.ticks()] == ["0", "20", "40", "60", "80", "100"]
    nats = display_range(replace(percentile, units="nats"))
    assert nats.vmin > 29
    beyond = display_range(replace(percentile, values=values * 10))
    assert beyond.vmax > 100


def test_strength_is_the_distance_from_the_quiet_end():
    assert strengths(np.array([-4.0, -1.0, 0.0, 2.0, 9.0, np.nan]), DisplayRange(-4, 4, "symmetric")).tolist() == (
        pytest.approx([1.0, 0.25, 0.0, 0.5, 1.0, 0.0])
    )
    assert strengths(np.array([0.0, 5.0, np.nan]), DisplayRange(0, 10)).tolist() == pytest.approx([0.0, 0.5, 0.0])


def test_whole_numbers_and_zeros_fit_a_log_bar():
    counts = np.array([[0, 1, 10, 100, 1000, 10, 10, 10, 10, 10, 10]], dtype=np.int64)
    display = display_range(scan_of(counts, mode="T1"))
    assert display.scale == "log"
    assert display.vmin >= 1
    assert display.n_below >= 1
    assert display.fraction(np.array([0, -5]))[0] == 0.0


def test_a_scan_without_finite_values_is_refused():
    with pytest.raises(InputError, match="no finite value"):
        display_range(scan_of(np.full((1, 11), np.nan)))


def test_fractions_are_clipped_for_display_only():
    log = DisplayRange(0.1, 1000.0, "log")
    values = np.array([0.1, 1, 10, 1000, 5000, 0, -2, np.inf, -np.inf, np.nan])
    np.testing.assert_allclose(log.fraction(values), [0, 0.25, 0.5, 1, 1, 0, 0, 1, 0, np.nan], atol=1e-12)
    assert log.outside(values) == (3, 2)
    linear = DisplayRange(2.0, 4.0)
    np.testing.assert_allclose(linear.fraction(np.array([1.0, 2.5, 9.0])), [0, 0.25, 1])


@pytest.mark.parametrize(
    "arguments",
    [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0), (0.0, 1.0, "log"), (-1.0, 2.0, "symmetric"), (0, 1, "sqrt")],
)
def test_ranges_that_cannot_be_are_refused(arguments):
    with pytest.raises(InputError):
        DisplayRange(*arguments)


def value_of(label: str) -> float:
    units = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    return float(label[:-1]) * units[label[-1]] if label[-1] in units else float(label)


@given(
    st.floats(-1e12, 1e12, allow_nan=False),
    st.floats(1e-6, 1e12),
    st.sampled_from(["linear", "log", "symmetric"]),
)
@settings(deadline=None)
def test_ticks_are_ascending_distinct_and_true(start, width, scale):
    if scale == "log":
        low, high = abs(start) + 1e-6, (abs(start) + 1e-6) * (1 + width)
    elif scale == "symmetric":
        low, high = -width, width
    else:
        low, high = start, start + max(width, abs(start) * 1e-6)
    display = DisplayRange(low, high, scale)
    ticks = display.ticks()
    fractions = [fraction for fraction, _ in ticks]
    assert 2 <= len(ticks) <= 8
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] <= 1
    assert len({label for _, label in ticks}) == len(ticks)
    for fraction, label in ticks:
        assert float(display.fraction(value_of(label))) == pytest.approx(fraction, abs=0.02)


def test_tick_labels_read_well():
    assert [label for _, label in DisplayRange(0.8, 90.0, "log").ticks()] == ["1", "2", "5", "10", "20", "50"]
    assert [label for _, label in DisplayRange(-3.0, 3.0, "symmetric").ticks()] == [
        "-3",
        "-2",
        "-1",
        "0",
        "1",
        "2",
        "3",
    ]
    assert [label for _, label in DisplayRange(0.0, 30e6).ticks(4)] == ["0", "10M", "20M", "30M"]


def test_component_colors_paint_values_and_leave_nan_unpainted():
    colors = color_map("T2")
    painted = component_colors(np.array([0.0, 5.0, 10.0, 99.0, np.nan]), DisplayRange(0.0, 10.0), colors)
    assert painted.dtype == np.uint8
    assert painted[:, 3].tolist() == [255, 255, 255, 255, 0]
    assert painted[0, :3].tolist() == colors.table[0].tolist()
    assert painted[1, :3].tolist() == colors.table[128].tolist()
    assert painted[2, :3].tolist() == painted[3, :3].tolist() == colors.table[255].tolist()
    with pytest.raises(AlignmentError):
        component_colors(np.zeros((2, 3)), DisplayRange(0.0, 1.0), colors)
