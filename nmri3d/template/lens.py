"""The logit lens at every sub-layer, reduced to a few numbers a position while its logits are at hand.

The lens of a residual x is `L = lens(x)`, the model's own final norm and unembedding applied early (nostalgebraist, 2020),
and q = softmax(L). With P the model's own distribution at the same position, per row and position:

    kl       KL(P || q) = sum P log P - sum P L + logsumexp(L), in nats
    entropy  H(q) = logsumexp(L) - sum q L, in nats

and per position H(P), 1 - max P, and the rarity of the answer `c = -sum P log u` for a given distribution u.

Rows are the points where the residual is read: after attention (`blocks.l.hook_resid_mid`, site "attn") and after the
block (`hook_resid_pre` of the next block, for the last one `hook_resid_final`; site "mlp"). A block whose attention and
MLP read the same residual has one point only, after the block; so has one without an MLP (site "attn"). The last row is the
model's own distribution: its KL is zero by definition, and is given as NaN.

Cost: the unembedding at every point, in blocks of BLOCK_BYTES of logits, whatever the number of tokens. Sums are
float32; they agree with float64 softmax of Hugging Face's logits to 1e-4 nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nmri3d.models.backend import Backend, Progress, SiteEdit, Stimulus, no_progress
from nmri3d.models.residual_backend import ResidualBackend

if TYPE_CHECKING:
    from nmri3d.models.backend import Reducer

SITES = ("attn", "mlp")
FINAL = "hook_resid_final"

BLOCK_BYTES = 96_000_000
"""Logits looked at in one go: large enough that the product with the unembedding runs at full speed."""

POSITIONS = 32
"""Positions looked at together, so that their own distributions stay small beside the rows' logits."""

PIECE = 4096
"""Vocabulary entries that are summed in float32 before the sum goes on in float64."""


@dataclass(frozen=True)
class LensRow:
    """A point where the residual is read: the layer, "attn" (after attention) or "mlp" (after the block), the hook."""

    layer: int
    site: str
    hook: str

    @property
    def is_last(self) -> bool:
        """Whether this is the residual before the final norm."""
        return self.hook == FINAL


def lens_rows(
    model: Backend, sites: Sequence[str] = SITES, layers: frozenset[int] | None = None
) -> tuple[LensRow, ...]:
    """The points of these layers (None: all) in the order in which the residual passes them."""
    n_layers = model.info.n_layers
    rows = []
    for layer in range(n_layers) if layers is None else sorted(layers):
        after = FINAL if layer == n_layers - 1 else f"blocks.{layer + 1}.hook_resid_pre"
        if not len(model.components.rows("mlp", layer)):
            rows.append(LensRow(layer, "attn", after))
            continue
        if "attn" in sites and not model.info.parallel_blocks:
            rows.append(LensRow(layer, "attn", f"blocks.{layer}.hook_resid_mid"))
        if "mlp" in sites or model.info.parallel_blocks:
            rows.append(LensRow(layer, "mlp", after))
    return tuple(rows)


@dataclass(frozen=True, eq=False)
class LensStatistics:
    """What the lens says. All float32, on the CPU.

    kl, entropy        [rows, positions], nats; kl is NaN on the last row
    final_entropy      [positions], nats, of the model's own distribution
    final_doubt        [positions], 1 - its largest probability
    rarity             [positions], -sum P log u in nats; NaN where no u was given
    """

    kl: np.ndarray
    entropy: np.ndarray
    final_entropy: np.ndarray
    final_doubt: np.ndarray
    rarity: np.ndarray


Visit = Callable[[slice, slice, torch.Tensor, torch.Tensor], None]


def lens_reads(rows: Sequence[LensRow]) -> dict[str, Reducer]:
    """What to read in a pass: copies of the residuals, float32, at the rows and before the final norm."""
    return dict.fromkeys([*(row.hook for row in rows), FINAL], lambda residual: residual.to(torch.float32, copy=True))


