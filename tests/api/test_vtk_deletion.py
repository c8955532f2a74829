"""Visitors whose pages show VTK scenes leave without taking the process along, and leave no scene behind."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = '''
import asyncio, gc, weakref
from nmri3d.app.visitors import Visitors
from nmri3d.app.vtk_deletion import _forgetters
from trame_vtk.modules.vtk.serializers import cache
from nmri3d.service import Service


class Page:
    """A scene of which a part belongs to a cycle, so that the collector frees it."""

    def __init__(self, server, service):
        from trame.ui.html import DivLayout
        from trame.widgets import vtk
        from vtkmodules.vtkFiltersSources import vtkSphereSource
        from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper, vtkRenderer, vtkRenderWindow
        import vtkmodules.vtkRenderingOpenGL2

        source, mapper, self.actor = vtkSphereSource(), vtkPolyDataMapper(), vtkActor()
        mapper.SetInputConnection(source.GetOutputPort())
        self.actor.SetMapper(mapper)
        self.actor.page = self
        renderer, self.window = vtkRenderer(), vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.AddRenderer(renderer)
        renderer.AddActor(self.actor)
        with DivLayout(server):
            self.view = vtk.VtkLocalView(self.window)

    def close(self):
        self.view.release_resources()


async def main():
    async def load_page():
        return Page

    visitors = Visitors(Service(), load_page, grace_seconds=60)
    scenes = []
    for _ in range(5):
        visitor = await visitors.open()
        visitor.page.view.update()
        scenes.append(weakref.ref(visitor.page.actor))
        sent = len(cache.PROP_CACHE)
        await visitors.close(visitor)
        del visitor
        gc.collect()
    await asyncio.sleep(0.1)
    gc.collect()
    await visitors.close_all()
    left = sum(scene() is not None for scene in scenes)
    print(f"sent {sent > 3}, scenes left {left}, properties left {len(cache.PROP_CACHE)}, watched {len(_forgetters)}")


asyncio.run(main())
'''


def test_scenes_are_freed_and_the_process_lives():
    # in a process of its own: without the guard it dies with a segmentation fault
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == "sent True, scenes left 0, properties left 0, watched 0"
