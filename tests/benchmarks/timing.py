"""Paired timing in one process, peak memory of a piece of work, and how a figure is printed."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the report: what was measured, in words that carry the unit, and the bound that the project set."""

    name: str
    value: str
    reach: str = ""

    def __str__(self) -> str:
        return f"  {self.name:<62} {self.value:>22}   {self.reach}"


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def paired(ours: Callable[[], Any], reference: Callable[[], Any], *, pairs: int) -> tuple[float, float, float]:
    """Median ratio ours / reference over pairs, and both medians in seconds. One warm-up each."""
    ours(), reference()
    times = []
    gc.disable()
    try:
        for _ in range(pairs):
            times.append((seconds(ours), seconds(reference)))
    finally:
        gc.enable()
    ratio = statistics.median(a / b for a, b in times)
    return ratio, statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def best(work: Callable[[], Any], *, times: int) -> float:
    """Smallest wall time of several calls: the work itself, without what else the machine did."""
    return min(seconds(work) for _ in range(times))


def peak_memory(work: Callable[[], Any]) -> int:
    """Bytes by which the resident set at its peak exceeded the resident set before (Linux)."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024
