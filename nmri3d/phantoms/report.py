"""The calibration report as Markdown and as plain JSON values.

Convention. Effects are AUROCs with the size that was fixed beforehand beside them; margins are differences to what must be
reached, so a negative one is a miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nmri3d.phantoms.calibrating import Calibration, Result


def as_markdown(calibrations: Sequence[Calibration]) -> str:
    """A table a phantom, and a line on its null network."""
    blocks = []
    for calibration in calibrations:
        lines = [
            f"### {calibration.title}",
            "",
            "| planted truth | scan | effect (least) | z (null allows) | p | |",
            "|---|---|---|---|---|---|",
            *(_line(result, calibration.threshold) for result in calibration.results),
            "",
            f"Null network: {sum(result.found for result in calibration.null_results)} of "
            f"{len(calibration.null_results)} found; largest z "
            f"{max(result.finding.z for result in calibration.null_results):.1f} "
            f"(threshold from {calibration.networks} random networks).",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_values(calibrations: Sequence[Calibration]) -> list[dict[str, Any]]:
    """The same as plain JSON values, with the leading candidates of every check."""
    return [
        {
            "phantom": calibration.phantom,
            "fingerprint": calibration.fingerprint,
            "passed": calibration.passed,
            "threshold_z": calibration.threshold,
            "null_networks": calibration.networks,
            "checks": [_values(result, calibration.threshold) for result in calibration.results],
            "null": [_values(result, calibration.threshold) for result in calibration.null_results],
        }
        for calibration in calibrations
    ]


def _line(result: Result, threshold: float) -> str:
    check, finding = result.check, result.finding
    return (
        f"| {check.planted} | {check.scan} | {finding.effect:.3f} ({check.least:g}) | {finding.z:.1f} ({threshold:.1f}) | "
        f"{finding.p:.4f} | {'found' if result.found else 'MISSED'} |"
    )


def _values(result: Result, threshold: float) -> dict[str, Any]:
    check, finding = result.check, result.finding
    return {
        "name": check.name,
        "scan": check.scan,
        "planted": check.planted,
        "expected": check.expected,
        "found": result.found,
        "effect": finding.effect,
        "least_effect": check.least,
        "effect_margin": finding.effect - check.least,
        "z": finding.z,
        "z_margin": finding.z - threshold,
        "p": finding.p,
        "candidates": finding.n_candidates,
        "true_candidates": finding.n_true,
        "leading": [{"name": name, "score": score, "true": true} for name, score, true in finding.leading],
    }
