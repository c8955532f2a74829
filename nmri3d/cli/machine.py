"""Commands about the machine, the models and the page: `serve`, `atlas`, `models`, `doctor`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
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


class LogFormat(StrEnum):
    """How the server's log is written."""

    text = "text"
    json = "json"


class LogLevel(StrEnum):
    """What the server's log tells at least."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


_SECURITY = "Who may come in"
_RUNNING = "Leaving it running"


@app.command()
def serve(
    model: ModelOption = "smollm2-135m",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all. Off this machine a token is always needed.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; by default 8765, or a free one if that is taken.")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    render: Annotated[
        Render, typer.Option(help="Draw the brain in the browser, or send pictures of it.")
    ] = Render.client,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run the Python code that comes with --model, and with no other; off means never.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="NMRI3D_TOKEN",
            help="Token of the address; by default a new one. '' for none, on this machine only.",
            rich_help_panel=_SECURITY,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Further host name under which it may be called, as a proxy's.", rich_help_panel=_SECURITY),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="PEM file of a certificate: speak https and wss.", rich_help_panel=_SECURITY),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(help="PEM file of its private key, if not in the same file.", rich_help_panel=_SECURITY),
    ] = None,
    frame_ancestors: Annotated[
        str,
        typer.Option(
            help="Pages that may show this one in a frame: none, self, or addresses such as 'http://localhost:8888'.",
            rich_help_panel=_SECURITY,
        ),
    ] = "none",
    models_from: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that local models may be loaded from, besides --model. By default all of this machine; none where "
            "others can call (--host, --allow-host).",
            rich_help_panel=_SECURITY,
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(min=0.0, help="Requests a second of one caller; 0 for no limit.", rich_help_panel=_SECURITY),
    ] = 50.0,
    sessions: Annotated[
        Path | None,
        typer.Option(help="Folder of recorded sessions; by default your data folder.", rich_help_panel=_RUNNING),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="Log on stderr for people, or a JSON object a line.", rich_help_panel=_RUNNING)
    ] = LogFormat.text,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            help="Least that is logged; info has each request.",
            show_default="text: warning, json: info",
            rich_help_panel=_RUNNING,
        ),
    ] = None,
) -> None:
    """Open the page: type a prompt, scan, step through its tokens, click a region. Programs use the same address: /docs."""
    from nmri3d.app.ending import leave_at_once
    from nmri3d.app.serve import run

    ended = run(
        host=host,
        port=port,
        token=token,
        allowed_hosts=allow_host or (),
        frame_ancestors=frame_ancestors,
        tls_cert=tls_cert,
        tls_key=tls_key,
        models_from=models_from or None,
        sessions=sessions,
        rate=rate,
        render=render.value,
        open_browser=open_browser,
        model=model,
        device=device,
        dtype=dtype,
        revision=revision,
        backend=backend,
        trust_remote_code=trust_remote_code,
        log_format=log_format.value,
        log_level=None if log_level is None else log_level.value,
    )
    if not ended:
        leave_at_once(0)


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
    """List the models that are known by name, phantoms among them, and which of them are on this disk."""
    from nmri3d.service.catalog import offered_models

    entries = offered_models()
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
