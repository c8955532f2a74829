"""Log panel at the foot of the page, and the invisible element that feeds the browser's store."""

from trame.widgets import html

from nmri3d.app.panels import template


def build() -> None:
    """Add the log to the open layout."""
    html.Footer(template("log"), classes="log-panel")
