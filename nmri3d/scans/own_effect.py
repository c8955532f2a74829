"""What one component by itself does to the logit lens, on demand: FLAIR's heads show their sub-layer's value otherwise.

At the point that the component's write w reaches first (a head: after its attention; an MLP, and every component of a
parallel block: after the block) the lens is taken of the residual x and of x - w:

    change          KL(lens(x) || lens(x - w)), nats: how much the write changes what the lens says there
    toward_final    KL(final || lens(x - w)) - KL(final || lens(x)), nats: positive where it brings the lens nearer to the
                    model's answer
    entropy_change  H(lens(x)) - H(lens(x - w)), nats: negative where it makes the lens more certain

Everything else in x stays as it was, and no later layer answers: an exact, direct effect on the lens, not on the model (for
that, ablate the component). Effects do not add up over components: the lens is not linear.
"""

from __future__ import annotations

import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.progress import part
from nmri3d.models.residual_backend import require_residual
from nmri3d.results import OwnEffect
from nmri3d.template.lens import LensRow, lens_reads, lens_rows, lens_statistics, stacked


def own_effect(model: Backend, prompt: str, component: str, *, progress: Progress = no_progress) -> OwnEffect:
    """Measure one component's own effect on the lens at every token; one pass and three unembeddings a token.

    Raises InputError for a component that the model does not have, and for `embed` and `unembed`, which have no such point.
    """
    whole = require_residual(model, "own_effect")
    row = model.components.row(component)
    kind, layer = str(model.components.kind[row]), int(model.components.layer[row])
    if layer < 0:
        raise InputError(
            f"{component} belongs to no layer, so the lens is taken nowhere beside it; choose a head or an MLP"
        )
    site = "mlp" if kind == "mlp" or model.info.parallel_blocks else "attn"
    [point] = lens_rows(model, (site,), frozenset({layer}))
    stimulus = model.stimulus(prompt)
    plan = model.write_plan("whole", frozenset({layer}))
    run = model.run(stimulus, {**plan.reads, **lens_reads([point])}, progress=part(progress, 0.0, 0.3))
    [residual], final = stacked(run.reads, [point])
    without = residual - torch.from_numpy(plan.collect(run)[:, row]).to(residual.device)
    both, alone = LensRow(layer, site, "with"), LensRow(layer, site, "without")
    to_final = lens_statistics(
        whole, (both, alone), torch.stack([residual, without]), final, progress=part(progress, 0.3, 0.8)
    )
    change = lens_statistics(whole, (alone,), without[None], residual, progress=part(progress, 0.8, 1.0))
    return OwnEffect(
        component=model.components.ids[row],
        layer=layer,
        site=site,
        tokens=stimulus.labels,
        change=change.kl[0],
        toward_final=to_final.kl[1] - to_final.kl[0],
        entropy_change=to_final.entropy[0] - to_final.entropy[1],
    )
