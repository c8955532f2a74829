"""Building a template: the reference text through the model, one passage after the other, each once.

Every pass reads the whole writes of all components, the neurons' activations and, at sampled positions, the residuals of
all lens points; the sums stay, the writes go. Sums are float64. The lens is taken at position 0 of every passage, and at up
to SAMPLED positions of each later stratum, drawn with a fixed seed: the unembedding at every layer is what costs.
The mean final distribution u is summed over all positions 1.., and the rarity of each sampled point is worked out at the
end, from u without the point's own passage.

A passage that is longer than the model's context is cut at a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, Stimulus, no_progress
from nmri3d.models.progress import part
from nmri3d.models.residual_backend import ResidualBackend, as_residual
from nmri3d.models.unit_backend import as_units
from nmri3d.template.activity import build_activity_template
from nmri3d.template.lens import (
    POSITIONS,
    LensRow,
    LensStatistics,
    crossed,
    lens_reads,
    lens_rows,
    lens_statistics,
    own_distribution,
    stacked,
)
from nmri3d.template.moments import Moments, Writes
from nmri3d.template.reference import reference_of
from nmri3d.template.template import LensReference, Template, stratum_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nmri3d.models.backend import Reducer

SAMPLED = (1, 1, 2)
"""Positions a passage, by stratum, at which the lens is taken."""

SEED = 0


def build_template(model: Backend, *, texts: Sequence[str] | None = None, progress: Progress = no_progress) -> Template:
    """Run the reference text (or `texts`) through the model.

    `progress` is called after every passage and may raise Cancelled. Raises InputError where no passage fits the model.
    """
    texts = reference_of(model) if texts is None else texts
    whole = as_residual(model)
    if whole is None:
        return build_activity_template(as_units(model), texts, progress)
    layers = frozenset(range(model.info.n_layers))
    plan = model.write_plan("whole", layers)
    rows = lens_rows(model) if "lens" in model.abilities else ()
    writes = Writes(model.components, model.info.d_model)
    neurons = Moments((len(model.neurons),))
    lens = _LensSamples(whole, rows)
    points = _stream(model)
    stream = Moments((len(points), model.info.d_model))
    with_neurons = sorted(set(model.neurons.layer.tolist()))
    posts = {f"blocks.{layer}.mlp.hook_post": model.neurons.rows(layer=layer) for layer in with_neurons}
    for passage, text in enumerate(texts):
        progress(0.9 * passage / len(texts), f"reference text, passage {passage + 1} of {len(texts)}")
        stimulus = _fitting(model, text)
        reads: dict[str, Reducer] = {**plan.reads, **dict.fromkeys(posts, _activations), **points, **lens_reads(rows)}
        run = model.run(stimulus, reads)
        written = plan.collect(run)
        writes.add(passage, written, np.linalg.norm(written, axis=-1), ranked_from=1)
        activations = np.empty((len(stimulus), len(model.neurons)), np.float32)
        for site, columns in posts.items():
            activations[:, columns] = run.reads[site]
        neurons.add(activations[1:])
        stream.add(np.stack([run.reads[site].cpu().numpy() for site in points], axis=1)[1:])
        if rows:
            lens.add(*stacked(run.reads, rows))
    distribution, reference = np.full(model.info.d_vocab, np.nan, np.float32), None
    if rows:
        distribution, reference = lens.finish(part(progress, 0.9, 1.0))
    neuron_mean, neuron_std = neurons.result()
    residual_std = np.full((2 * len(layers) + 1, model.info.d_model), np.nan, np.float32)
    residual_std[:: 2 if model.info.parallel_blocks else 1] = stream.result()[1]
    embed = model.components.row("embed") if "embed" in model.components.kind else 0
    template = Template(
        fingerprint=model.info.fingerprint,
        model_id=model.info.model_id,
        components=model.components,
        **writes.fields(),
        residual_std=residual_std,
        neuron_mean=neuron_mean,
        neuron_std=neuron_std,
        embedding_std=writes.later.spread_of(embed),
        final_distribution=distribution,
        lens=reference,
    )
    progress(1.0, "template ready")
    return template


def _stream(model: Backend) -> dict[str, Reducer]:
    """Reads of the residual stream at every point where it is known, in its order."""
    sites = []
    for layer in range(model.info.n_layers):
        sites += [f"blocks.{layer}.hook_resid_pre"]
        sites += [] if model.info.parallel_blocks else [f"blocks.{layer}.hook_resid_mid"]
    return lens_reads([LensRow(-1, "", site) for site in sites])


def _activations(post: torch.Tensor) -> np.ndarray:
    return post.float().cpu().numpy()


def _fitting(model: Backend, text: str) -> Stimulus:
    """The stimulus of a passage, cut at a word where the model's context is too short for all of it."""
    words = text.split(" ")
    while True:
        try:
            return model.stimulus(" ".join(words))
        except InputError:
            if len(words) == 1:
                raise
            words = words[: max(1, len(words) * 3 // 4)]


class _LensSamples:
    """The lens at sampled positions, and the mean final distribution.

    Passages are short and products with the unembedding want many rows, so the residuals of several wait until there are
    POSITIONS of them.
    """

    def __init__(self, model: ResidualBackend, rows: tuple[LensRow, ...]) -> None:
        self._model, self._rows = model, rows
        self._random = np.random.default_rng(SEED)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._statistics: list[LensStatistics] = []
        self._positions: list[np.ndarray] = []
        self._finals: list[torch.Tensor] = []

    def add(self, residuals: torch.Tensor, final: torch.Tensor) -> None:
        """Add the next passage: residuals [rows, positions, d_model] and the last one [positions, d_model]."""
        strata = stratum_of(np.arange(len(final)))
        chosen = np.sort(
            np.concatenate([self._random.permutation(np.flatnonzero(strata == s))[:n] for s, n in enumerate(SAMPLED)])
        )
        self._positions.append(chosen)
        self._finals.append(final)
        self._waiting.append((residuals[:, chosen], final[chosen]))
        if sum(len(own) for _, own in self._waiting) >= POSITIONS - sum(SAMPLED):
            self._measure()

    def _measure(self) -> None:
        if self._waiting:
            residuals, finals = zip(*self._waiting, strict=True)
            together = torch.cat(residuals, dim=1), torch.cat(finals)
            self._statistics.append(lens_statistics(self._model, self._rows, *together))
            self._waiting = []

    def _distributions(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Every passage's number and its own distributions, float32 [positions, d_vocab]."""
        lengths = [len(final) for final in self._finals]
        start = 0
        while start < len(lengths):
            stop = start + 1
            while stop < len(lengths) and sum(lengths[start : stop + 1]) <= 4 * POSITIONS:
                stop += 1
            together = torch.cat(self._finals[start:stop])
            own = [own_distribution(self._model.lens(piece)).p for piece in together.split(POSITIONS)]
            yield from enumerate(torch.cat(own).split(lengths[start:stop]), start)
            start = stop

    def finish(self, progress: Progress) -> tuple[np.ndarray, LensReference]:
        """u, float32 [d_vocab], and the cloud of points, with the rarity of each worked out from the other passages."""
        self._measure()
        n_passages = len(self._finals)
        with torch.inference_mode():
            total, n = np.zeros(self._model.info.d_vocab), 0
            for passage, p in self._distributions():
                progress(0.5 * passage / n_passages, "reference text, mean answer")
                total += p[1:].cpu().sum(dim=0, dtype=torch.float64).numpy()
                n += len(p) - 1
            rarity = []
            for passage, p in self._distributions():
                progress(0.5 + 0.5 * passage / n_passages, "reference text, how rare the answers are")
                others = total - p[1:].cpu().sum(dim=0, dtype=torch.float64).numpy()
                # what no other passage makes likely at all is as rare as float32 can say
                mean = np.maximum(others / max(1, n - len(p) + 1), np.finfo(np.float32).tiny)
                log_u = torch.from_numpy(np.log(mean).astype(np.float32)).to(p.device)
                chosen = p[self._positions[passage]]
                rarity.append(-crossed(log_u.expand(1, *chosen.shape), chosen)[0].numpy())
        reference = LensReference(
            kl=np.concatenate([s.kl for s in self._statistics], axis=1),
            entropy=np.concatenate([s.entropy for s in self._statistics], axis=1),
            rarity=np.concatenate(rarity).astype(np.float32),
            position=np.concatenate(self._positions).astype(np.int32),
            passage=np.repeat(np.arange(n_passages, dtype=np.int32), [len(c) for c in self._positions]),
        )
        return (total / max(1, n)).astype(np.float32), reference
