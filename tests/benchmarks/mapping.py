"""Importing, and laying the default model out on the cortex, cold and from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.timing import Figure, best


def importing() -> Iterator[Figure]:
    """`import nmri3d` in fresh processes, less what starting Python takes, and what it loads."""
    bare = best(lambda: _python("pass"), times=7)
    ours = best(lambda: _python("import nmri3d"), times=7)
    yield Figure("import nmri3d, seconds above bare Python", f"{ours - bare:.3f}", "under 0.2")
    heavy = "import nmri3d, sys; print(*({'torch', 'vtkmodules', 'transformers', 'trame'} & set(sys.modules)))"
    yield Figure("heavy libraries that import nmri3d loads", _python(heavy).strip() or "none", "none")


def atlas() -> Iterator[Figure]:
    """Atlas.build of the default model in fresh processes: the first builds it, the second finds it in the cache."""
    timed = (
        "import time, nmri3d; model = nmri3d.load(); model.bridge; started = time.perf_counter();"
        "nmri3d.Atlas.build(model); print(time.perf_counter() - started)"
    )
    from nmri3d.models.embedded import locate_embedded

    weights = locate_embedded(lambda share, what: None).folder
    with tempfile.TemporaryDirectory() as folder:
        # a cache of its own that holds the prepared weights and no atlas
        (Path(folder) / "models").symlink_to(weights.parent)
        cold, cached = (float(_python(timed, NMRI3D_CACHE=folder).split()[-1]) for _ in range(2))
    yield Figure("atlas of the default model, cold, seconds", f"{cold:.2f}", "under 3")
    yield Figure("atlas of the default model, from the cache, seconds", f"{cached:.2f}", "under 0.3")


def _python(code: str, **environment: str) -> str:
    run = [sys.executable, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout
