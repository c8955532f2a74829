"""The live brain in a notebook: turns under the mouse, steps through tokens, and is repainted by the brain's own methods.

Convention. It is an ipywidget (anywidget) around the same viewer as the self-contained page (export/web): geometry, the
textures of all steps and clicks travel over the notebook's own connection to its kernel. So there is no second server, port
or address, and it works wherever widgets do: behind JupyterHub, jupyter-server-proxy or SSH, and in VS Code. Geometry is sent
once a form, a step is one number. What is stepped to or clicked in the notebook is what the brain then shows in pictures.
The environment variable NMRI3D_JUPYTER chooses: "live", "static" (a picture), or "auto" (live in a kernel, else static).

Left out: what is drawn (export/viewing.py), and the static picture (jupyter.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nmri3d.errors import InputError, MachineError

if TYPE_CHECKING:
    from nmri3d.results import Scan
    from nmri3d.scene.brain import BrainScene
    from nmri3d.scene.colors import ColorMap, DisplayRange

SETTING = "NMRI3D_JUPYTER"
HEIGHT = "560px"

_RENDER = """
export default {
  render({ model, el }) {
    const box = document.createElement("div");
    box.style.cssText = `height: ${model.get("height")}; container-type: size;`;
    const root = document.createElement("div");
    box.append(root);
    el.append(box);
    const tell = (name) => (value) => {
      model.set(name, value);
      model.save_changes();
    };
    let viewer;
    try {
      viewer = nmriViewer(root, { onStep: tell("step"), onSelect: tell("row") });
    } catch (error) {
      root.textContent = error.message;
      return undefined;
    }
    const watched = [];
    const watch = (name, act) => {
      const put = () => act(model.get(name));
      model.on(`change:${name}`, put);
      watched.push([`change:${name}`, put]);
      return put;
    };
    for (const name of ["looks", "cortex", "marks", "view", "paint"]) watch(name, (part) => viewer.set(name, part))();
    watch("step", (step) => viewer.setStep(step))();
    watch("row", (row) => viewer.setRow(row))();
    return () => {
      watched.forEach(([event, put]) => model.off(event, put));
      viewer.close();
    };
  },
};
"""


def wanted() -> bool:
    """Whether a brain shows itself live here: as NMRI3D_JUPYTER says; "auto" asks for a notebook's kernel and anywidget.

    Raises InputError for another word, MachineError for "live" without anywidget.
    """
    setting = os.environ.get(SETTING, "auto").lower() or "auto"
    if setting not in ("auto", "live", "static"):
        raise InputError(f"{SETTING} is live, static or auto, not {setting!r}; set it anew")
    if setting == "auto":
        return in_a_kernel() and find_spec("anywidget") is not None
    return setting == "live"


def in_a_kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return getattr(running, "kernel", None) is not None


class LiveView:
    """One brain's widget, and what of it the browser has already.

    widget    the ipywidget; display it as often as you like
    on_step   called with the step that was chosen in the browser
    on_row    called with the component row that was clicked, -1 for none

    Raises MachineError where anywidget is missing.
    """

    def __init__(self, *, on_step: Callable[[int], None], on_row: Callable[[int], None], height: str = HEIGHT) -> None:
        self.widget: Any = _widget_class()(height=height)
        self._on_step, self._on_row = on_step, on_row
        self._sent: dict[str, Hashable] = {}
        self._kept: Any = None
        self.widget.observe(lambda change: self._told(change.name, change.new), names=["step", "row"])
        self._following = False

    def follow(
        self, scene: BrainScene, shown: tuple[Scan, int, DisplayRange, ColorMap] | None, marks: Hashable
    ) -> None:
        """Send what has changed since the last time. marks: changes whenever borders, glow or tubes may have."""
        from nmri3d.export import viewing

        self._following = True
        geometry = (scene.surface, scene.stats.n_geometry_updates, scene.hemispheres)
        scan, step = (None, 0) if shown is None else shown[:2]
        paint: Hashable = (scene.surface, None)
        if shown is not None and scan is not None:
            told = (marks, scene.selected) if scan.tracts is not None else None  # the legend counts the tubes
            # an id names an object as long as the object lives: the scan is kept
            paint = (scene.surface, id(scan), shown[2], shown[3].table.tobytes(), told)
            self._kept = scan
        try:
            with self.widget.hold_sync():
                self._send("looks", 0, lambda: viewing.looks_part(scene))
                self._send("cortex", geometry, lambda: viewing.cortex_part(scene))
                self._send("marks", (geometry, marks, scene.selected), lambda: viewing.marks_part(scene))
                if shown is None:
                    self._send("paint", paint, lambda: viewing.anatomy_part(scene))
                else:
                    self._send("paint", paint, lambda: viewing.paint_part(scene, *shown))
                self.widget.step = step
                self.widget.row = -1 if scene.selected is None else scene.selected
                if "view" not in self._sent:
                    self.turn(scene)
        finally:
            self._following = False

    def turn(self, scene: BrainScene) -> None:
        """Stand where the scene's camera stands."""
        from nmri3d.export import viewing

        self._sent["view"] = number = int(self._sent.get("view", 0)) + 1  # type: ignore[call-overload]
        self.widget.view = viewing.view_part(scene) | {"asked": number}

    def close(self) -> None:
        """Take the widget out of all cells."""
        self.widget.close()

    def _send(self, name: str, key: Hashable, make: Callable[[], dict[str, Any]]) -> None:
        if self._sent.get(name, self) != key:
            self._sent[name] = key
            setattr(self.widget, name, make())

    def _told(self, name: str, value: int) -> None:
        if not self._following:
            (self._on_step if name == "step" else self._on_row)(value)


@cache
def _widget_class() -> Any:
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise MachineError(
            'a live view needs the package anywidget; install it by pip install "nmri3d[jupyter]", '
            f"or set {SETTING}=static for pictures"
        ) from error
    from nmri3d.export.viewing import viewer_script, viewer_style

    def part() -> Any:
        return traitlets.Dict().tag(sync=True)

    traits = {name: part() for name in ("looks", "cortex", "marks", "view", "paint")}
    traits |= {"step": traitlets.Int(0).tag(sync=True), "row": traitlets.Int(-1).tag(sync=True)}
    traits |= {"height": traitlets.Unicode(HEIGHT).tag(sync=True)}
    body = {"_esm": viewer_script() + _RENDER, "_css": viewer_style(), **traits}
    return type("LiveBrain", (anywidget.AnyWidget,), body)
