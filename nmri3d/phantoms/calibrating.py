"""Calibrating the scanner on a phantom: its checks, and the null phantoms that say how large a z chance gives.

Convention. `nmri3d.phantoms.calibration` says when a truth is found. A null phantom is the same network with fresh weights,
asked for the trained network's answers: what scans find there is chance, or the shape of the network. Its largest z over all
checks of the phantom is one sample; the threshold is the 95th percentile of at least 100 such samples. They are kept beside
the weights, with the fingerprint of the weights, the names of the checks that they belong to, and the largest z of the null
network that a report shows: where that one is another now, a check measures otherwise than when the samples were taken.

Left out: pictures (the command makes them of each check's scan); null networks that were trained on shuffled targets (a
hundred trainings a phantom, minutes each): what training alone brings about is not in the threshold.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.progress import part
from nmri3d.phantoms.backend import open_module
from nmri3d.phantoms.calibration import Check, Finding, is_found, judge
from nmri3d.phantoms.registry import PHANTOMS, folder_of, load_phantom, shipped, untrained
from nmri3d.phantoms.training import write_figures
from nmri3d.template.access import templates_kept_in

NULL_NETWORKS = 100
FAMILYWISE = 0.95
FIRST_NULL_SEED = 1_000
FRESH_SEED = 900_000
"""Seed of the null network that a report shows; it is not among those that set the threshold."""
SAME = 0.2
"""By how much its largest z may differ from that which was kept: another machine rounds otherwise."""


@dataclass(frozen=True)
class Nulls:
    """The largest z of each null network, float [networks], that of the one that a report shows, and what they belong to."""

    fingerprint: str
    checks: tuple[str, ...]
    largest: tuple[float, ...]
    fresh: float

    @property
    def threshold(self) -> float:
        """The z above which a finding counts; the larger neighbor where the percentile lies between two samples."""
        return float(np.quantile(self.largest, FAMILYWISE, method="higher"))


@dataclass(frozen=True)
class Result:
    """What a check gave, and whether its truth is found."""

    check: Check
    finding: Finding
    found: bool


@dataclass(frozen=True)
class Calibration:
    """The checks of a phantom, on the trained network and on one fresh null network.

    networks   how many null networks the threshold comes from
    """

    phantom: str
    title: str
    fingerprint: str
    threshold: float
    networks: int
    results: tuple[Result, ...]
    null_results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Every planted truth is found, and the null network yields nothing."""
        return all(result.found for result in self.results) and not any(result.found for result in self.null_results)


def checks_of(name: str) -> tuple[Check, ...]:
    """The planted truths of a phantom."""
    shipped(name)  # says in words what is missing
    checks: tuple[Check, ...] = import_module(f"{PHANTOMS[name].package}.calibration").checks()
    return checks


def calibrate(name: str, progress: Progress = no_progress) -> Calibration:
    """Scan a phantom and its null for every planted truth.

    Raises InputError where the null networks were not measured for these weights and checks.
    """
    checks = checks_of(name)
    nulls = kept_nulls(name)
    names = tuple(check.name for check in checks)
    with closing(load_phantom(name, device="cpu")) as backend:
        info = backend.info
        if nulls is None or (nulls.fingerprint, nulls.checks) != (info.fingerprint, names):
            raise _stale(name)
        results = _results(checks, backend, nulls.threshold, part(progress, 0.0, 0.5), "trained")
    with null_network(name, FRESH_SEED) as null:
        null_results = _results(
            [check.on_nulls for check in checks], null, nulls.threshold, part(progress, 0.5, 1.0), "null"
        )
    if abs(max(result.finding.z for result in null_results) - nulls.fresh) > SAME:
        raise _stale(name)
    return Calibration(
        phantom=name,
        title=info.title,
        fingerprint=info.fingerprint,
        threshold=nulls.threshold,
        networks=len(nulls.largest),
        results=results,
        null_results=null_results,
    )


def measure_nulls(name: str, networks: int = NULL_NETWORKS, progress: Progress = no_progress) -> Nulls:
    """The largest z of the checks on each of `networks` null networks."""
    checks = checks_of(name)
    largest = []
    for number, seed in enumerate((*range(FIRST_NULL_SEED, FIRST_NULL_SEED + networks), FRESH_SEED)):
        progress(number / (networks + 1), f"null network {number + 1} of {networks + 1} of {name}")
        with null_network(name, seed) as backend:
            largest.append(max(judge(check.on_nulls, backend).z for check in checks))
    progress(1.0, f"null networks of {name} measured")
    with closing(load_phantom(name, device="cpu")) as trained:
        fingerprint = trained.info.fingerprint
    return Nulls(fingerprint, tuple(check.name for check in checks), tuple(largest[:-1]), largest[-1])


def kept_nulls(name: str) -> Nulls | None:
    """The samples that are kept beside the weights; None where there are none."""
    path = _nulls_path(name)
    if not path.is_file():
        return None
    kept = json.loads(path.read_text())
    return Nulls(kept["fingerprint"], tuple(kept["checks"]), tuple(kept["largest"]), kept["fresh"])


def keep_nulls(name: str, nulls: Nulls) -> Path:
    """Write the samples beside the weights."""
    path = _nulls_path(name)
    write_figures(path, asdict(nulls))
    return path


def _stale(name: str) -> InputError:
    return InputError(
        f"the null networks of {name} were measured for other weights or checks; measure them anew with: "
        f"nmri3d calibrate {name} --nulls {NULL_NETWORKS}"
    )


@contextmanager
def null_network(name: str, seed: int) -> Iterator[Backend]:
    """A phantom with fresh weights as a backend, whose template is thrown away with it."""
    settings = json.loads((folder_of(name) / "metrics.json").read_text())["settings"]
    torch.manual_seed(seed)
    network = untrained(name, settings).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory(prefix="nmri3d-null-") as folder, templates_kept_in(Path(folder)):
        backend = open_module(name, network, device="cpu")
        try:
            yield backend
        finally:
            backend.close()


def _results(
    checks: Sequence[Check], backend: Backend, threshold: float, progress: Progress, which: str
) -> tuple[Result, ...]:
    results = []
    for number, check in enumerate(checks):
        progress(number / len(checks), f"{which} network: {check.name}")
        finding = judge(check, backend)
        results.append(Result(check, finding, is_found(check, finding, threshold)))
    return tuple(results)


def _nulls_path(name: str) -> Path:
    return folder_of(name) / "nulls.json"
