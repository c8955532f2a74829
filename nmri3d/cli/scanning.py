"""Commands that scan: `scan` and `screenshot`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmri3d.cli.common import (
    AtOption,
    BackendOption,
    CorruptOption,
    DeviceOption,
    DtypeOption,
    FoilOption,
    JsonOption,
    ModelOption,
    RevisionOption,
    TargetOption,
    app,
    json_list,
    load_model,
    showing_progress,
)
from nmri3d.errors import InputError

if TYPE_CHECKING:
    from nmri3d.results import Scan, Tracts

AggregationOption = Annotated[str, typer.Option(help="fMRI: l2_norm, max, mean or raw.")]
StatisticOption = Annotated[
    str, typer.Option(help="T2: std, mean, max, l2, kurtosis, outlier_share, ov_norm or qk_norm.")
]


ModeOption = Annotated[
    str, typer.Option(help="T1, T2, fMRI, DTI or FLAIR; by default fMRI with a prompt and T1 without.")
]
MethodOption = Annotated[
    str, typer.Option(help="DTI: exact, atp (attribution patching), dla (direct logit attribution) or auto.")
]
EffectOption = Annotated[
    str | None, typer.Option(help="DTI: what replaces a write: patch (from --corrupt), mean or zero.")
]
EdgesOption = Annotated[
    str | None, typer.Option(help="DTI: eap, eap-ig or none; by default eap, none where there is no residual stream.")
]


@app.command()
def scan(
    prompt: Annotated[
        str | None, typer.Argument(help="What the model reads; fMRI, DTI and FLAIR need it, T1 and T2 take none.")
    ] = None,
    mode: ModeOption = "",
    model: ModelOption = "smollm2-135m",
    aggregation: AggregationOption = "l2_norm",
    statistic: StatisticOption = "std",
    layer: Annotated[list[int] | None, typer.Option(help="fMRI: scan this layer only; may be repeated.")] = None,
    position: Annotated[list[int] | None, typer.Option(help="fMRI: keep this token only; may be repeated.")] = None,
    level: Annotated[str, typer.Option(help="fMRI: component or neuron.")] = "component",
    corrupt: CorruptOption = None,
    target: TargetOption = None,
    foil: FoilOption = None,
    at: AtOption = -1,
    method: MethodOption = "auto",
    effect: EffectOption = None,
    edges: EdgesOption = None,
    share: Annotated[float, typer.Option(help="DTI: share of the total |score| that the listed edges carry.")] = 0.5,
    top: Annotated[int, typer.Option(min=1, help="How many components to list.")] = 12,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the scan (.npz), for nmri3d.open_scan.")] = None,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Scan a model and list its strongest components."""
    circuit = circuit_options(corrupt, target, foil, at, method, effect, edges) | {"share": share}
    options = scan_options(mode, prompt, aggregation=aggregation, statistic=statistic, circuit=circuit)
    if options["mode"] == "fMRI":
        options |= {"layers": layer, "positions": position, "level": level}
    with showing_progress() as progress:
        from nmri3d.scans import scan as run_scan

        loaded = load_model(model, device, dtype, revision, backend, progress)
        result = run_scan(loaded, prompt=prompt, progress=progress, **options)
    if out is not None:
        path = result.save(out)
        print(f"Saved to {path}", file=sys.stderr)
    print(json.dumps(_scan_json(result)) if as_json else _scan_text(result, top))


# -- what they print ---


def circuit_options(
    corrupt: str | None,
    target: str | None,
    foil: str | None,
    at: int,
    method: str,
    effect: str | None,
    edges: str | None,
) -> dict[str, Any]:
    """Options of a DTI scan, as nmri3d.scan takes them."""
    return {
        "corrupt": corrupt,
        "target": target,
        "foil": foil,
        "position": at,
        "method": method,
        "effect": effect,
        "edges": edges,
    }


