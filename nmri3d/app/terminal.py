"""What `nmri3d serve` says on its terminal: the address, a progress bar while a model loads, what went wrong.

Convention. The address goes to stdout, everything else to stderr. A bar where stderr is a terminal, plain lines where it
is a file or a pipe, one each time something new begins.

Left out: the log (logs.py), and what is said where the log is JSON.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any

from nmri3d.service import Service
from nmri3d.service.events import Event, ModelFailed, ModelLoading, ModelReady


class Terminal:
    """Shows a service's loads as long as it is entered. Thread-safe, as events come from worker threads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._bar: Any = None
        self._said = ""

    def __enter__(self) -> Terminal:
        self._unsubscribe = self._service.subscribe(self._on_event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsubscribe()
        with self._lock:
            self._end_bar()

    def say(self, *lines: str) -> None:
        """Write lines to stdout at once, also where it is a pipe."""
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Tell something that a person should know."""
        with self._lock:
            self._tell(f"Note: {text}")

    def _on_event(self, event: Event) -> None:
        with self._lock:
            match event:
                case ModelLoading(name, share, what) if sys.stderr.isatty():
                    self._show_bar(name, share, what)
                case ModelLoading(name, _, what) if what != self._said:
                    self._said = what
                    self._tell(f"{name}: {what}")
                case ModelReady(info):
                    self._end_bar()
                    self._tell(f"{info.title} is ready ({info.n_params:,} parameters, {info.dtype}, {info.device}).")
                    for warning in info.warnings:
                        self._tell(f"Note: {warning}")
                case ModelFailed(name, message, _, cancelled):
                    self._end_bar()
                    self._tell(message if cancelled else f"{name} could not be loaded. {message}")

    def _show_bar(self, name: str, share: float, what: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            self._bar = Progress(
                TextColumn("{task.fields[model]}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._bar.add_task(what, total=1.0, model=name)
        self._bar.update(self._bar.task_ids[0], completed=share, description=what, model=name)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _tell(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
