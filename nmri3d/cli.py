"""The command line: `nmri3d serve | scan | screenshot | atlas | models | doctor`.

Convention. Data goes to stdout, progress and errors to stderr. A progress bar on a terminal, plain lines without one. Exit
codes: 0 done, 1 failed, 2 bad usage. Nothing heavy is imported before a command needs it.

Left out: the work itself; a command parses, calls and prints.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmri3d import __version__
from nmri3d.errors import InputError, Nmri3dError

if TYPE_CHECKING:
    from nmri3d.models.backend import Backend, Progress
    from nmri3d.results import Scan

app = typer.Typer(
    name="nmri3d",
    help="Neural MRI in 3D: see inside a language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="smollm2-135m, a Hugging Face id, a folder or a .gguf file.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AggregationOption = Annotated[str, typer.Option(help="fMRI: l2_norm, max, mean or raw.")]
StatisticOption = Annotated[
    str, typer.Option(help="T2: std, mean, max, l2, kurtosis, outlier_share, ov_norm or qk_norm.")
]


class Render(StrEnum):
    """Where the page's 3D view is drawn."""

    client = "client"
    remote = "remote"


def main() -> None:
    """Entry point: errors of ours become one sentence and an exit code."""
    try:
        app()
    except InputError as error:
        _fail(error, 2)
    except Nmri3dError as error:
        _fail(error, 1)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Neural MRI in 3D: see inside a language model."""
    if version:
        print(f"nmri3d {__version__}")
        raise typer.Exit


@app.command()
def serve(
    model: ModelOption = "smollm2-135m",
    host: Annotated[
        str, typer.Option(help="Address to listen on; off this machine a token is always needed.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; by default 8765, or a free one if that is taken.")] = None,
    token: Annotated[
        str | None, typer.Option(help="Token of the address; by default a new one. '' for none, on this machine only.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Further host name under which the page may be reached.")
    ] = None,
    render: Annotated[
        Render, typer.Option(help="Draw the brain in the browser, or send pictures of it.")
    ] = Render.client,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
) -> None:
    """Open the page: type a prompt, scan, step through its tokens, click a region."""
    from nmri3d.app.serve import run

    run(
        host=host,
        port=port,
        token=token,
        allowed_hosts=allow_host or (),
        open_browser=open_browser,
        model=model,
        device=device,
        dtype=dtype,
        revision=revision,
        render=render.value,
    )


@app.command()
def scan(
    prompt: Annotated[
        str | None, typer.Argument(help="What the model reads; fMRI needs it, T1 and T2 take none.")
    ] = None,
    mode: Annotated[str, typer.Option(help="T1, T2 or fMRI; by default fMRI with a prompt and T1 without.")] = "",
    model: ModelOption = "smollm2-135m",
    aggregation: AggregationOption = "l2_norm",
    statistic: StatisticOption = "std",
    layer: Annotated[list[int] | None, typer.Option(help="fMRI: scan this layer only; may be repeated.")] = None,
    position: Annotated[list[int] | None, typer.Option(help="fMRI: keep this token only; may be repeated.")] = None,
    level: Annotated[str, typer.Option(help="fMRI: component or neuron.")] = "component",
    top: Annotated[int, typer.Option(min=1, help="How many components to list.")] = 12,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the scan (.npz), for nmri3d.open_scan.")] = None,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
) -> None:
    """Scan a model and list its strongest components."""
    options = _scan_options(mode, prompt, aggregation=aggregation, statistic=statistic)
    if options["mode"] == "fMRI":
        options |= {"layers": layer, "positions": position, "level": level}
    with _progress() as progress:
        from nmri3d.scans import scan as run_scan

        backend = _load(model, device, dtype, revision, progress)
        result = run_scan(backend, prompt=prompt, progress=progress, **options)
    if out is not None:
        path = result.save(out)
        print(f"Saved to {path}", file=sys.stderr)
    print(json.dumps(_scan_json(result)) if as_json else _scan_text(result, top))


@app.command()
def screenshot(
    path: Annotated[Path, typer.Argument(help="PNG file to write.")],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="What the model reads (fMRI).")] = None,
    mode: Annotated[str, typer.Option(help="T1, T2 or fMRI; by default fMRI with a prompt and T1 without.")] = "",
    token: Annotated[int, typer.Option(help="Token to show, counted from 0, or from the end by -1.")] = -1,
    surface: Annotated[str, typer.Option(help="pial, inflated, white or sphere.")] = "pial",
    view: Annotated[
        str, typer.Option(help="lateral_left, medial_right, dorsal, ventral, anterior, posterior, …")
    ] = "lateral_left",
    select: Annotated[str | None, typer.Option(help="Component to mark, such as blocks.5.mlp.")] = None,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "1920x1080",
    dpi: Annotated[float, typer.Option(help="Pixels an inch, written into the file; text is sized by it.")] = 100,
    transparent: Annotated[bool, typer.Option("--transparent", help="No background.")] = False,
    color_bar: Annotated[bool, typer.Option("--color-bar/--no-color-bar", help="Draw the color bar.")] = True,
    header: Annotated[bool, typer.Option("--header/--no-header", help="Draw the header and the tokens.")] = True,
    palette: Annotated[
        str, typer.Option(help="standard, or colorblind for colors that everybody can tell apart.")
    ] = "standard",
    model: ModelOption = "smollm2-135m",
    aggregation: AggregationOption = "l2_norm",
    statistic: StatisticOption = "std",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
) -> None:
    """Write a picture of a scan, for a paper or a talk."""
    from nmri3d.scene.colors import color_map

    options = _scan_options(mode, prompt, aggregation=aggregation, statistic=statistic)
    width_height = _size(size)
    colors = color_map(options["mode"], palette)
    with _progress() as progress:
        from nmri3d.jupyter import Brain
        from nmri3d.scans import scan as run_scan

        backend = _load(model, device, dtype, revision, progress)
        result = run_scan(backend, prompt=prompt, progress=progress, **options)
        progress(0.9, "drawing")
        with Brain(backend, surface=surface) as brain:
            brain.show(result, token=token, colors=colors).view(view).select(select)
            written = brain.screenshot(
                path, size=width_height, dpi=dpi, transparent=transparent, color_bar=color_bar, header=header
            )
    print(written)


@app.command()
def atlas(
    model: ModelOption = "smollm2-135m",
    layout: Annotated[str, typer.Option(help="How components are laid out: anatomical.")] = "anatomical",
    area: Annotated[str, typer.Option(help="What a parcel's area follows: parameters or equal.")] = "parameters",
    resolution: Annotated[str, typer.Option(help="auto, fsaverage5, fsaverage6 or fsaverage7.")] = "auto",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
) -> None:
    """Lay a model out on the cortex and print how good the map is."""
    with _progress() as progress:
        from nmri3d.atlas import Atlas

        backend = _load(model, device, dtype, revision, progress)
        progress(0.8, "dividing the cortex")
        built = Atlas.build(backend, layout=layout, area=area, resolution=resolution)
    if as_json:
        print(json.dumps({name: _number(value) for name, value in built.quality.items()}))
        return
    print(
        f"{backend.info.title}: {len(backend.components.cortical)} components on {len(built.faces):,} faces, layout {layout}"
    )
    for name, value in built.quality.items():
        print(f"  {name:<34} {value:.6g}")


@app.command()
def models(as_json: JsonOption = False) -> None:
    """List the models that are known by name, and which of them are on this disk."""
    from nmri3d.models import catalog

    entries = catalog()
    if as_json:
        names = ("model_id", "title", "family", "n_params", "download_bytes", "memory_bytes", "cached", "gated", "note")
        print(json.dumps([{name: getattr(entry, name) for name in names} for entry in entries], indent=1))
        return
    from nmri3d.models.budget import human_bytes

    for entry in entries:
        size = f"{entry.n_params / 1e6:,.0f} M" if entry.n_params else ""
        state = (
            "on disk"
            if entry.cached
            else f"fetches {human_bytes(entry.download_bytes)}"
            if entry.download_bytes
            else "to fetch"
        )
        marks = ", ".join(mark for mark in (state, "gated" if entry.gated else "", entry.note) if mark)
        print(f"{entry.model_id:<40} {size:>8}  {marks}")


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also hash every byte of the embedded model.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, and tell what is missing and how to mend it."""
    from nmri3d.doctor import diagnose

    findings = []
    for finding in diagnose(deep=deep):
        findings.append(finding)
        if not as_json:
            print(f"{finding.state:<5} {finding.name:<22} {finding.detail}")
            if finding.remedy:
                print(f"{'':<28} → {finding.remedy}")
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


