"""The template of a network without a residual stream: its reference stimuli, each run once.

As `nmri3d.template.build`, with activations of parts in the place of writes, no neurons, no stream and no lens; beside the
pooled means the fMRI values are summed at each step by itself, as far as MIN_SAMPLES stimuli go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmri3d.models.backend import Progress
from nmri3d.models.unit_backend import UnitBackend
from nmri3d.template.moments import Moments, Writes
from nmri3d.template.template import MIN_SAMPLES, ActivityReference, Template


def build_activity_template(model: UnitBackend, texts: Sequence[str], progress: Progress) -> Template:
    """Run the stimuli through the network. `progress` may raise Cancelled."""
    layers = frozenset(range(model.info.n_layers))
    whole, value = model.write_plan("whole", layers), model.write_plan("l2_norm", layers)
    writes = Writes(model.components, model.info.d_model)
    by_step: list[Moments] = []
    for number, text in enumerate(texts):
        progress(number / len(texts), f"reference stimulus {number + 1} of {len(texts)}")
        run = model.run(model.stimulus(text), whole.reads)
        values = value.collect(run)
        writes.add(number, whole.collect(run), values, ranked_from=0)
        by_step += [Moments((len(model.components),)) for _ in range(len(values) - len(by_step))]
        for step, moments in enumerate(by_step[: len(values)]):
            moments.add(values[step : step + 1])
    steps = [*(moments for moments in by_step if moments.n >= MIN_SAMPLES), writes.norms]
    template = Template(
        fingerprint=model.info.fingerprint,
        model_id=model.info.model_id,
        components=model.components,
        **writes.fields(),
        residual_std=np.empty((0, model.info.d_model), np.float32),
        neuron_mean=np.empty(0, np.float32),
        neuron_std=np.empty(0, np.float32),
        embedding_std=float("nan"),
        final_distribution=np.full(model.info.d_vocab, np.nan, np.float32),
        activity=ActivityReference(
            mean=np.stack([moments.result()[0] for moments in steps]),
            std=np.stack([moments.result()[1] for moments in steps]),
            n=np.array([moments.n for moments in steps], dtype=np.int64),
            std_first=writes.first.result()[1],
        ),
    )
    progress(1.0, "template ready")
    return template
