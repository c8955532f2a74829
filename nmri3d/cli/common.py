"""What the commands share: options, progress on a terminal, loading, and asking before a long run.

Convention. Data goes to stdout, progress and errors to stderr. A progress bar on a terminal, plain lines without one.
Nothing heavy is imported before a command needs it.

Left out: the commands.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmri3d.errors import InputError

if TYPE_CHECKING:
    from nmri3d.models.backend import Backend, Progress

app = typer.Typer(
    name="nmri3d",
    help="Neural MRI in 3D: see inside a language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="smollm2-135m, a Hugging Face id, a folder, a .gguf file, or phantom:NAME.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
BackendOption = Annotated[
    str,
    typer.Option(help="auto, transformer_lens, nnsight, or ndif to run on NDIF's machines (NDIF_API_KEY is the key)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AggregationOption = Annotated[str, typer.Option(help="fMRI: l2_norm, max, mean or raw.")]
StatisticOption = Annotated[
    str, typer.Option(help="T2: std, mean, max, l2, kurtosis, outlier_share, ov_norm or qk_norm.")
]
TargetOption = Annotated[
    str | None, typer.Option(help="Token whose logit counts, such as ' Mary'; by default the likeliest next token.")
]
FoilOption = Annotated[
    str | None, typer.Option(help="Token whose logit is taken away, such as ' John'; by default the runner-up.")
]
AtOption = Annotated[int, typer.Option("--at", help="Position whose next token it is about; -1 is the last.")]
CorruptOption = Annotated[str | None, typer.Option(help="Corrupted (counterfactual) prompt of equally many tokens.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a run of over a minute.")]

ASK_ABOVE = 60.0
"""Seconds above which a run asks before it starts."""


def load_model(model: str, device: str, dtype: str, revision: str | None, backend: str, progress: Progress) -> Backend:
    """The model of a command's options."""
    from nmri3d.models import load

    if backend == "ndif":
        return load(model, backend="nnsight", remote=True, revision=revision, progress=progress)
    return load(model, backend=backend, device=device, dtype=dtype, revision=revision, progress=progress)


def asking(yes: bool) -> Callable[[float], bool]:
    """Asks before a run of over a minute; without a terminal, `--yes` must have said so."""

    def confirm(seconds: float) -> bool:
        if yes or seconds <= ASK_ABOVE:
            return True
        if not sys.stdin.isatty():
            raise InputError(
                f"this run will take about {seconds:.0f} s; pass --yes to run it, or fewer components, layers or positions"
            )
        with _paused():
            return typer.confirm(f"This run will take about {seconds:.0f} s. Go on?", default=True, err=True)

    return confirm


_bars: list[Any] = []
"""The progress bar that is on the terminal now, if any."""


@contextmanager
def _paused() -> Iterator[None]:
    """Without the progress bar, so that a question can be asked."""
    for bar in _bars:
        bar.stop()
    try:
        yield
    finally:
        for bar in _bars:
            bar.start()


def json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def json_list(values: Any) -> Any:
    """An array as nested lists; NaN, which JSON lacks, is null."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(listed, list):
        return [json_list(value) for value in listed]
    return json_number(listed) if isinstance(listed, float) else listed


@contextmanager
def showing_progress() -> Iterator[Callable[[float, str], None]]:
    """Progress on stderr: a bar on a terminal, else a line whenever something new begins."""
    if sys.stderr.isatty():
        from nmri3d.terminal_bar import terminal_bar

        with terminal_bar("starting") as (report, bar):
            _bars.append(bar)
            try:
                yield report
            finally:
                _bars.remove(bar)
        return
    said = {"starting"}

    def say(share: float, what: str) -> None:
        stage = what.split(" of ")[0].rstrip("0123456789 ")  # "layer 3 of 30" is one stage, not thirty
        if stage not in said and not stage.startswith(("blocks.", "layer")):
            said.add(stage)
            print(what, file=sys.stderr)

    yield say
