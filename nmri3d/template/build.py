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

from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, Stimulus, no_progress
from nmri3d.models.progress import part
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
from nmri3d.template.reference import passages
from nmri3d.template.template import LensReference, Template, stratum_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nmri3d.models.backend import Reducer

SAMPLED = (1, 1, 2)
"""Positions a passage, by stratum, at which the lens is taken."""

KEPT = 5
SEED = 0


def build_template(model: Backend, *, texts: Sequence[str] | None = None, progress: Progress = no_progress) -> Template:
    """Run the reference text (or `texts`) through the model.

    `progress` is called after every passage and may raise Cancelled. Raises InputError where no passage fits the model.
    """
    texts = passages() if texts is None else texts
    layers = frozenset(range(model.info.n_layers))
    plan = model.write_plan("whole", layers)
    rows = lens_rows(model) if "lens" in model.abilities else ()
    writes = _Writes(model.components, model.info.d_model)
    neurons = _Moments((len(model.neurons),))
    lens = _LensSamples(model, rows)
    points = _stream(model)
    stream = _Moments((len(points), model.info.d_model))
    posts = {f"blocks.{layer}.mlp.hook_post": model.neurons.rows(layer=layer) for layer in sorted(layers)}
    for passage, text in enumerate(texts):
        progress(0.9 * passage / len(texts), f"reference text, passage {passage + 1} of {len(texts)}")
        stimulus = _fitting(model, text)
        reads: dict[str, Reducer] = {**plan.reads, **dict.fromkeys(posts, _activations), **points, **lens_reads(rows)}
        run = model.run(stimulus, reads)
        writes.add(passage, plan.collect(run))
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
    mean, std = writes.later.result()
    neuron_mean, neuron_std = neurons.result()
    fmri_mean, fmri_std = writes.norms.result()
    fmri_mean_first, fmri_std_first = writes.first_norms.result()
    residual_std = np.full((2 * len(layers) + 1, model.info.d_model), np.nan, np.float32)
    residual_std[:: 2 if model.info.parallel_blocks else 1] = stream.result()[1]
    embed = model.components.row("embed") if "embed" in model.components.kind else 0
    template = Template(
        fingerprint=model.info.fingerprint,
        model_id=model.info.model_id,
        n_tokens=writes.first.n + writes.later.n,
        components=model.components,
        mean=mean,
        std=std,
        mean_first=writes.first.result()[0],
        residual_std=residual_std,
        neuron_mean=neuron_mean,
        neuron_std=neuron_std,
        embedding_std=writes.later.spread_of(embed),
        final_distribution=distribution,
        fmri_mean=fmri_mean,
        fmri_std=fmri_std,
        fmri_mean_first=fmri_mean_first,
        fmri_std_first=fmri_std_first,
        top_value=writes.top_value,
        top_passage=writes.top_passage,
        top_position=writes.top_position,
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


class _Moments:
    """Streaming mean and standard deviation of arrays [samples, ...], summed in float64."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.n = 0
        self._sum = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, values: np.ndarray) -> None:
        self.n += len(values)
        for sample in values:
            exact = sample.astype(np.float64)
            self._sum += exact
            self._squares += exact * exact

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, float32; NaN where there are no samples."""
        if self.n == 0:
            return (np.full(self._sum.shape, np.nan, np.float32),) * 2
        mean = self._sum / self.n
        variance = self._squares / self.n - mean**2
        # rounding of the two float64 sums: without it a write that never changes would seem to
        rounding = 1e-13 * self._squares / self.n
        return mean.astype(np.float32), np.sqrt(np.where(variance > rounding, variance, 0 * variance)).astype(
            np.float32
        )

    def spread_of(self, row: int) -> float:
        """Standard deviation of all entries of one row, over samples and dimensions together."""
        mean = self._sum[row].mean() / self.n
        return float(np.sqrt(self._squares[row].mean() / self.n - mean**2))


class _Writes:
    """Sums over the writes of all components, and the passages that move each most."""

    def __init__(self, components: ComponentTable, d_model: int) -> None:
        n = len(components)
        self.first, self.later = _Moments((n, d_model)), _Moments((n, d_model))
        self.first_norms, self.norms = _Moments((n,)), _Moments((n,))
        self.top_value = np.full((n, KEPT), np.nan, np.float32)
        self.top_passage = np.full((n, KEPT), -1, np.int32)
        self.top_position = np.full((n, KEPT), -1, np.int32)

    def add(self, passage: int, writes: np.ndarray) -> None:
        """Add the writes [positions, components, d_model] of one passage."""
        norms = np.linalg.norm(writes, axis=-1)
        self.first.add(writes[:1])
        self.later.add(writes[1:])
        self.first_norms.add(norms[:1])
        self.norms.add(norms[1:])
        if len(norms) > 1:
            best = 1 + np.argmax(norms[1:], axis=0)
            value = np.take_along_axis(norms, best[None], axis=0)[0]
            self._rank(value, passage, best)

    def _rank(self, value: np.ndarray, passage: int, position: np.ndarray) -> None:
        values = np.column_stack([self.top_value, value])
        # NaN (nothing there yet, or a row that writes nothing) sorts last; equal ones keep the earlier passage
        order = np.argsort(-values, axis=1, kind="stable")[:, :KEPT]
        passages_ = np.column_stack([self.top_passage, np.where(np.isnan(value), -1, passage)])
        positions = np.column_stack([self.top_position, np.where(np.isnan(value), -1, position)])
        self.top_value = np.take_along_axis(values, order, axis=1)
        self.top_passage = np.take_along_axis(passages_, order, axis=1).astype(np.int32)
        self.top_position = np.take_along_axis(positions, order, axis=1).astype(np.int32)


class _LensSamples:
    """The lens at sampled positions, and the mean final distribution.

    Passages are short and products with the unembedding want many rows, so the residuals of several wait until there are
    POSITIONS of them.
    """

    def __init__(self, model: Backend, rows: tuple[LensRow, ...]) -> None:
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
