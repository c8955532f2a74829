"""How the commands that intervene print their results: JSON for programs, lines for people.

Left out: scans, which `nmri3d.cli.scanning` prints.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nmri3d.cli.common import json_list

if TYPE_CHECKING:
    from nmri3d.results import Comparison, Heatmap, Prediction, Sweep


def comparison_json(result: Comparison) -> dict[str, Any]:
    """The result as plain JSON; NaN is null."""
    return {
        "before": [asdict(one) for one in result.before],
        "after": [asdict(one) for one in result.after],
        "token": asdict(result.token),
        "logit_after": result.logit_after,
        "logit_diff": result.logit_diff,
        "probability_after": result.probability_after,
        "kl": result.kl,
        "tokens": list(result.tokens),
        "components": list(result.components.ids),
        "values_before": json_list(result.values_before),
        "values_after": json_list(result.values_after),
        "edits": list(result.edits),
        "provenance": vars(result.provenance),
    }


def comparison_text(result: Comparison, top: int) -> str:
    """Answers side by side, and the components that changed most."""
    import numpy as np

    lines = [f"{'before':<32}after"]
    for one, other in list(zip(result.before, result.after, strict=True))[:top]:
        lines.append(f"  {_answer(one):<30}{_answer(other)}")
    name = repr(result.token.token) if result.outputs == "logits" else result.token.token
    lines.append(f"{'logit of ' if result.outputs == 'logits' else ''}{name}: {result.logit_before:.4f} to "
                 f"{result.logit_after:.4f} ({result.logit_diff:+.4f})")  # fmt: skip
    if result.kl is not None:
        lines.append(f"KL(before || after): {result.kl:.6g} nats")
    lines.append(f"most affected components, change of the {result.units} where it is largest")
    change = np.nan_to_num(result.change)
    for row in result.ranked(top).tolist():
        step = int(np.abs(change[:, row]).argmax())
        name = result.components.ids[row]
        lines.append(
            f"  {name:<28} {change[step, row]:>+14,.6g}   at {result.step_axis} {step} {result.tokens[step]!r}"
        )
    return "\n".join(lines)


def _answer(one: Prediction) -> str:
    """A candidate with its probability, or a signal with its value."""
    return f"{one.token} {one.logit:.6g}" if one.probability is None else f"{one.token!r} {one.probability:.3f}"


def heatmap_json(result: Heatmap) -> dict[str, Any]:
    """The result as plain JSON; NaN is null."""
    names = (
        "sites",
        "tokens",
        "corrupt_tokens",
        "clean_metric",
        "corrupt_metric",
        "target",
        "foil",
        "marked",
        "method",
    )
    return {
        **{name: getattr(result, name) for name in names},
        "note": result.note,
        "values": json_list(result.values),
        "stderr": json_list(result.stderr),
        "provenance": vars(result.provenance),
    }


def heatmap_text(result: Heatmap) -> str:
    """A block a site: rows layers, columns tokens, recovery in percent."""
    import numpy as np

    lines = [
        f"recovery of the logit of {result.target[0]!r} minus that of {result.foil[0]!r}, in percent; "
        f"clean {result.clean_metric:.4f}, corrupted {result.corrupt_metric:.4f} ({result.method})"
    ]
    if result.marked:
        lines.append("noise on " + ", ".join(f"{position} {result.tokens[position]!r}" for position in result.marked))
    if result.note:
        lines.append(result.note)
    shown = [p for p in range(len(result.tokens)) if not np.isnan(result.values[:, :, p]).all()]
    for place, site in enumerate(result.sites):
        lines.append(f"{site:<6}" + "".join(f"{result.tokens[p][:7]!r:>10}" for p in shown))
        for layer in range(result.values.shape[1]):
            row = result.values[place, layer, shown]
            if not np.isnan(row).all():
                lines.append(
                    f"{layer:>5} " + "".join("          " if np.isnan(v) else f"{100 * v:>10.1f}" for v in row)
                )
    return "\n".join(lines)


def sweep_json(result: Sweep) -> dict[str, Any]:
    """The result as plain JSON; NaN is null."""
    return {
        "units": result.units,
        "clean_metric": result.clean_metric,
        "target": result.target,
        "foil": result.foil,
        "effect": result.effect,
        "components": list(result.components.ids),
        "values": json_list(result.values),
        "provenance": vars(result.provenance),
    }


def sweep_text(result: Sweep, top: int) -> str:
    """The components whose loss changes the metric most."""
    lines = [f"{result.units} under {result.effect!r}; without an edit it is {result.clean_metric:.4f}"]
    table = result.to_pandas().head(top)
    lines += [f"  {name:<28} {value:>+14.6g}" for name, value in zip(table.component, table.value, strict=True)]
    lines.append(f"{result.provenance.seconds:.3f} s")
    return "\n".join(lines)
