"""Commands about the phantoms: `phantom list | train | figures | answers`, and `calibrate`."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from nmri3d.cli.common import JsonOption, app, showing_progress
from nmri3d.errors import InputError

phantom = typer.Typer(no_args_is_help=True, help="Networks of known truth: list them, train them, see what is known.")
app.add_typer(phantom, name="phantom")

NameArgument = Annotated[str, typer.Argument(help="sprout, biohama, world-model, cerebellum or induction.")]


@phantom.command("list")
def list_phantoms(json_output: JsonOption = False) -> None:
    """Name the phantoms: what they are, and what was shipped of them. With --json all that their trainers measured."""
    from nmri3d.phantoms.calibrating import kept_nulls
    from nmri3d.phantoms.registry import PHANTOMS, folder_of
    from nmri3d.phantoms.training import STUDY

    paths = {name: folder_of(name) / "metrics.json" for name in PHANTOMS}
    found = {name: json.loads(path.read_text()) if path.is_file() else None for name, path in paths.items()}
    if json_output:
        print(json.dumps(found, indent=2))
        return
    for name, metrics in found.items():
        study, nulls = folder_of(name) / STUDY, kept_nulls(name)
        shipped = [f"{metrics['parameters']:,} parameters"] if metrics else ["not trained yet"]
        shipped += [f"a study of {len(json.loads(study.read_text()))} runs"] if study.is_file() else []
        shipped += [f"{len(nulls.largest)} null networks"] if nulls else []
        print(f"phantom:{name:<12} {PHANTOMS[name].about}\n{'':<20} {', '.join(shipped)}")


@phantom.command()
def train(
    name: NameArgument,
    seed: Annotated[int | None, typer.Option(help="By default the seed of the shipped network.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the weights and figures, or with --study for the figures of its runs."),
    ] = None,
    study: Annotated[
        bool, typer.Option("--study", help="All seeds, baselines and ablations. Goes on where it was stopped.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings, such as 'modules: 8'; biohama only. See its config.py.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Train a phantom from its seed and measure it on held-out data.

    Without --out it is written to phantoms/NAME under the present folder; what is shipped stays as it is.
    """
    from nmri3d.phantoms import training
    from nmri3d.phantoms.registry import keep, recipe_of

    recipe = recipe_of(name)
    folder = Path("phantoms") / (f"{name}-study" if study else name) if out is None else out
    if config is not None:
        configured = getattr(recipe, "configured", None)
        if configured is None:
            raise InputError(f"{name} takes no settings from a file; leave out --config")
        recipe = configured(config)
    if study:
        if seed is not None or config is not None:
            raise InputError("a study has its own seeds and settings; leave out --seed and --config, or --study")
        with showing_progress() as progress:
            print(training.study(recipe, folder, progress))
        return
    with showing_progress() as progress:
        network, figures = recipe.ship(recipe.shipped_seed if seed is None else seed, progress)
    keep(name, network, figures, folder)
    print(json.dumps(figures, indent=2) if json_output else _listed(figures))
    if not json_output:
        print(f"written to {folder}")


@phantom.command()
def figures(name: NameArgument) -> None:
    """The tables of the study that was shipped with a phantom: seeds, baselines, ablations."""
    from nmri3d.phantoms.registry import folder_of, recipe_of
    from nmri3d.phantoms.training import STUDY, tables_of

    path = folder_of(name) / STUDY
    if not path.is_file():
        raise InputError(f"no study was shipped with {name}; make one with: nmri3d phantom train {name} --study")
    print(tables_of(recipe_of(name), path))


@phantom.command()
def answers(name: NameArgument, json_output: JsonOption = False) -> None:
    """What is known to be true inside a phantom, and how it is known."""
    from dataclasses import asdict

    from nmri3d.phantoms.registry import shipped

    truths = shipped(name).answer_key()
    if json_output:
        print(json.dumps([asdict(truth) for truth in truths], indent=2))
        return
    for truth in truths:
        shown = ", ".join(truth.components[:6]) + (
            f", … ({len(truth.components)})" if len(truth.components) > 6 else ""
        )
        print(f"{truth.name} (by {truth.known_by})\n    {truth.statement}\n    {shown}")


@app.command()
def calibrate(
    names: Annotated[list[str] | None, typer.Argument(help="Phantoms; by default all.")] = None,
    nulls: Annotated[
        int, typer.Option(help="Measure so many null networks anew, at least 100, and keep them beside the weights.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for report.md, report.json and brain pictures.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Scan networks of known truth and tell which truths the scanner finds. Exit code 1 where one is missed."""
    from nmri3d.phantoms.calibrating import NULL_NETWORKS, keep_nulls, measure_nulls
    from nmri3d.phantoms.calibrating import calibrate as calibrate_one
    from nmri3d.phantoms.registry import load_phantom, shipped_names
    from nmri3d.phantoms.report import as_markdown, as_values

    if nulls and nulls < NULL_NETWORKS:
        raise InputError(f"the threshold needs at least {NULL_NETWORKS} null networks, got {nulls}")
    calibrations = []
    with showing_progress() as progress:
        for name in names or shipped_names():
            if nulls:
                keep_nulls(name, measure_nulls(name, nulls, progress))
            calibrations.append(calibrate_one(name, progress))
        if out is not None:
            from nmri3d.cli.calibration_pictures import write_pictures

            out.mkdir(parents=True, exist_ok=True)
            for calibration in calibrations:
                progress(0.0, f"pictures of {calibration.phantom}")
                with closing(load_phantom(calibration.phantom, device="cpu")) as backend:
                    write_pictures(calibration, backend, out)
            (out / "report.md").write_text(as_markdown(calibrations) + "\n")
            (out / "report.json").write_text(json.dumps(as_values(calibrations), indent=1) + "\n")
    print(json.dumps(as_values(calibrations), indent=2) if json_output else as_markdown(calibrations))
    if not all(calibration.passed for calibration in calibrations):
        raise typer.Exit(1)


def _listed(figures: object) -> str:
    import yaml  # type: ignore[import-untyped]

    return str(yaml.safe_dump(dict(figures), sort_keys=False, default_flow_style=None, width=110))  # type: ignore[call-overload]