# -- what the commands share --------------------------------------------------------------------------------------------


def _load(model: str, device: str, dtype: str, revision: str | None, progress: Progress) -> Backend:
    from nmri3d.models import load

    return load(model, device=device, dtype=dtype, revision=revision, progress=progress)


def _scan_options(mode: str, prompt: str | None, *, aggregation: str, statistic: str) -> dict[str, Any]:
    """Mode and options of a scan, checked before a model is loaded."""
    from nmri3d.scans.dispatch import canonical_mode, resolve_mode

    mode = canonical_mode(mode or ("T1" if prompt is None else "fMRI"))
    needs_prompt = resolve_mode(mode).needs_prompt
    if needs_prompt and prompt is None:
        raise InputError(f"the {mode} scan needs a prompt; pass the sentence to run")
    if not needs_prompt and prompt is not None:
        raise InputError(f"the {mode} scan looks at the weights and takes no prompt; leave it out")
    return {
        "mode": mode,
        **({"aggregation": aggregation} if mode == "fMRI" else {"statistic": statistic} if mode == "T2" else {}),
    }


def _scan_json(result: Scan) -> dict[str, Any]:
    """A scan as plain JSON; NaN, which JSON lacks, is null."""
    return {
        "mode": result.mode,
        "units": result.units,
        "tokens": list(result.tokens),
        "components": list(result.components.ids),
        "values": [[_number(value) for value in row] for row in result.values.tolist()],
        "provenance": vars(result.provenance),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scan_text(result: Scan, top: int) -> str:
    """The strongest components of a scan, as lines for people: their largest magnitude over the tokens, and where."""
    import numpy as np

    magnitude = np.where(np.isfinite(result.values), np.abs(result.values), -1.0)
    best = magnitude.max(axis=0)
    lines = [f"{result.mode} of {result.provenance.model_id}, {result.units}"]
    if result.tokens:
        lines.append("tokens: " + " | ".join(repr(token)[1:-1] for token in result.tokens))
    for row in np.argsort(-best, kind="stable")[:top].tolist():
        step = int(magnitude[:, row].argmax())
        where = f"   at token {step} {result.tokens[step]!r}" if result.tokens else ""
        value = result.values[step, row].item()
        number = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
        lines.append(f"  {result.components.ids[row]:<28} {number:>14}{where}")
    lines.append(f"{result.provenance.seconds:.3f} s")
    return "\n".join(lines)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise InputError(f"a size is width x height in pixels, such as 1920x1080; got {text!r}")
    return int(width), int(height)


@contextmanager
def _progress() -> Iterator[Callable[[float, str], None]]:
    """Progress on stderr: a bar on a terminal, else a line whenever something new begins."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=1.0)
            yield lambda share, what: bar.update(task, completed=share, description=what)
        return
    said = {"starting"}

    def say(share: float, what: str) -> None:
        stage = what.split(" of ")[0].rstrip("0123456789 ")  # "layer 3 of 30" is one stage, not thirty
        if stage not in said and not stage.startswith(("blocks.", "layer")):
            said.add(stage)
            print(what, file=sys.stderr)

    yield say


def _fail(error: Nmri3dError, code: int) -> None:
    print(f"nmri3d: {error}", file=sys.stderr)
    sys.exit(code)
