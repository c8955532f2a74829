"""Painting: work and bytes of a repaint at two sizes of cortex, and the server's work when the mode is switched.

A repaint of the page sends one step of a scan; its bytes are those of the message that the server would send, packed as
trame packs it (msgpack). The texture that VTK writes for pictures is timed apart, at both sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.timing import Figure, best

PROMPT = "The capital of France is"


def painting() -> Iterator[Figure]:
    """Server work and bytes of a repaint at 20,484 and 327,684 vertices, and of a mode switch."""
    import msgpack

    import nmri3d
    from nmri3d.app.payloads import scan_payload
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import color_map, component_colors, display_range

    backend = nmri3d.load()
    n = len(backend.components)
    one_step = nmri3d.scan(backend, "fMRI", PROMPT, positions=[-1])
    whole = nmri3d.scan(backend, "fMRI", PROMPT)
    t2 = nmri3d.scan(backend, "T2")
    for resolution, vertices in (("fsaverage5", 20_484), ("fsaverage7", 327_684)):
        atlas = nmri3d.Atlas.build(backend, resolution=resolution)
        with BrainScene(atlas) as scene:
            colors = component_colors(whole.values[-1], display_range(whole), color_map("fMRI"))
            work = best(lambda scene=scene, colors=colors: scene.paint(colors), times=20)
            size = len(msgpack.packb(scan_payload(one_step)))
        yield Figure(f"repaint, server work at {vertices:,} vertices, ms", f"{1e3 * work:.2f}", "under 10")
        yield Figure(
            f"repaint, bytes to the browser at {vertices:,} vertices", f"{size:,}", f"at most {4 * n + 2000:,}"
        )
    switch = best(lambda: msgpack.packb(scan_payload(t2)), times=20)
    yield Figure("mode switch to a scan that was made, server work, ms", f"{1e3 * switch:.2f}", "under 50")
