"""The scan canvas: the brain, DICOM header, color bar, what to look at (threshold, range, pulse), and what it says when
there is nothing to see: no model, a model on its way, a scan that was not made yet or comes in a later version.

The brain itself is a template of its own (`build_brain`), made anew for every model, so that the browser starts clean.
"""

from __future__ import annotations

from typing import Any

from trame.ui.html import DivLayout
from trame.widgets import client, html, vtk

from nmri3d.app.panels import template


def build() -> None:
    """Add the canvas to the open layout; the brain comes into it with `build_brain`."""
    with html.Div(
        classes=("['canvas', 'mode-' + nmri.store.mode]",),
        raw_attrs=['role="region"', 'aria-label="Scan"'],
    ):
        with html.Div(
            classes=("['brain-view', { painted: nmri.store.painted }]",),
            raw_attrs=['data-testid="brain-view"', ':data-painted="nmri.store.painted"'],
        ):
            client.ServerTemplate(name=("brain_template",), v_if=("geometry && brain_template",), key="brain_template")
        html.Div(classes="scan-lines", raw_attrs=['aria-hidden="true"'])
        html.Div(classes="vignette", raw_attrs=['aria-hidden="true"'])
        html.Div(
            template("canvas_header") + template("canvas_view") + template("canvas_notes"), classes="canvas-overlay"
        )
        html.Div(template("slices"), classes="slices-frame")


def build_brain(server: Any, name: str, window: Any, *, remote: bool) -> Any:
    """A template with the view of one model's brain. Returns trame-vtk's view: `update` and `release_resources` it."""
    with DivLayout(server, template_name=name, classes="brain-frame"):
        if remote:
            view = vtk.VtkRemoteView(
                window, ref=name, interactive_ratio=1, EndAnimation="nmri.trigger('remote_turned')"
            )
            html.Div('<nmri-remote-brain :letters="letters"></nmri-remote-brain>', classes="remote-overlay")
        else:
            view = vtk.VtkLocalView(window, ref=name, context_name=name, interactor_settings=("nmri.INTERACTION",))
            with view:
                html.Div("<nmri-brain></nmri-brain>", classes="local-overlay")
    return view
