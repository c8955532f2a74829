"""The self-test of a machine: what nmri3d needs, whether it is there, and how to mend what is not.

Each check does the thing rather than looking for a file: it imports the library, draws a pixel, writes to the cache, and,
where the model is on disk, runs it. A check that fails says what it means for the user and names one remedy.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

LIBRARIES = ("torch", "transformers", "transformer-lens", "vtk", "pyvista", "trame", "trame-vtk", "fastapi", "nilearn")

_DRAW_A_PIXEL = """
import os
import numpy as np, pyvista
plotter = pyvista.Plotter(off_screen=True, window_size=(64, 64))
plotter.add_mesh(pyvista.Sphere(), color=(1.0, 0.0, 0.0), lighting=False)
plotter.set_background("black")
pixel = plotter.screenshot(return_img=True)[32, 32]
assert pixel[0] > 200 and pixel[1] < 50, pixel
print(type(plotter.render_window).__name__)
"""


@dataclass(frozen=True)
class Finding:
    """One check: `state` ok, note (works, with a limit) or fail; `remedy` is empty where nothing is to be done."""

    name: str
    state: Literal["ok", "note", "fail"]
    detail: str
    remedy: str = ""


def diagnose(*, deep: bool = False) -> Iterator[Finding]:
    """Run the checks one after the other. `deep` also hashes every byte of the embedded model."""
    yield _python()
    yield from _libraries()
    yield _guarded("off-screen rendering", _rendering)
    yield _guarded("accelerator", _accelerator)
    yield _guarded("memory", _memory)
    yield _guarded("cache", _cache)
    yield _guarded("embedded model", lambda: _embedded(deep))
    yield _guarded("phantoms", _phantoms)
    yield _browser()


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """A check that breaks is a finding, not a traceback."""
    try:
        return check()
    except Exception as error:
        return Finding(name, "fail", f"{type(error).__name__}: {error}", "reinstall nmri3d into a fresh environment")


def _python() -> Finding:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", "ok", detail)
    return Finding("Python", "fail", detail, "use Python 3.11, 3.12 or 3.13")


def _libraries() -> Iterator[Finding]:
    for name in LIBRARIES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "fail", "not installed", "install nmri3d again with pip, which brings it")


def _rendering() -> Finding:
    # in a process of its own: a broken OpenGL does not raise, it ends the process
    done = subprocess.run(
        [sys.executable, "-c", _DRAW_A_PIXEL], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode == 0:
        return Finding("off-screen rendering", "ok", done.stdout.strip().splitlines()[-1])
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Finding(
        "off-screen rendering", "fail", last, "install Mesa's EGL (Debian, Ubuntu: apt-get install libegl1 libgl1)"
    )


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("accelerator", "ok", torch.cuda.get_device_name())
    if torch.backends.mps.is_available():
        return Finding("accelerator", "ok", "Apple GPU")
    return Finding("accelerator", "note", f"none; models run on {os.cpu_count()} processor cores")


def _memory() -> Finding:
    from nmri3d.models.budget import free_bytes, human_bytes

    free = free_bytes("cpu")
    if free < 2 << 30:
        return Finding(
            "memory", "fail", f"{human_bytes(free)} free", "close other programs; the default model takes 1.5 GB"
        )
    return Finding("memory", "ok", f"{human_bytes(free)} free")


def _cache() -> Finding:
    from nmri3d.models.budget import human_bytes
    from nmri3d.models.weight_cache import cache_folder

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        return Finding("cache", "fail", str(error), "set NMRI3D_CACHE to a folder that can be written to")
    free = shutil.disk_usage(folder).free
    if free < 1 << 30:
        return Finding(
            "cache",
            "fail",
            f"{human_bytes(free)} free in {folder}",
            "free some disk, or set NMRI3D_CACHE to a folder on another one",
        )
    return Finding("cache", "ok", f"{folder}, {human_bytes(free)} free")


def _embedded(deep: bool) -> Finding:
    from nmri3d.models import embedded, load

    broken = embedded.damage(every_byte=deep)
    if broken is not None:
        return Finding("embedded model", "note", broken, "the first `nmri3d serve` prepares it (a download of 93 MB)")
    backend = load("smollm2-135m")
    logits = backend.run(backend.stimulus("The capital of France is"), {}, logits=[-1]).logits
    answer = backend.token_text(int(logits[0].argmax()))
    if answer != " Paris":
        return Finding(
            "embedded model",
            "fail",
            f"answers {answer!r} for the capital of France",
            "delete the cache folder and start again",
        )
    hashed = ", every byte hashed" if deep else ""
    return Finding(
        "embedded model", "ok", f"answers{answer}; components add up to {backend.info.completeness:.0e}{hashed}"
    )


def _phantoms() -> Finding:
    from nmri3d.phantoms.registry import PHANTOMS, shipped_names

    here = shipped_names()
    missing = [name for name in PHANTOMS if name not in here]
    if missing:
        return Finding(
            "phantoms",
            "note",
            f"without trained weights: {', '.join(missing)}",
            f"install nmri3d again, or train them: nmri3d phantom train {missing[0]}",
        )
    return Finding("phantoms", "ok", f"{', '.join(here)}, with trained weights")


def _browser() -> Finding:
    found = next((path for name in ("chromium", "google-chrome", "firefox") if (path := shutil.which(name))), None)
    if found:
        return Finding("browser", "ok", found)
    return Finding(
        "browser", "note", "none found here", "open the address that `nmri3d serve` prints in any browser with WebGL 2"
    )