def read_residuals(
    model: Backend,
    stimulus: Stimulus,
    rows: Sequence[LensRow],
    *,
    edits: Sequence[SiteEdit] = (),
    progress: Progress = no_progress,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Residuals of one pass, float32: [rows, positions, d_model], and the last one [positions, d_model]."""
    run = model.run(stimulus, lens_reads(rows), edits=edits, progress=progress)
    return stacked(run.reads, rows)


def stacked(reads: Any, rows: Sequence[LensRow]) -> tuple[torch.Tensor, torch.Tensor]:
    """The tensors that `lens_reads` kept, put together on the device of the last one."""
    final = reads[FINAL]
    if not rows:
        return final.new_empty(0, *final.shape), final
    return torch.stack([reads[row.hook].to(final.device) for row in rows]), final


def lens_statistics(
    model: ResidualBackend,
    rows: Sequence[LensRow],
    residuals: torch.Tensor,
    final: torch.Tensor,
    *,
    log_u: torch.Tensor | None = None,
    visit: Visit | None = None,
    progress: Progress = no_progress,
) -> LensStatistics:
    """Statistics of residuals [rows, positions, d_model] against the last residual [positions, d_model].

    log_u is float32 [d_vocab]. `visit(rows, positions, logits, log_total)` sees each block's logits [rows, positions,
    d_vocab], the largest of each made 0, and their logsumexp; it must not change them. `progress` is called after every
    block and may raise Cancelled.
    """
    with torch.inference_mode():
        n_rows, n_positions = residuals.shape[:2]
        kl, entropy = np.full((2, n_rows, n_positions), np.nan, np.float32)
        own_entropy, doubt, rarity = np.full((3, n_positions), np.nan, np.float32)
        buffer = residuals.new_empty(0)
        for columns in _slices(n_positions, max(1, min(POSITIONS, BLOCK_BYTES // (4 * model.info.d_vocab)))):
            own = own_distribution(model.lens(final[columns]), log_u)
            own_entropy[columns], doubt[columns] = own.entropy, own.doubt
            rarity[columns] = own.rarity
            n_columns = columns.stop - columns.start
            for lines in _slices(n_rows, max(1, BLOCK_BYTES // (4 * model.info.d_vocab * n_columns))):
                logits = shift(model.lens(residuals[lines, columns]))
                if buffer.numel() < logits.numel():
                    buffer = torch.empty_like(logits).view(-1)
                log_total, entropies = entropy_of(logits, buffer[: logits.numel()].view(logits.shape))
                kl[lines, columns] = log_total - crossed(logits, own.p) - own.entropy
                entropy[lines, columns] = entropies
                if visit is not None:
                    visit(lines, columns, logits, log_total)
                progress((columns.start + n_columns * lines.stop / n_rows) / n_positions, "logit lens")
        kl[[row.is_last for row in rows]] = np.nan
    return LensStatistics(kl, entropy, own_entropy, doubt, rarity)


def _slices(n: int, width: int) -> list[slice]:
    return [slice(start, min(start + width, n)) for start in range(0, n, width)]


def entropy_of(shifted: torch.Tensor, buffer: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """logsumexp and entropy in nats, each float64 [...] on the CPU, of logits [..., d_vocab] whose largest is 0.

    `buffer` of the same shape is overwritten with the softmax. Only the exponentials and their products are float32: the
    sums over the vocabulary are taken in pieces and put together in float64, and what softmax's sum is off by cancels.
    """
    buffer = torch.empty_like(shifted) if buffer is None else buffer
    q = torch.softmax(shifted, dim=-1, out=buffer)
    total = q.sum(dim=-1).cpu().double()
    log_total = -(q.amax(dim=-1).cpu().double() / total).log()
    width = shifted.shape[-1]
    lines, columns = q.reshape(-1, 1, width), shifted.reshape(-1, width, 1)
    pieces = [
        torch.bmm(lines[..., start : start + PIECE], columns[:, start : start + PIECE])
        for start in range(0, width, PIECE)
    ]
    expected = torch.stack(pieces).cpu().double().sum(dim=0).view(total.shape) / total
    return log_total, log_total - expected


def crossed(shifted: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """sum P L, float64 [rows, positions] on the CPU: logits [rows, positions, d_vocab], p [positions, d_vocab]."""
    columns = []
    for position, weights in enumerate(p):
        pieces = [
            shifted[:, position, start : start + PIECE] @ weights[start : start + PIECE]
            for start in range(0, len(weights), PIECE)
        ]
        columns.append(torch.stack(pieces))
    return torch.stack(columns, dim=-1).cpu().double().sum(dim=0)


def shift(logits: torch.Tensor) -> torch.Tensor:
    """Logits with the largest of each distribution made 0, in place: sums of small numbers keep their digits."""
    return logits.sub_(logits.amax(dim=-1, keepdim=True))


@dataclass(frozen=True, eq=False)
class OwnDistribution:
    """The model's own next-token distributions: p float32 [positions, d_vocab], and float64 [positions] each: their
    entropy in nats, 1 - their largest probability, and the rarity -sum P log u (NaN without u)."""

    p: torch.Tensor
    entropy: torch.Tensor
    doubt: torch.Tensor
    rarity: torch.Tensor


def own_distribution(logits: torch.Tensor, log_u: torch.Tensor | None = None) -> OwnDistribution:
    """The distribution of the model's own logits [positions, d_vocab], which are changed in place."""
    p = torch.empty_like(logits)
    log_total, entropy = entropy_of(shift(logits), p)
    p /= p.sum(dim=-1, keepdim=True)
    rarity = (
        torch.full_like(entropy, torch.nan)
        if log_u is None
        else -crossed(log_u.to(p.device).expand(1, *logits.shape), p)[0]
    )
    return OwnDistribution(p, entropy, -torch.expm1(-log_total), rarity)
