"""`nmri3d.scan`: choose a scan by the name of its mode, and refuse what it does not know before the model starts.

Left out: caching, queueing and events, which are the service's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.results import MODES, Scan
from nmri3d.scans.dti import scan_dti
from nmri3d.scans.dti_config import DtiConfig
from nmri3d.scans.flair import scan_flair
from nmri3d.scans.flair_config import FlairConfig
from nmri3d.scans.fmri import FmriConfig, scan_fmri
from nmri3d.scans.t1 import T1Config, scan_t1
from nmri3d.scans.t2 import T2Config, scan_t2


@dataclass(frozen=True)
class ScanMode:
    """A mode: its options' class, its function, and whether it needs a prompt."""

    config: type
    run: Callable[..., Scan]
    needs_prompt: bool


SCANS: dict[str, ScanMode] = {
    "T1": ScanMode(T1Config, scan_t1, needs_prompt=False),
    "T2": ScanMode(T2Config, scan_t2, needs_prompt=False),
    "fMRI": ScanMode(FmriConfig, scan_fmri, needs_prompt=True),
    "DTI": ScanMode(DtiConfig, scan_dti, needs_prompt=True),
    "FLAIR": ScanMode(FlairConfig, scan_flair, needs_prompt=True),
}
"""The five scans."""


def scan(
    model: Backend, mode: str, prompt: str | None = None, *, progress: Progress = no_progress, **options: Any
) -> Scan:
    """Scan a model.

    mode is "T1", "T2", "fMRI", "DTI" or "FLAIR" (any case). `prompt` is needed by the last three and refused by the others.
    Options are those of T1Config, T2Config, FmriConfig, DtiConfig and FlairConfig.
    `progress(share, what)` is called while the work goes on and may raise Cancelled.

    Raises InputError for an unknown mode or option, and for a prompt that cannot be scanned.
    """
    chosen = resolve_mode(mode)
    known = {field.name for field in fields(chosen.config)}
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(sorted(known)) or 'none'}"
            raise InputError(f"the {canonical_mode(mode)} scan has no option {name!r}; {hint}")
    config = chosen.config(**options)
    if chosen.needs_prompt:
        if prompt is None:
            raise InputError(f"the {canonical_mode(mode)} scan needs a prompt; pass the sentence to run")
        return chosen.run(model, prompt, config, progress=progress)
    if prompt is not None:
        raise InputError(f"the {canonical_mode(mode)} scan looks at the weights and takes no prompt; leave it out")
    return chosen.run(model, config, progress=progress)


def canonical_mode(mode: str) -> str:
    """The mode's name as it is written, from any case. Raises InputError for a name that is no mode."""
    by_lower = {name.lower(): name for name in MODES}
    found = by_lower.get(mode.lower()) if isinstance(mode, str) else None
    if found is None:
        raise InputError(f"there is no scan {mode!r}; the scans are {', '.join(MODES)}")
    return found


def resolve_mode(mode: str) -> ScanMode:
    """The scan of a mode. Raises InputError for a mode that does not exist."""
    return SCANS[canonical_mode(mode)]
