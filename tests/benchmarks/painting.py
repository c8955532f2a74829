"""Painting: work and bytes of a repaint at two sizes of cortex, and the server's work when the mode is switched.

A repaint of the page sends one step of a scan; its bytes are those of the message that the server would send, packed as
trame packs it (msgpack). The texture that VTK writes for pictures is timed apart, at both sizes.
"""

from __future__ import annotations

import time
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


def frames(pairs: int) -> Iterator[Figure]:
    """One frame of the finest cortex, painted, against PyVista's own render of the same mesh in fixed colors.

    Both draw off-screen, in windows of one size, from cameras that turn alike, so that no picture is drawn twice; frames
    of the two alternate. A frame counts from the call to the moment when its pixels can be read.
    """
    import numpy as np
    import pyvista

    import nmri3d
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import color_map, component_colors, display_range

    backend = nmri3d.load()
    scan = nmri3d.scan(backend, "fMRI", PROMPT)
    atlas = nmri3d.Atlas.build(backend, resolution="fsaverage7")
    with BrainScene(atlas) as scene:
        colors = component_colors(scan.values[-1], display_range(scan), color_map("fMRI"))
        scene.paint(colors)
        plain = pyvista.Plotter(off_screen=True, window_size=list(scene.render_window.GetSize()))
        mesh = pyvista.PolyData.from_regular_faces(np.asarray(scene.mesh.points), scene.split_faces)
        grey = np.full((1, 3), 128, dtype=np.uint8)
        mesh.point_data["colors"] = np.concatenate([colors[:, :3], grey])[scene.component_of_split]
        plain.enable_anti_aliasing("msaa", multi_samples=8)
        plain.add_mesh(mesh, scalars="colors", rgb=True, smooth_shading=True)
        plain.camera_position = scene.plotter.camera_position
        plain.show(auto_close=False)

        def frame(plotter: pyvista.Plotter) -> float:
            plotter.camera.Azimuth(3)
            start = time.perf_counter()
            plotter.render_window.Render()
            plotter.render_window.GetRGBACharPixelData(0, 0, 0, 0, 0, 0)  # waits until the frame is drawn
            return time.perf_counter() - start

        for _ in range(3):
            frame(scene.plotter), frame(plain)
        times = np.array([(frame(scene.plotter), frame(plain)) for _ in range(pairs)])
        plain.close()
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    ours, theirs = 1e3 * np.median(times, axis=0)
    yield Figure(
        f"a frame at {len(atlas.vertices):,} vertices / PyVista's own of the same mesh",
        f"{ratio:.2f}  ({ours:.0f} / {theirs:.0f} ms)",
        "at most 1.3",
    )
