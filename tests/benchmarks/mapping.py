"""Importing, and laying the default model out on the cortex, cold and from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests.benchmarks.timing import Figure, best, seconds


def importing() -> Iterator[Figure]:
    """`import nmri3d` in fresh processes, less what starting Python takes, and what it loads."""
    bare = best(lambda: _python("pass"), times=7)
    ours = best(lambda: _python("import nmri3d"), times=7)
    yield Figure("import nmri3d, seconds above bare Python", f"{ours - bare:.3f}", "under 0.2")
    heavy = "import nmri3d, sys; print(*({'torch', 'vtkmodules', 'transformers', 'trame'} & set(sys.modules)))"
    yield Figure("heavy libraries that import nmri3d loads", _python(heavy).strip() or "none", "none")


def atlas() -> Iterator[Figure]:
    """Atlas.build of the default model; features of the weights are taken beforehand, as the page does."""
    import nmri3d

    backend = nmri3d.load()
    features = seconds(backend.layout_features)
    yield Figure("layout features from the weights, seconds", f"{features:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("NMRI3D_CACHE")
        os.environ["NMRI3D_CACHE"] = folder
        try:
            cold = seconds(lambda: nmri3d.Atlas.build(backend))
            cached = best(lambda: nmri3d.Atlas.build(backend), times=5)
        finally:
            if before is None:
                del os.environ["NMRI3D_CACHE"]
            else:
                os.environ["NMRI3D_CACHE"] = before
    yield Figure("atlas of the default model, cold, seconds", f"{cold:.2f}", "under 3")
    yield Figure("atlas of the default model, from the cache, seconds", f"{cached:.2f}", "under 0.3")


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
