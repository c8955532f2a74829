"""The logit-lens table: the likeliest tokens at every point of the residual stream and every position.

Values are those of `nmri3d.template.lens`: the model's own final norm and unembedding applied early, softmax over the
whole vocabulary. The last row is the model's own answer. Early rows are read by an unembedding that was never trained to
read them: what they show is what the model would say if it stopped there, not what it "thinks".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.checks import require_choice, require_layers
from nmri3d.models.progress import part
from nmri3d.models.residual_backend import require_residual
from nmri3d.results import LensTable
from nmri3d.template.lens import SITES, lens_rows, lens_statistics, read_residuals


def logit_lens(
    model: Backend,
    prompt: str,
    *,
    k: int = 5,
    layers: Sequence[int] | None = None,
    sites: Sequence[str] = SITES,
    progress: Progress = no_progress,
) -> LensTable:
    """The table for a prompt. One pass, and an unembedding a row and position.

    Raises InputError for a k, layer or site that does not exist, for a prompt that cannot be run, and for a network without
    a lens.
    """
    whole = require_residual(model, "lens")
    if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= model.info.d_vocab:
        raise InputError(f"k is a whole number from 1 to {model.info.d_vocab:,}, the size of the vocabulary; got {k!r}")
    if isinstance(sites, str) or not sites:
        raise InputError(f"sites is a list of {' and '.join(SITES)}, got {sites!r}")
    for site in sites:
        require_choice("a site", site, SITES)
    rows = lens_rows(model, sites, require_layers(model, layers))
    if not rows:
        raise InputError("layers is an empty list, so there is nothing to show; leave it out for all")
    stimulus = model.stimulus(prompt)
    shape = (len(rows), len(stimulus), k)
    token_ids, probabilities = np.empty(shape, np.int64), np.empty(shape, np.float32)

    def keep(lines: slice, columns: slice, logits: torch.Tensor, log_total: torch.Tensor) -> None:
        best, ids = logits.topk(k, dim=-1)
        token_ids[lines, columns] = ids.cpu()
        probabilities[lines, columns] = (best.cpu() - log_total[..., None]).exp()

    residuals, final = read_residuals(model, stimulus, rows, progress=part(progress, 0.0, 0.2))
    measured = lens_statistics(whole, rows, residuals, final, visit=keep, progress=part(progress, 0.2, 1.0))
    text_of = {token: model.token_text(token) for token in np.unique(token_ids).tolist()}
    return LensTable(
        tokens=stimulus.labels,
        labels=tuple(f"{row.layer} {row.site}" for row in rows),
        sites=tuple(row.site for row in rows),
        layers=np.array([row.layer for row in rows], dtype=np.int64),
        token_ids=token_ids,
        texts=np.array([text_of[token] for token in token_ids.ravel().tolist()], dtype=np.str_).reshape(shape),
        probabilities=probabilities,
        kl=measured.kl,
        entropy=measured.entropy,
    )