def scan_options(
    mode: str, prompt: str | None, *, aggregation: str, statistic: str, circuit: dict[str, Any]
) -> dict[str, Any]:
    """Mode and options of a scan, checked before a model is loaded."""
    from nmri3d.scans.dispatch import canonical_mode, resolve_mode

    mode = canonical_mode(mode or ("T1" if prompt is None else "fMRI"))
    needs_prompt = resolve_mode(mode).needs_prompt
    if needs_prompt and prompt is None:
        raise InputError(f"the {mode} scan needs a prompt; pass the sentence to run")
    if not needs_prompt and prompt is not None:
        raise InputError(f"the {mode} scan looks at the weights and takes no prompt; leave it out")
    own = {"fMRI": {"aggregation": aggregation}, "T2": {"statistic": statistic}, "DTI": circuit}
    options = own.get(mode, {})
    resolve_mode(mode).config(**options)  # says at once what does not fit
    return {"mode": mode, **options}


def _scan_json(result: Scan) -> dict[str, Any]:
    """A scan as plain JSON; NaN, which JSON lacks, is null."""
    return {
        "mode": result.mode,
        "units": result.units,
        "tokens": list(result.tokens),
        "components": list(result.components.ids),
        "values": json_list(result.values),
        "provenance": vars(result.provenance),
        **({"tracts": _tracts_json(result)} if result.tracts is not None else {}),
        **(
            {"details": {name: json_list(value) for name, value in result.details.items()}}
            if result.mode != "T2"
            else {}
        ),
    }


def _tracts_json(result: Scan) -> dict[str, Any]:
    """The circuit that is drawn by default, and the sum over all edges."""
    assert result.tracts is not None
    drawn, ids = result.tracts.pruned(result.provenance.config["share"]), result.components.ids
    edges = zip(drawn.source.tolist(), drawn.target.tolist(), drawn.slot.tolist(), drawn.score.tolist(), strict=True)
    return {
        "edges": [{"source": ids[s], "target": ids[t], "slot": slot, "score": score} for s, t, slot, score in edges],
        "share": drawn.share,
        "measured": result.tracts.count,
        "total": result.tracts.total,
    }


def _scan_text(result: Scan, top: int) -> str:
    """The strongest components of a scan, as lines for people: their largest magnitude over the steps, and where."""
    import numpy as np

    magnitude = np.where(np.isfinite(result.values), np.abs(result.values), -1.0)
    best = magnitude.max(axis=0)
    lines = [f"{result.mode} of {result.provenance.model_id}, {result.units}"]
    if result.tokens:
        lines.append(f"{result.step_axis}s: " + " | ".join(repr(token)[1:-1] for token in result.tokens))
    for row in np.argsort(-best, kind="stable")[:top].tolist():
        step = int(magnitude[:, row].argmax())
        where = f"   at {result.step_axis} {step} {result.tokens[step]!r}" if result.tokens else ""
        value = result.values[step, row].item()
        number = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
        lines.append(f"  {result.components.ids[row]:<28} {number:>14}{where}")
    if result.tracts is not None:
        lines += _tracts_text(result, result.tracts, top)
    lines.append(f"{result.provenance.seconds:.3f} s")
    return "\n".join(lines)


def width_and_height(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise InputError(f"a size is width x height in pixels, such as 1920x1080; got {text!r}")
    return int(width), int(height)


def _tracts_text(result: Scan, tracts: Tracts, top: int) -> list[str]:
    """The strongest edges, and how faithful the circuit is."""
    drawn, ids = tracts.pruned(result.provenance.config["share"]), result.components.ids
    faithful = float(result.details["faithfulness"])
    lines = [
        f"{len(drawn):,} of {tracts.count:,} edges carry {drawn.share:.0%} of the total |score|; "
        f"faithfulness of that circuit {faithful:.3f}"
    ]
    for place in range(min(top, len(drawn))):
        names = f"{ids[drawn.source[place]]} → {ids[drawn.target[place]]} ({drawn.slot[place]})"
        lines.append(f"  {names:<60} {drawn.score[place]:>12,.6g}")
    return lines
