"""Right column: the tools (layer summary, paths, heads, lens, trace, sweep, layout), one open at a time; stimulation (the
selected component, and what can be done to it); comparison (what the model predicts, before and after)."""

from trame.widgets import html

from nmri3d.app.panels import template

TOOLS = ("layers", "paths", "heads", "lens", "trace", "sweep", "layout")


def build() -> None:
    """Add the column to the open layout."""
    with html.Aside(classes=("['side', { wide: nmri.store.wide }]",)):
        with html.Section(classes="panel tools", raw_attrs=['aria-label="Tools"']):
            html.Div(template("side_tabs"), classes="tool-tabs")
            for name in TOOLS:
                html.Div(
                    template(f"tool_{name}"),
                    v_if=(f"nmri.store.tool === '{name}'",),
                    classes=f"tool tool-{name}",
                    raw_attrs=['role="tabpanel"', f'data-testid="panel-{name}"', f'aria-labelledby="tool-{name}"'],
                )
        html.Section(
            template("side_stimulation"),
            classes=("['panel', 'stimulation', { folded: nmri.store.folded.stimulation }]",),
            raw_attrs=['data-testid="stimulation-panel"'],
        )
        html.Section(
            template("side_comparison"),
            classes=("['panel', 'comparison', { folded: nmri.store.folded.comparison }]",),
            raw_attrs=['data-testid="comparison-panel"'],
        )
