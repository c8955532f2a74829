"""Commands that scan and write something to take away: `screenshot`, `movie` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmri3d.cli.common import (
    AggregationOption,
    AtOption,
    BackendOption,
    CorruptOption,
    DeviceOption,
    DtypeOption,
    FoilOption,
    ModelOption,
    RevisionOption,
    StatisticOption,
    TargetOption,
    app,
    load_model,
    showing_progress,
)
from nmri3d.cli.scanning import (
    EdgesOption,
    EffectOption,
    MethodOption,
    ModeOption,
    circuit_options,
    scan_options,
    width_and_height,
)

if TYPE_CHECKING:
    from nmri3d.jupyter import Brain
    from nmri3d.models.backend import Backend, Progress

PromptArgument = Annotated[
    str | None, typer.Argument(help="What the model reads; fMRI, DTI and FLAIR need it, T1 and T2 take none.")
]
LayoutOption = Annotated[str, typer.Option(help="anatomical, umap, spectral; or as balls: stack, radial, network.")]
SurfaceOption = Annotated[
    str, typer.Option(help="pial, inflated, white, sphere, flat; or balls: stack, radial, network.")
]
ViewOption = Annotated[str, typer.Option(help="lateral_left, medial_right, dorsal, ventral, anterior, posterior, …")]
SelectOption = Annotated[str | None, typer.Option(help="Component to mark, such as blocks.5.mlp.")]
TokenOption = Annotated[int, typer.Option(help="Token to show, counted from 0, or from the end by -1.")]
ColorBarOption = Annotated[bool, typer.Option("--color-bar/--no-color-bar", help="Draw the color bar.")]
HeaderOption = Annotated[bool, typer.Option("--header/--no-header", help="Draw the header and the tokens.")]
PaletteOption = Annotated[str, typer.Option(help="standard, or colorblind for colors that everybody can tell apart.")]


@app.command()
def screenshot(
    path: Annotated[Path, typer.Argument(help="PNG file to write.")],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="What the model reads (fMRI, DTI, FLAIR).")
    ] = None,
    mode: ModeOption = "",
    token: TokenOption = -1,
    layout: LayoutOption = "anatomical",
    surface: SurfaceOption = "pial",
    view: ViewOption = "lateral_left",
    select: SelectOption = None,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "1920x1080",
    dpi: Annotated[float, typer.Option(help="Pixels an inch, written into the file; text is sized by it.")] = 100,
    transparent: Annotated[bool, typer.Option("--transparent", help="No background.")] = False,
    color_bar: ColorBarOption = True,
    header: HeaderOption = True,
    palette: PaletteOption = "standard",
    model: ModelOption = "smollm2-135m",
    aggregation: AggregationOption = "l2_norm",
    statistic: StatisticOption = "std",
    corrupt: CorruptOption = None,
    target: TargetOption = None,
    foil: FoilOption = None,
    at: AtOption = -1,
    method: MethodOption = "auto",
    effect: EffectOption = None,
    edges: EdgesOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Write a picture of a scan, for a paper or a talk."""
    circuit = circuit_options(corrupt, target, foil, at, method, effect, edges)
    options = scan_options(mode, prompt, aggregation=aggregation, statistic=statistic, circuit=circuit)
    pixels = width_and_height(size)
    with showing_progress() as progress:
        loaded = load_model(model, device, dtype, revision, backend, _part(progress, 0.0, 0.4))
        with _shown(loaded, prompt, options, layout, surface, palette, token, _part(progress, 0.4, 0.9)) as brain:
            written = (
                brain.view(view)
                .select(select)
                .screenshot(path, size=pixels, dpi=dpi, transparent=transparent, color_bar=color_bar, header=header)
            )
    print(written)


