"""Few-shot adaptation: a word that the network never met is given a meaning by a handful of examples.

Convention. In an episode the word "zig" stands for one operation. The support set is a few programs with "zig" and their
answers; from them the adaptive router finds the word's vector (`AdaptiveRouter.adapted`), all weights staying as they are and
no task number being told; new programs then measure it. Meta-learned, after training and with all else frozen, are the
router's gain and step sizes, on episodes of the meanings `MET`; those of `UNMET` are never among them.

Left out: new abilities, which need a new module (`growth`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from nmri3d.models.backend import Progress
from nmri3d.phantoms.biohama.fitting import accuracy_of
from nmri3d.phantoms.biohama.language import LIST_OPERATIONS, MOVES, OPERATIONS, Step
from nmri3d.phantoms.biohama.model import BioHama
from nmri3d.phantoms.biohama.tasks import NONE_DUE, Batch, Split, batch, programs
from nmri3d.phantoms.biohama.truth import FAMILY_OF

MET = ("turn", "swap", "hop")
UNMET = ("reverse", "shift", "back")
SUPPORT = 4
_QUERY = 24
_KNOWN = [OPERATIONS.index(name) for name in (*LIST_OPERATIONS, *MOVES)]


def episode(meaning: str, n: int, split: Split, random: np.random.Generator) -> Batch:
    """n programs in which "zig" stands for the operation `meaning`; each holds it at least once."""
    found: list[tuple[Step, ...]] = []
    while len(found) < n:
        for program in programs(FAMILY_OF[meaning], split, n, random):
            if (meaning, None) in program:
                found.append(tuple(("zig", None) if step == (meaning, None) else step for step in program))
    return batch(found[:n], zig=meaning)


def logits_with(network: BioHama, data: Batch, vectors: torch.Tensor) -> torch.Tensor:
    """Logits [vectors, programs, steps, outputs] with each of the vectors [vectors, width] for "zig"."""
    n, programs_, steps = len(vectors), *data.operations.shape
    operations, symbols = (torch.from_numpy(each).repeat(n, 1) for each in (data.operations, data.symbols))
    words = vectors.repeat_interleave(programs_, dim=0)
    return network.run(operations, symbols, words).logits.view(n, programs_, steps, -1)


def adapt(network: BioHama, support: Batch, meta: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
    """The vector [width] for "zig", found from a support set."""
    known = network.words.detach()[_KNOWN]
    return network.router.adapted(known, lambda vectors: _losses(logits_with(network, support, vectors), support), meta)


def meta_train(network: BioHama, episodes: int, random: np.random.Generator, progress: Progress) -> None:
    """Learn gain and step sizes, in place; all weights stay as they are."""
    gain, rates = torch.zeros(1, requires_grad=True), torch.full_like(network.router.rates, -2.0).requires_grad_(True)
    optimizer = torch.optim.Adam([gain, rates], lr=0.1)
    for number in range(episodes):
        meaning = str(random.choice(MET))
        support, query = (episode(meaning, n, "training", random) for n in (SUPPORT, _QUERY))
        vector = adapt(network, support, (gain.exp(), rates.exp()))
        loss = _losses(logits_with(network, query, vector[None]), query).sum()
        gain.grad, rates.grad = torch.autograd.grad(loss, [gain, rates])
        torch.nn.utils.clip_grad_norm_([gain, rates], 1.0)
        optimizer.step()
        if number % 10 == 0:
            progress(number / episodes, f"meta-learning, episode {number} of {episodes}, loss {loss.item():.3f}")
    network.router.gain.copy_(gain.detach().exp())
    network.router.rates.copy_(rates.detach().exp())


def figures_of(
    network: BioHama, sizes: tuple[int, ...] = (0, 1, 2, 4, 8), repeats: int = 5
) -> dict[str, dict[str, float]]:
    """Sequence accuracy on new programs by meaning and size of the support set; the mean of `repeats` support sets."""
    found: dict[str, dict[str, float]] = {}
    for meaning in (*MET, *UNMET):
        random = np.random.default_rng([41, OPERATIONS.index(meaning)])
        query = episode(meaning, 100, "in-dist", random)
        found[meaning] = {}
        for size in sizes:
            scores = []
            for _ in range(repeats if size else 1):
                own = network.words[OPERATIONS.index("zig")]  # what it has without any support
                vector = adapt(network, episode(meaning, size, "training", random)) if size else own
                with torch.no_grad():
                    scores.append(accuracy_of(logits_with(network, query, vector[None])[0], query)[0])
            found[meaning][str(size)] = round(float(np.mean(scores)), 4)
    return found


def _losses(logits: torch.Tensor, data: Batch) -> torch.Tensor:
    """Mean loss of the due answers, [n], of logits [n, programs, steps, outputs]."""
    answers = torch.from_numpy(data.answers).expand(len(logits), -1, -1)
    losses = functional.cross_entropy(logits.movedim(3, 1), answers, ignore_index=NONE_DUE, reduction="none")
    return losses.sum(dim=(1, 2)) / (answers[0] != NONE_DUE).sum()
