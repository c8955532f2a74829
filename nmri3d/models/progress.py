"""Progress of work that consists of parts.

Left out: showing it (page, terminal), which callers do with the function that they hand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

from nmri3d.models.backend import Progress


def part(progress: Progress, start: float, stop: float) -> Progress:
    """Progress of a part of the work: its 0..1 becomes start..stop of the whole."""

    def scaled(share: float, what: str) -> None:
        progress(start + (stop - start) * min(1.0, max(0.0, share)), what)

    return scaled


class ReportingBar:
    """Stands in for a tqdm bar: reports the share that is done instead of drawing it."""

    def __init__(self, progress: Progress, what: str, iterable: Iterable[Any] = (), total: float | None = None) -> None:
        self._progress, self._what, self._iterable = progress, what, iterable
        self._total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self.n: float = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update(1)

    def update(self, step: float | None = 1) -> None:
        self.n += step or 0
        if self._total:
            self._progress(self.n / self._total, self._what)

    def __enter__(self) -> ReportingBar:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        """Everything else that a bar can do (captions, closing) does nothing here."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **options: None
