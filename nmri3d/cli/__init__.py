"""The command line: `nmri3d serve | scan | perturb | trace | sweep | lens | generate | bench | screenshot |
movie | export | phantom | calibrate | …`.

Convention. Exit codes: 0 done, 1 failed, 2 bad usage. `--json` where a command prints data. Nothing heavy is imported
before a command needs it.

Left out: the work itself; a command parses, calls and prints.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nmri3d import __version__
from nmri3d.cli import machine, measuring, phantoms, scanning, sessions, taking
from nmri3d.cli.common import app
from nmri3d.errors import InputError, Nmri3dError

__all__ = ["app", "machine", "main", "measuring", "phantoms", "scanning", "sessions", "taking"]


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


def _fail(error: Nmri3dError, code: int) -> None:
    print(f"nmri3d: {error}", file=sys.stderr)
    sys.exit(code)
