"""The remote view's part of the page: with remote rendering, what the browser asks of the server's picture.

With client rendering these requests only take note; see nmri3d/app/brain.py.
"""

from __future__ import annotations

from nmri3d.app.parts.visit import Handlers, Visit


def remote_handlers(visit: Visit) -> Handlers:
    """What the browser may ask of a picture that the server draws."""
    return {
        "remote_step": lambda step: visit.with_brain(lambda brain: brain.step(step)),
        "remote_look": lambda share, locked: visit.with_brain(lambda brain: brain.look(share, locked)),
        "remote_palette": lambda name: visit.with_brain(lambda brain: brain.color(name)),
        "remote_view": lambda name: visit.with_brain(lambda brain: brain.turn(name)),
        "remote_borders": lambda on: visit.with_brain(lambda brain: brain.show_borders(on)),
        "remote_glass": lambda mode, on: visit.with_brain(lambda brain: brain.make_glass(mode, on)),
        "remote_tracts": lambda share, colors, edge: visit.with_brain(
            lambda brain: brain.look_at_tracts(share, colors, edge)
        ),
        "remote_turned": lambda: visit.with_brain(lambda brain: brain.turned()),
        "remote_pick": lambda x, y: visit.with_brain(lambda brain: brain.pick(x, y)),
    }
