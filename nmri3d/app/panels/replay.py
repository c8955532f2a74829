"""Replay panel at the foot of the page, in the log's place: the events of a recorded session, and the way through them."""

from trame.widgets import html

from nmri3d.app.panels import template


def build() -> None:
    """Add the panel to the open layout."""
    html.Section(
        template("replay"),
        v_if=("replay",),
        classes="replay-panel",
        raw_attrs=['aria-label="Replay"', 'data-testid="replay-panel"'],
    )
