"""Prompt bar: token strip, progress with cancel, prompt, SCAN / PAUSE / RESET, and what was wrong with the prompt."""

from trame.widgets import html

from nmri3d.app.panels import template


def build() -> None:
    """Add the bar to the open layout."""
    html.Section(template("prompt_bar"), classes="prompt-bar", raw_attrs=['aria-label="Prompt"'])
