"""Commands that intervene and look inside: `perturb`, `trace`, `sweep`, `lens`, `generate`, `bench`."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
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
    YesOption,
    app,
    asking,
    json_list,
    load_model,
    showing_progress,
)
from nmri3d.cli.printing import (
    comparison_json,
    comparison_text,
    heatmap_json,
    heatmap_text,
    sweep_json,
    sweep_text,
)
from nmri3d.errors import InputError

if TYPE_CHECKING:
    from nmri3d.perturbation import Edit

PromptArgument = Annotated[str, typer.Argument(help="What the model reads.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Save the result (.npz).")]
TopOption = Annotated[int, typer.Option(min=1, help="How many components to list.")]

_EDIT = re.compile(r"(?P<kind>[a-z]+)(:(?P<number>[^\s]+))?\s+(?P<component>[^@\s]+)(@(?P<positions>-?\d+(,-?\d+)*))?")


@app.command()
def perturb(
    prompt: PromptArgument,
    edit: Annotated[
        list[str],
        typer.Option(
            "--edit",
            "-e",
            help="KIND[:NUMBER] COMPONENT[@POSITIONS], such as 'zero blocks.3.attn.head_7', 'amplify:3 blocks.5.mlp@4,5', "
            "'noise:0.5 embed', 'ablate blocks.0.mlp', 'invert blocks.5.mlp.neuron_7', 'patch blocks.8.attn.head_2', "
            "'inject:values.npy blocks.5.hook_resid_pre'; may be repeated.",
        ),
    ],
    source: Annotated[str | None, typer.Option(help="Prompt that 'patch' takes its values from.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of 'noise'.")] = 0,
    top: TopOption = 10,
    out: OutOption = None,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Silence, amplify or replace components, and compare the answer and every activation."""
    edits = [parse_edit(text, source=source, seed=seed) for text in edit]
    with showing_progress() as progress:
        from nmri3d.perturbation import perturb as run

        loaded = load_model(model, device, dtype, revision, backend, progress)
        result = run(loaded, prompt, edits, k=min(max(top, 5), max(loaded.info.d_vocab, 5)), progress=progress)
    _save(result, out)
    print(json.dumps(comparison_json(result)) if as_json else comparison_text(result, top))


