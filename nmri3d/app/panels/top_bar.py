"""Top bar: name, model menu with a field for any id or folder, memory, REC and the list of sessions, keys."""

from trame.widgets import html

from nmri3d.app.panels import template


def build() -> None:
    """Add the bar to the open layout."""
    html.Header(template("top_bar"), classes="top-bar")