@app.command()
def movie(
    prompt: PromptArgument = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .mp4, .webm or .gif.")] = Path("brain.mp4"),
    kind: Annotated[str, typer.Option(help="tokens (the prompt played through), turntable or morph.")] = "",
    mode: ModeOption = "",
    token: Annotated[int, typer.Option(help="Token that a turntable or a morph shows; -1 is the last.")] = -1,
    seconds: Annotated[float | None, typer.Option(help="Length of the whole movie.")] = None,
    hold: Annotated[float | None, typer.Option(help="Seconds a token; by default 0.5.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second; by default 30, 15 for a GIF.")] = None,
    size: Annotated[str | None, typer.Option(help="Width x height in pixels; by default 1280x720, 800x450.")] = None,
    morph_to: Annotated[
        str, typer.Option(help="Surface or layout of balls that a morph goes to, and comes back from.")
    ] = "inflated",
    layout: LayoutOption = "anatomical",
    surface: SurfaceOption = "pial",
    view: ViewOption = "lateral_left",
    select: SelectOption = None,
    color_bar: ColorBarOption = True,
    header: HeaderOption = True,
    palette: PaletteOption = "standard",
    model: ModelOption = "smollm2-135m",
    aggregation: AggregationOption = "l2_norm",
    statistic: StatisticOption = "std",
    corrupt: CorruptOption = None,
    target: TargetOption = None,
    foil: FoilOption = None,
    at: AtOption = -1,
    method: MethodOption = "auto",
    effect: EffectOption = None,
    edges: EdgesOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Write a movie of a scan: the tokens played through, one turn, or the surface unfolding."""
    from nmri3d.export.movie import movie_path

    out = movie_path(out)  # says at once what cannot be written
    pixels = None if size is None else width_and_height(size)
    circuit = circuit_options(corrupt, target, foil, at, method, effect, edges)
    options = scan_options(mode, prompt, aggregation=aggregation, statistic=statistic, circuit=circuit)
    kind = kind or ("tokens" if options["mode"] in ("fMRI", "FLAIR") else "turntable")
    with showing_progress() as progress:
        loaded = load_model(model, device, dtype, revision, backend, _part(progress, 0.0, 0.15))
        with _shown(loaded, prompt, options, layout, surface, palette, token, _part(progress, 0.15, 0.3)) as brain:
            brain.view(view).select(select)
            written = brain.movie(
                out,
                kind=kind,
                fps=fps,
                seconds=seconds,
                hold=hold,
                size=pixels,
                forms=(surface, morph_to),
                color_bar=color_bar,
                header=header,
                progress=_part(progress, 0.3, 1.0),
            )
    print(written)


@app.command()
def export(
    prompt: PromptArgument = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .glb (3D, VR), .html (a page of its own) or .vtm (VTK).")
    ] = Path("brain.glb"),
    mode: ModeOption = "",
    token: TokenOption = -1,
    layout: LayoutOption = "anatomical",
    surface: SurfaceOption = "pial",
    view: ViewOption = "lateral_left",
    select: SelectOption = None,
    palette: PaletteOption = "standard",
    model: ModelOption = "smollm2-135m",
    aggregation: AggregationOption = "l2_norm",
    statistic: StatisticOption = "std",
    corrupt: CorruptOption = None,
    target: TargetOption = None,
    foil: FoilOption = None,
    at: AtOption = -1,
    method: MethodOption = "auto",
    effect: EffectOption = None,
    edges: EdgesOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Write a scan as a 3D file: for viewers and VR headsets, as a page of its own, or for ParaView."""
    from nmri3d.export.scene_file import scene_file_path

    out = scene_file_path(out)  # says at once what cannot be written
    circuit = circuit_options(corrupt, target, foil, at, method, effect, edges)
    options = scan_options(mode, prompt, aggregation=aggregation, statistic=statistic, circuit=circuit)
    with showing_progress() as progress:
        loaded = load_model(model, device, dtype, revision, backend, _part(progress, 0.0, 0.4))
        with _shown(loaded, prompt, options, layout, surface, palette, token, _part(progress, 0.4, 0.9)) as brain:
            progress(0.95, "writing")
            written = brain.view(view).select(select).export(out)
    print(written)


def _shown(
    loaded: Backend,
    prompt: str | None,
    options: dict[str, Any],
    layout: str,
    surface: str,
    palette: str,
    token: int,
    progress: Progress,
) -> Brain:
    """The brain of a model with a fresh scan painted on it."""
    from nmri3d.jupyter import Brain
    from nmri3d.scans import scan
    from nmri3d.scene.colors import color_map

    colors = color_map(options["mode"], palette)  # before the scan: a wrong name says so at once
    result = scan(loaded, prompt=prompt, progress=progress, **options)
    progress(1.0, "drawing")
    return Brain(loaded, layout=layout, surface=surface).show(result, token=token, colors=colors)


def _part(progress: Progress, start: float, stop: float) -> Progress:
    from nmri3d.models.progress import part

    return part(progress, start, stop)
