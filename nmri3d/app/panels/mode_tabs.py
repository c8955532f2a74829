"""Mode tabs, and the menus of measure, view, surface and layout."""

from trame.widgets import html

from nmri3d.app.panels import template


def build() -> None:
    """Add tabs and menus to the open layout."""
    html.Nav(template("mode_tabs"), classes="mode-tabs")
