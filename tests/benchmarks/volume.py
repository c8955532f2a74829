"""The label volume of the default model: seconds to make and to read, bytes to the browser; and a repaint of its voxels."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.timing import Figure, best, seconds


def volume(*, large: bool) -> Iterator[Figure]:
    """At 1 mm, on the default cortex and, if `large`, on the finest one; nothing is read from the cache unless it says so."""
    import numpy as np

    import nmri3d
    from nmri3d.app.parts.volume import volume_payload
    from nmri3d.atlas.volume import label_volume
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.slices import three_slices

    backend = nmri3d.load()
    for resolution in ("fsaverage5", "fsaverage7") if large else ("fsaverage5",):
        atlas = nmri3d.Atlas.build(backend, resolution=resolution)
        made = seconds(lambda atlas=atlas: label_volume(atlas, cache=False))
        yield Figure(f"label volume of {len(atlas.faces):,} faces, seconds", f"{made:.2f}")
    atlas = nmri3d.Atlas.build(backend)
    labels = label_volume(atlas)
    yield Figure("label volume from the cache, seconds", f"{best(lambda: label_volume(atlas), times=3):.3f}")
    payload = volume_payload(atlas, labels)
    size = sum(len(part) for part in payload.values() if isinstance(part, bytes))
    yield Figure("label volume, bytes to the browser, once", f"{size:,}")
    n = len(atlas.components)
    colors, strength = np.full((n, 4), 255, dtype=np.uint8), np.linspace(0, 1, n)
    with BrainScene(atlas) as scene:
        actor = scene.show_volume(labels)
        assert actor is not None
        paint = best(lambda: actor.paint(colors, strength), times=10)
        yield Figure("repaint of the voxels, server work, ms", f"{1e3 * paint:.1f}")
        scene.screenshot()
        yield Figure("picture of the volume, 1280 x 720, ms", f"{1e3 * best(scene.screenshot, times=3):.0f}")
    sliced = best(lambda: three_slices(labels, (-32.0, -20.0, 14.0), colors), times=5)
    yield Figure("three slices, ms", f"{1e3 * sliced:.1f}")