@app.command()
def trace(
    prompt: PromptArgument,
    corrupt: CorruptOption = None,
    target: TargetOption = None,
    foil: FoilOption = None,
    at: AtOption = -1,
    site: Annotated[list[str] | None, typer.Option(help="resid, attn or mlp; may be repeated; by default all.")] = None,
    window: Annotated[int, typer.Option(help="Layers restored at once.")] = 1,
    layer: Annotated[list[int] | None, typer.Option(help="Measure this layer only; may be repeated.")] = None,
    position: Annotated[list[int] | None, typer.Option(help="Measure this position only; may be repeated.")] = None,
    mark: Annotated[
        list[int] | None, typer.Option(help="Position to make noisy; may be repeated; by default the most telling one.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of the noise.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    out: OutOption = None,
    yes: YesOption = False,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Causal tracing: which layer and position, restored, brings the answer back. Noise where no prompt is given to compare."""
    with showing_progress() as progress:
        from nmri3d.perturbation import trace as run

        loaded = load_model(model, device, dtype, revision, backend, progress)
        result = run(
            loaded,
            prompt,
            corrupt,
            target=target,
            foil=foil,
            position=at,
            sites=tuple(site) if site else ("resid", "attn", "mlp"),
            window=window,
            layers=layer,
            positions=position,
            marked=mark,
            draws=draws,
            seed=seed,
            confirm=asking(yes),
            progress=progress,
        )
    _save(result, out)
    print(json.dumps(heatmap_json(result)) if as_json else heatmap_text(result))


@app.command()
def sweep(
    prompt: PromptArgument,
    effect: Annotated[
        str | None, typer.Option(help="zero, mean or patch; by default patch with --corrupt, else zero.")
    ] = None,
    corrupt: CorruptOption = None,
    target: TargetOption = None,
    foil: FoilOption = None,
    at: AtOption = -1,
    component: Annotated[list[str] | None, typer.Option(help="Only this component; may be repeated.")] = None,
    top: TopOption = 12,
    out: OutOption = None,
    yes: YesOption = False,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Take every component away, one at a time, and measure what the answer loses. Exact."""
    with showing_progress() as progress:
        from nmri3d.perturbation import ablate_all

        loaded = load_model(model, device, dtype, revision, backend, progress)
        result = ablate_all(
            loaded,
            prompt,
            target=target,
            foil=foil,
            effect=effect or ("zero" if corrupt is None else "patch"),
            corrupt=corrupt,
            components=component,
            position=at,
            confirm=asking(yes),
            progress=progress,
        )
    _save(result, out)
    print(json.dumps(sweep_json(result)) if as_json else sweep_text(result, top))


@app.command()
def lens(
    prompt: PromptArgument,
    k: Annotated[int, typer.Option("-k", min=1, help="Tokens a cell.")] = 1,
    at: Annotated[list[int] | None, typer.Option(help="Show this position only; may be repeated.")] = None,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """The logit lens: which next token each layer's residual stands for."""
    with showing_progress() as progress:
        from nmri3d.scans.logit_lens import logit_lens

        loaded = load_model(model, device, dtype, revision, backend, progress)
        table = logit_lens(loaded, prompt, k=k, progress=progress)
    if as_json:
        names = ("tokens", "labels", "sites", "layers", "token_ids", "texts", "probabilities", "kl", "entropy")
        print(json.dumps({name: json_list(getattr(table, name)) for name in names}))
        return
    from nmri3d.models.checks import require_indices

    for column in require_indices("position", at if at else range(len(table.tokens)), len(table.tokens), "the prompt"):
        print(f"after {table.tokens[column]!r} (position {column})")
        for row, label in enumerate(table.labels):
            cells = zip(table.texts[row, column], table.probabilities[row, column], strict=True)
            print(f"  {label:<10} " + "   ".join(f"{text!r} {probability:.3f}" for text, probability in cells))


@app.command()
def generate(
    prompt: PromptArgument,
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="How many tokens to write at most.")] = 20,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the scan of the whole text (.npz).")] = None,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Let the model write on, scanning each token as it comes: a line a token, with its strongest component."""
    with showing_progress() as progress:
        from nmri3d.scans.generation import Generation

        loaded = load_model(model, device, dtype, revision, backend, progress)
        generation = Generation(loaded, prompt, tokens, temperature=temperature, seed=seed)
    import numpy as np

    while not generation.done:
        step = generation.step(loaded)
        values = np.nan_to_num(step.scan.values[-1], nan=-1)
        best = int(values.argmax())
        record = asdict(step.token) | {"strongest": step.scan.components.ids[best], "value": float(values[best])}
        if as_json:
            print(json.dumps(record), flush=True)
        else:
            name = f"{step.token.token!r}"
            print(f"{name:<20} {step.token.probability:.3f}   {record['strongest']} {values[best]:,.6g}", flush=True)
    _save(step.scan, out)


@app.command()
def bench(
    faithfulness: Annotated[
        bool, typer.Option("--faithfulness", help="How well fast methods agree with exact interventions.")
    ] = False,
    flair: Annotated[bool, typer.Option("--flair", help="What FLAIR can tell of right and wrong answers.")] = False,
    stories: Annotated[bool, typer.Option("--stories", help="IOI heads, a traced fact, an induction head.")] = False,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
    backend: BackendOption = "auto",
) -> None:
    """Validation reports: measured on this machine, printed as they come out."""
    if not (faithfulness or flair or stories):
        raise InputError("choose a report: --faithfulness, --flair or --stories (several at once if you like)")
    reports: dict[str, Any] = {}
    with showing_progress() as progress:
        loaded = load_model(model, device, dtype, revision, backend, progress)
        if faithfulness:
            from nmri3d.bench.faithfulness import faithfulness_report

            reports["faithfulness"] = faithfulness_report(loaded, progress=progress)
        if flair:
            from nmri3d.bench.flair import evaluate

            reports["flair"] = evaluate(loaded, progress=progress)
        if stories:
            from nmri3d.bench.stories import stories_report

            reports["stories"] = stories_report(loaded, progress=progress)
    if as_json:
        print(json.dumps({name: report.as_record() for name, report in reports.items()}))
    else:
        print("\n\n".join(str(report) for report in reports.values()))


# -- reading edits, saving results -----------------------------------------------------------------------------------


def parse_edit(text: str, *, source: str | None = None, seed: int = 0) -> Edit:
    """An edit from `KIND[:NUMBER] COMPONENT[@POSITIONS]`. Raises InputError with the form that is understood."""
    from nmri3d.perturbation import Edit

    match = _EDIT.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"{text!r} is no edit; write KIND[:NUMBER] COMPONENT[@POSITIONS], such as 'zero blocks.3.attn.head_7' or "
            "'amplify:3 blocks.5.mlp@4,5'"
        )
    kind, number = match["kind"], match["number"]
    options: dict[str, Any] = {}
    if match["positions"]:
        options["positions"] = [int(position) for position in match["positions"].split(",")]
    if kind == "inject":
        options["values"] = _values(number)
    elif number is not None:
        name = {"amplify": "factor", "noise": "sigma"}.get(kind)
        if name is None:
            raise InputError(f"only amplify, noise and inject take something after the colon; got {text!r}")
        try:
            options[name] = float(number)
        except ValueError:
            raise InputError(f"{number!r} in {text!r} is not a number") from None
    if kind == "patch":
        options["source"] = source
    return Edit(match["component"], kind, seed=seed, **options)


def _values(path: str | None) -> Any:
    import numpy as np

    if path is None:
        raise InputError(
            "inject takes a .npy file of numbers after the colon, such as 'inject:values.npy blocks.5.mlp'"
        )
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a .npy file of numbers ({error})") from None


def _save(result: Any, out: Path | None) -> None:
    if out is not None:
        print(f"Saved to {result.save(out)}", file=sys.stderr)
