"""Commands about the machine, the models and the page: `serve`, `atlas`, `models`, `doctor`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from nmri3d.cli.common import (
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    RevisionOption,
    app,
    json_number,
    load_model,
    showing_progress,
)


class Render(StrEnum):
    """Where the page's 3D view is drawn."""

    client = "client"
    remote = "remote"


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
def atlas(
    model: ModelOption = "smollm2-135m",
    layout: Annotated[str, typer.Option(help="anatomical, umap or spectral.")] = "anatomical",
    area: Annotated[str, typer.Option(help="What a parcel's area follows: parameters or equal.")] = "parameters",
    features: Annotated[
        str, typer.Option(help="What components are compared by: weights, or functional (over the reference text).")
    ] = "weights",
    resolution: Annotated[str, typer.Option(help="auto, fsaverage5, fsaverage6 or fsaverage7.")] = "auto",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Lay a model out on the cortex and print how good the map is."""
    with showing_progress() as progress:
        from nmri3d.atlas import Atlas
        from nmri3d.template import layout_features

        loaded = load_model(model, device, dtype, revision, backend, progress)
        progress(0.8, "dividing the cortex")
        given = layout_features(loaded, features, progress)
        built = Atlas.build(loaded, layout=layout, area=area, resolution=resolution, features=given, progress=progress)
    if as_json:
        print(json.dumps({name: json_number(value) for name, value in built.quality.items()}))
        return
    print(
        f"{loaded.info.title}: {len(loaded.components.cortical)} components on {len(built.faces):,} faces, layout {layout}"
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
