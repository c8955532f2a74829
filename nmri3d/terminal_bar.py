"""A progress bar on a terminal, for the commands and for a `Brain` that works long.

Left out: what is said where there is no terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[float, str], None]


@contextmanager
def terminal_bar(what: str) -> Iterator[tuple[Progress, Any]]:
    """A bar on standard error that is gone at the end: what moves it (share, what is done), and rich's own `Progress`."""
    from rich import progress as rich
    from rich.console import Console

    columns = (rich.BarColumn(), rich.TaskProgressColumn(), rich.TextColumn("{task.description}"))
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what), bar


@contextmanager
def bar_where_none(progress: Progress | None) -> Iterator[Progress | None]:
    """The progress that was handed in; without one a bar on a terminal, else nothing."""
    if progress is not None or not sys.stderr.isatty():
        yield progress
    else:
        with terminal_bar("drawing") as (told, _):
            yield told
