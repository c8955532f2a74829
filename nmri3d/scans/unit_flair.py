"""FLAIR of a network without a residual stream: which parts are unlike themselves, and at which step.

There is no logit lens, so the reference is the part's own activity on the reference stimuli (`nmri3d.template`), at the same
step where there are enough of them:

    z = (a - mean) / std        a the fMRI value: the L2 norm of a part's activation, the signed activation of a single unit
    value = |z|                 in standard deviations

The norm is taken of a wide part, rather than the mean |z| of its units, because it finds a part that fell silent: no norm is
further below the usual one than 0, whereas units that vary about zero are each at their most usual when they are silent (parts
of an untrained BioHama, silenced or not: AUROC 1.00 by the norm, 0.44 by the mean |z|). What it does not see is a part that is
as strong as ever with another pattern.

A high value says that a part is unlike what it does on the reference stimuli, not that anything is wrong. `summary` is the mean
|z| over the parts at each step. With `edits` the prompt is run under them, so that a lesion can be looked for.

Cost: one pass (the template once a network). Does not show what a part does to the answer.
"""

from __future__ import annotations

import time

import numpy as np

from nmri3d.errors import InputError
from nmri3d.models.backend import Progress
from nmri3d.models.checks import require_indices, require_layers
from nmri3d.models.progress import part
from nmri3d.models.provenance import provenance
from nmri3d.models.unit_backend import UnitBackend
from nmri3d.perturbation.edits import site_edits
from nmri3d.results import Scan
from nmri3d.scans.flair_config import FlairConfig
from nmri3d.template.access import available, template_of


def scan_unit_flair(model: UnitBackend, prompt: str, config: FlairConfig, progress: Progress) -> Scan:
    """Return a Scan with float32 values [steps, components]: |z|, NaN where a part is silent by its nature.

    details: z float32 [steps, components], signed; summary float32 [steps]; position int64 [steps], special bool [steps].

    Raises InputError for options that need a lens, and for what cannot be scanned.
    """
    started = time.perf_counter()
    config.require_only("layers", "positions", "template", "edits", of=model.info.title)
    if config.template == "off" or (config.template == "ready" and not available(model)):
        raise InputError(
            f"FLAIR of {model.info.title} compares with its reference stimuli, so it needs the template; take "
            "template='auto', or fMRI for activity as it is"
        )
    layers = require_layers(model, config.layers)
    stimulus = model.stimulus(prompt)
    positions = range(len(stimulus)) if config.positions is None else config.positions
    chosen = np.array(require_indices("position", positions, len(stimulus), "the stimulus"), dtype=np.int64)
    activity = template_of(model, progress=part(progress, 0.0, 0.8)).activity
    assert activity is not None
    plan = model.write_plan("l2_norm", layers)
    changes = site_edits(model, stimulus, config.edits, progress=part(progress, 0.8, 0.9))
    values = plan.collect(model.run(stimulus, plan.reads, edits=changes))[chosen]
    z = activity.z(values, chosen)
    progress(1.0, "done")
    record = {
        "layers": None if config.layers is None else sorted(layers),
        "positions": None if config.positions is None else chosen.tolist(),
        "edits": [edit.as_record() for edit in config.edits],
        "template": f"{int(activity.n[0])} reference stimuli",
    }
    there = ~np.isnan(z)
    return Scan(
        mode="FLAIR",
        values=np.abs(z),
        units="standard deviations from the reference stimuli, |z|",
        components=model.components,
        tokens=tuple(stimulus.labels[position] for position in chosen),
        provenance=provenance(model, started, record, prompt),
        step_axis=model.step_axis,
        details={
            "z": z,
            "summary": (np.where(there, np.abs(z), 0).sum(axis=1) / np.maximum(1, there.sum(axis=1))).astype(
                np.float32
            ),
            "position": chosen,
            "special": stimulus.special[chosen],
        },
    )
