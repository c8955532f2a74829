"""From a scan's raw values to colors: color maps, display ranges and colors of components. Only this file clips.

Color maps. One a mode, of 256 sRGB colors, and a variant for color-blind people (palettes.py): T1 greys, T2 navy to sky
blue, fMRI cool to hot, FLAIR slate to pink, DTI purple - dark - green about zero.

Display ranges. A range says which values the two ends of the color bar stand for; it never changes a value. The default
is robust: the 2nd to the 98th percentile of the finite values of cortical rows over all steps, the first of several
tokens left out (many models park a huge activation on it; steps of another kind have no such sink). What lies outside is
drawn in the end color, counted, and marked by arrows on the bar. A percentile (FLAIR) has its own absolute scale, 0 to 100.

Left out: everything that draws. numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nmri3d.errors import AlignmentError, InputError
from nmri3d.results import MODES, Scan
from nmri3d.scene.palettes import N_COLORS, palette

Scale = Literal["linear", "log", "symmetric"]
Variant = Literal["standard", "colorblind"]
VARIANTS = ("standard", "colorblind")

LOW_PERCENTILE, HIGH_PERCENTILE = 2.0, 98.0
PERCENTILE = "percentile"
"""A FLAIR scan whose unit says so is drawn on the scale of percentiles."""
HEAVY_TAIL_MEDIAN = 0.2
"""A quantity is drawn on a log bar if a linear one would squeeze its median into this lowest share of the bar."""


@dataclass(frozen=True, eq=False)
class ColorMap:
    """A named table of colors, uint8 [256, 3], sRGB; row 0 stands for fraction 0, row 255 for fraction 1."""

    name: str
    table: np.ndarray

    def __post_init__(self) -> None:
        table = np.array(self.table, dtype=np.uint8)
        if table.shape != (N_COLORS, 3):
            raise AlignmentError(f"the table of a color map must be [256, 3], got {table.shape}")
        table.setflags(write=False)
        object.__setattr__(self, "table", table)

    def colors(self, fraction: np.ndarray) -> np.ndarray:
        """uint8 [..., 3] for fractions in 0..1 (not NaN): row floor(255 f + 0.5) of the table."""
        rows = np.floor(np.clip(fraction, 0.0, 1.0) * (N_COLORS - 1) + 0.5).astype(np.intp)
        return self.table[rows]


_NAME_OF_MODE: dict[str, tuple[str, str]] = {
    "T1": ("greys", "greys"),
    "T2": ("blues", "viridis"),
    "fMRI": ("cool-to-hot", "inferno"),
    "DTI": ("purple-green", "blue-orange"),
    "FLAIR": ("lesion", "magma"),
}


def color_map(mode: str, variant: str = "standard") -> ColorMap:
    """The color map of a scan mode. Greys are safe for everyone, so T1 has one map for both variants.

    Raises InputError for an unknown mode or variant.
    """
    if mode not in _NAME_OF_MODE:
        raise InputError(f"there is no color map for mode {mode!r}; the modes are {', '.join(MODES)}")
    if variant not in VARIANTS:
        raise InputError(f"there is no variant {variant!r} of color maps; choose one of {', '.join(VARIANTS)}")
    name = _NAME_OF_MODE[mode][VARIANTS.index(variant)]
    return ColorMap(name, palette(name))


def scan_color_map(scan: Scan, variant: Variant = "standard") -> ColorMap:
    """The color map of a scan: its mode's; for signed values of another mode than DTI (a change, a sweep) DTI's, too.

    T2 keeps its blues for its one signed statistic: what is compared there are statistics, not signs.
    """
    return color_map("DTI" if scan.signed and scan.mode != "T2" else scan.mode, variant)


@dataclass(frozen=True)
class DisplayRange:
    """What the ends of a color bar stand for.

    vmin, vmax  values at fraction 0 and 1, in the scan's units; vmin < vmax, and vmin > 0 on a log bar,
                vmin = -vmax on a symmetric one
    n_below, n_above  how many finite cortical values of the scan lie outside (arrows on the bar)
    """

    vmin: float
    vmax: float
    scale: Scale = "linear"
    n_below: int = 0
    n_above: int = 0

    def __post_init__(self) -> None:
        if self.scale not in ("linear", "log", "symmetric"):
            raise InputError(f"there is no scale {self.scale!r}; choose linear, log or symmetric")
        if not (math.isfinite(self.vmin) and math.isfinite(self.vmax) and self.vmin < self.vmax):
            raise InputError(f"a display range needs two finite numbers, the lower first; got {self.vmin}, {self.vmax}")
        if self.scale == "log" and self.vmin <= 0:
            raise InputError(f"a log scale needs a lower end above 0, got {self.vmin}; use the linear scale")
        if self.scale == "symmetric" and self.vmin != -self.vmax:
            raise InputError(f"a symmetric range runs from -v to v, got {self.vmin} to {self.vmax}")

    def fraction(self, values: np.ndarray | float) -> np.ndarray:
        """Place of values along the bar, float64, clipped to 0..1 for display only; NaN stays NaN.

        linear and symmetric: (v - vmin) / (vmax - vmin). log: ln(v / vmin) / ln(vmax / vmin), 0 for v <= 0.
        """
        values = np.asarray(values, dtype=np.float64)
        if self.scale == "log":
            # anything at or below 0 is below every log bar
            positive = np.where(values > 0, values, np.where(np.isnan(values), np.nan, self.vmin))
            place = np.log(positive / self.vmin) / math.log(self.vmax / self.vmin)
        else:
            place = (values - self.vmin) / (self.vmax - self.vmin)
        return np.clip(place, 0.0, 1.0)

    def outside(self, values: np.ndarray) -> tuple[int, int]:
        """How many of `values` lie below and above the bar (infinities included, NaN not)."""
        values = np.asarray(values)
        return int(np.count_nonzero(values < self.vmin)), int(np.count_nonzero(values > self.vmax))

    def ticks(self, most: int = 7) -> list[tuple[float, str]]:
        """Round values on the bar as (fraction, label), ascending, at least two and about `most` of them."""
        values = _log_ticks(self.vmin, self.vmax, most) if self.scale == "log" else []
        if len(values) < 2:
            values = _linear_ticks(self.vmin, self.vmax, most)
        if len(values) < 2:  # too narrow for round numbers
            values = [self.vmin, self.vmax]
        labels = _labels(values)
        return [(float(self.fraction(v)), label) for v, label in zip(values, labels, strict=True)]


def display_range(scan: Scan, *, sinks: Literal["ignored", "counted"] = "ignored") -> DisplayRange:
    """The default display range of a scan: robust, and linear, log or symmetric as the quantity asks.

    T1 is drawn on a log bar (parameters differ by orders of magnitude), a signed scan symmetric about 0, T2 linear,
    FLAIR's percentiles from 0 to 100.
    Any other scan is log if it is heavy-tailed: if on the linear bar the median would lie in the lowest fifth.
    Log bars are fitted to the positive values. If all values are equal, the bar is widened around them.

    sinks="counted" keeps the first token. Raises InputError if there is no finite value to fit to.
    """
    if sinks not in ("ignored", "counted"):
        raise InputError(f"sinks must be 'ignored' or 'counted', got {sinks!r}")
    rows = scan.components.cortical
    # a table of neurons has no row with a parcel of its own: all of them are shown
    cortical = (scan.values[:, rows] if len(rows) else scan.values).astype(np.float64)
    has_sink = scan.step_axis == "token" and scan.n_steps > 1
    fitted = cortical[1:] if has_sink and sinks == "ignored" else cortical
    fitted = fitted[np.isfinite(fitted)]
    if fitted.size == 0:
        raise InputError(f"this {scan.mode} scan holds no finite value for a component on the cortex; scan again")
    if scan.mode == "FLAIR" and PERCENTILE in scan.units and fitted.min() >= 0 and fitted.max() <= 100:
        return DisplayRange(0.0, 100.0)
    if scan.signed:
        limit = _percentiles(np.abs(fitted))[1]
        limit = limit or float(np.abs(fitted).max()) or 1.0
        scale, vmin, vmax = "symmetric", -limit, limit
    else:
        scale, vmin, vmax = _unsigned_limits(fitted, scan.mode)
    unfilled = DisplayRange(vmin, vmax, scale)  # type: ignore[arg-type]
    below, above = unfilled.outside(cortical)
    return DisplayRange(vmin, vmax, unfilled.scale, below, above)


def component_colors(values: np.ndarray, display: DisplayRange, colors: ColorMap) -> np.ndarray:
    """Colors of components, uint8 [n, 4], for raw values [n]; alpha 255, or 0 (unpainted) where the value is NaN.

    Raises AlignmentError if `values` is not one value a component.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise AlignmentError(f"component_colors takes one value a component, [n]; got an array of shape {values.shape}")
    fraction = display.fraction(values)
    painted = ~np.isnan(fraction)
    result = np.zeros((len(values), 4), dtype=np.uint8)
    result[painted, :3] = colors.colors(fraction[painted])
    result[painted, 3] = 255
    return result


