"""What a DTI scan says beside its node scores: the metric, how it was measured, and on what.

Left out: the measuring (`nmri3d.scans.dti` with a residual stream, `nmri3d.scans.unit_dti` without).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmri3d.models.backend import Backend, Stimulus
from nmri3d.models.provenance import provenance
from nmri3d.perturbation.metric import Metric
from nmri3d.results import Scan, Tracts
from nmri3d.scans.dti_config import DtiConfig


def dti_scan(
    model: Backend,
    stimulus: Stimulus,
    config: DtiConfig,
    started: float,
    metric: Metric,
    clean: float,
    baseline: str,
    method: str,
    values: np.ndarray,
    found: Mapping[str, np.ndarray],
    tracts: Tracts | None = None,
) -> Scan:
    """A scan of node scores [components]; `clean` is the metric of the clean run, `baseline` the effect that was measured.

    `found` adds details, or replaces the baseline's metric and the faithfulness, which are NaN without edges.
    """
    edges = "none" if tracts is None else config.edges
    record = {
        "corrupt": config.corrupt,
        "target": metric.texts[0],
        "foil": metric.texts[1],
        "position": metric.position,
        "method": method,
        "effect": None if method == "dla" else baseline,
        "baseline": baseline,
        "edges": edges,
        "steps": config.steps if edges == "eap-ig" else None,
        "share": None if tracts is None else config.share,
    }
    details: dict[str, object] = {
        "prompt_tokens": np.array(stimulus.labels),
        "position": np.int64(metric.position),
        "target": np.int64(metric.target),
        "foil": np.int64(-1 if metric.foil is None else metric.foil),
        "clean_metric": np.float64(clean),
        "baseline_metric": np.float64(np.nan),
        "faithfulness": np.float64(np.nan),
        **found,
    }
    return Scan(
        mode="DTI",
        values=values[None],
        units=f"share of the {metric.units}" if method == "dla" else f"change of the {metric.units}",
        components=model.components,
        tokens=(),
        provenance=provenance(model, started, record, stimulus.text),
        signed=True,
        step_axis=model.step_axis,
        details={name: np.asarray(value) for name, value in details.items()},
        tracts=tracts,
    )
