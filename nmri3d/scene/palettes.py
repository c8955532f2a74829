"""The colors of the color maps: tables of 256 sRGB colors, computed from a few anchor colors.

Built in OKLab (Ottosson 2020, https://bottosson.github.io/posts/oklab/) so that lightness rises in equal steps from the
first color to the last: brighter always means more, and no step looks larger than its neighbors. Hues are the console's
(T1 greys, T2 blues, fMRI cool to hot, FLAIR slate to pink, DTI purple and green). In `cool-to-hot` red comes before
amber, as on a glowing body: amber is the lighter of the two. The color-blind variants keep their order under protanopia
and deuteranopia too: viridis, inferno and magma of matplotlib (CC0), and blue - dark - orange for signed values.

The two maps of FLAIR show percentiles, whose middle is the usual case. They rise late (place f of the bar has the color
EARLY f + (1 - EARLY) f ** LATE of an even map), so that what is usual stays dark and only the upper third glows.

Left out: which mode takes which palette (colors.py). numpy only.
"""

from __future__ import annotations

from functools import cache

import numpy as np

N_COLORS = 256
EARLY, LATE = 0.15, 2.4
_RISING_LATE = ("lesion", "magma")

# Anchor colors. "by lightness": each stands where its own OKLab lightness puts it, so lightness is exactly linear and
# the list must grow lighter. "evenly": equally spaced samples of a published table.
_BY_LIGHTNESS: dict[str, tuple[str, ...]] = {
    "greys": ("#5a6675", "#8899aa", "#e0e0e0", "#f7f9fc"),
    "blues": ("#10204a", "#1c4a90", "#4488cc", "#aaccee", "#eef8ff"),
    "cool-to-hot": ("#1a2a5a", "#40409a", "#8f3f9c", "#d8365f", "#ff4420", "#ff8a28", "#ffc25a", "#fff3d6"),
    "lesion": ("#23262f", "#4a2c3d", "#8c2c4c", "#d03458", "#ff4466", "#ff8296", "#ffdfe4"),
}
_EVENLY: dict[str, tuple[str, ...]] = {  # an almost black start is left out: it would vanish on the page
    "viridis": ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#27ad81", "#5cc863", "#aadc32", "#fde725"),
    "inferno": ("#210c4a", "#57106e", "#8a226a", "#bc3754", "#e35933", "#f98c0a", "#f9c932", "#fcffa4"),
    "magma": ("#1d1147", "#51127c", "#832681", "#b73779", "#e55064", "#fb8761", "#fec287", "#fcfdbf"),
}
_DIVERGING: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # center outwards: below zero, above zero
    "purple-green": (("#242730", "#8866ff", "#c3b4ff"), ("#242730", "#20a37c", "#44ddaa")),
    "blue-orange": (("#242730", "#2f86e0", "#9cceff"), ("#242730", "#c8761c", "#ffc46b")),
}


@cache
def palette(name: str) -> np.ndarray:
    """uint8 [256, 3], read-only; KeyError for a name that no mode has."""
    if name in _BY_LIGHTNESS:
        table = _ramp(_BY_LIGHTNESS[name], N_COLORS)
    elif name in _EVENLY:
        lab = _oklab(_hex(_EVENLY[name]))
        place = np.linspace(0, 1, len(lab))
        wanted = np.linspace(0, 1, N_COLORS)
        table = _srgb(np.stack([np.interp(wanted, place, lab[:, k]) for k in range(3)], axis=1))
    else:
        below, above = _DIVERGING[name]
        half = N_COLORS // 2
        table = np.concatenate([_ramp(below, half)[::-1], _ramp(above, half)])
    if name in _RISING_LATE:
        even = np.linspace(0, 1, N_COLORS)
        place = EARLY * even + (1 - EARLY) * even**LATE
        table = np.stack([np.interp(place, even, table[:, k]) for k in range(3)], axis=1)
    result = np.floor(table * 255 + 0.5).astype(np.uint8)
    result.setflags(write=False)
    return result


def _ramp(anchors: tuple[str, ...], n: int) -> np.ndarray:
    """sRGB 0..1 [n, 3] through the anchors, lightness exactly linear, hue turning without a kink."""
    lab = _oklab(_hex(anchors))
    lightness = np.linspace(lab[0, 0], lab[-1, 0], n)
    # a window of a twelfth of the ramp rounds the corners at the anchors; mirrored ends keep the end colors in place
    width = max(3, n // 12) | 1
    window = np.full(width, 1 / width)
    chroma = []
    for axis in (1, 2):
        straight = np.interp(lightness, lab[:, 0], lab[:, axis])
        padded = np.pad(straight, width // 2, mode="reflect", reflect_type="odd")
        chroma.append(np.convolve(padded, window, mode="valid"))
    return _srgb(np.stack([lightness, *chroma], axis=1))


def _hex(colors: tuple[str, ...]) -> np.ndarray:
    return np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in colors]) / 255.0


_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _oklab(srgb: np.ndarray) -> np.ndarray:
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _LMS.T) @ _LAB.T


def _srgb(lab: np.ndarray) -> np.ndarray:
    """sRGB 0..1; a color outside the gamut loses chroma, never lightness or hue."""
    low, high = np.zeros(len(lab)), np.ones(len(lab))
    for _ in range(24):  # bisection on the share of chroma that fits
        share = np.where(_inside(_linear(lab * _chroma_share(high))), high, (low + high) / 2)
        fits = _inside(_linear(lab * _chroma_share(share)))
        low, high = np.where(fits, share, low), np.where(fits, high, share)
    linear = np.clip(_linear(lab * _chroma_share(low)), 0.0, 1.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _chroma_share(share: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(share), share, share], axis=1)


def _linear(lab: np.ndarray) -> np.ndarray:
    result: np.ndarray = (lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_LMS).T
    return result


def _inside(linear: np.ndarray) -> np.ndarray:
    return np.all((linear >= -1e-6) & (linear <= 1 + 1e-6), axis=1)