def strengths(values: np.ndarray, display: DisplayRange) -> np.ndarray:
    """How far each value stands from the quiet end of the bar, float64 in 0..1: from 0 on a symmetric one; 0 for NaN."""
    place = display.fraction(values)
    size = np.abs(2 * place - 1) if display.scale == "symmetric" else place
    return np.nan_to_num(size)


# --- ranges and ticks ------------------------------------------------------------------------------------------------


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE))
    return float(low), float(high)


def _unsigned_limits(values: np.ndarray, mode: str) -> tuple[Scale, float, float]:
    low, high = _percentiles(values)
    heavy = high > low and (np.median(values) - low) < HEAVY_TAIL_MEDIAN * (high - low)
    positive = values[values > 0]
    if positive.size and (mode == "T1" or (heavy and mode != "T2" and values.min() >= 0)):
        low, high = _percentiles(positive)
        return ("log", low / 2, low * 2) if low == high else ("log", low, high)
    if low == high:
        margin = abs(low) / 2 or 1.0
        low, high = low - margin, high + margin
    return "linear", low, high


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            break
    return [i * step for i in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [d * 10.0**power for power in range(first, last + 1) for d in digits]
        values = [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(values) <= most:
            return values
    return values[:: math.ceil(len(values) / most)]


def _labels(values: list[float]) -> list[str]:
    """Short labels that tell the ticks apart: 0.05, 12, 3k, 28M; more digits where two would read the same."""
    for digits in range(1, 16):
        labels = [_short(value, digits) for value in values]
        exact = all(
            abs(_value(text) - v) <= 1e-6 * max(map(abs, values)) for text, v in zip(labels, values, strict=True)
        )
        if len(set(labels)) == len(labels) and (exact or digits >= 4):
            return labels
    return [repr(value) for value in values]


def plain_number(value: float) -> str:
    """A number as the bars write it, two digits: 0.053, 1.2, 34k."""
    return _short(value, 2)


_SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def _short(value: float, digits: int) -> str:
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e15:
        return f"{value:.{digits - 1}e}"
    for suffix, unit in reversed(_SUFFIXES.items()):
        if size >= unit * (1 - 1e-12):
            return _plain(value / unit, digits) + suffix
    return _plain(value, digits)


def _plain(value: float, digits: int) -> str:
    whole = math.floor(math.log10(abs(value)) + 1e-12) + 1
    return f"{value:.{max(0, digits - whole)}f}"


def _value(label: str) -> float:
    return float(label[:-1]) * _SUFFIXES[label[-1]] if label[-1] in _SUFFIXES else float(label)
