"""Right column: layer summary, stimulation (the selected component), comparison (what the model predicts)."""

from trame.widgets import html

from nmri3d.app.panels import template


def build() -> None:
    """Add the column to the open layout."""
    with html.Aside(classes="side"):
        html.Section(template("side_summary"), classes="panel summary", raw_attrs=['aria-label="Layer summary"'])
        html.Section(
            template("side_stimulation"), classes="panel stimulation", raw_attrs=['data-testid="stimulation-panel"']
        )
        html.Section(
            template("side_comparison"), classes="panel comparison", raw_attrs=['data-testid="comparison-panel"']
        )
