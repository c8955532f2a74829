"""Few-shot adaptation: a word that the network never met is given a meaning by a handful of examples.

Convention. In an episode the word "zig" stands for one operation. The support set is a few programs with "zig" and their
answers; from them the adaptive router finds the word's vector (`AdaptiveRouter.adapted`), all weights staying as they are and
no task number being told; new programs then measure it. Meta-learned, after training and with all else frozen, are the
router's gain and step sizes, on episodes of the meanings `TUNED_ON`.

What is new differs, and figures tell it apart. The six known operations have words of their own, whose vectors are among those
that are tried: for them, those of `NOT_TUNED_ON` too, adapting is recognizing a synonym, and picking the known vector of least
support loss ("best known") is the baseline. With the meaning's own vector left out, a vector has to be found that the
network can carry out but was not given. `NEW` is an operation that no word means and no module was trained to do.

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

TUNED_ON = ("turn", "swap", "hop")
NOT_TUNED_ON = ("reverse", "shift", "back")
NEW = "mirror"
SUPPORT = 4
_QUERY = 24
_KNOWN = (*LIST_OPERATIONS, *MOVES)


def episode(meaning: str, n: int, split: Split, random: np.random.Generator) -> Batch:
    """n programs, each with "zig" at least once, which stands for the operation `meaning`; for `NEW` it replaces "shift"."""
    place = ("shift" if meaning == NEW else meaning, None)
    found: list[tuple[Step, ...]] = []
    while len(found) < n:
        for program in programs(FAMILY_OF[place[0]], split, n, random):
            if place in program:
                found.append(tuple(("zig", None) if step == place else step for step in program))
    return batch(found[:n], zig=meaning)


def logits_with(network: BioHama, data: Batch, vectors: torch.Tensor) -> torch.Tensor:
    """Logits [vectors, programs, steps, outputs] with each of the vectors [vectors, width] for "zig"."""
    n, programs_, steps = len(vectors), *data.operations.shape
    operations, symbols = (torch.from_numpy(each).repeat(n, 1) for each in (data.operations, data.symbols))
    words = vectors.repeat_interleave(programs_, dim=0)
    return network.run(operations, symbols, words).logits.view(n, programs_, steps, -1)


def adapt(
    network: BioHama,
    support: Batch,
    meta: tuple[torch.Tensor, torch.Tensor] | None = None,
    without: str | None = None,
) -> torch.Tensor:
    """The vector [width] for "zig", found from a support set; the word `without` is not tried."""
    known = _known(network, without)
    return network.router.adapted(known, lambda vectors: _losses(logits_with(network, support, vectors), support), meta)


def best_known(network: BioHama, support: Batch, without: str | None = None) -> torch.Tensor:
    """The baseline: of the known words' vectors the one of least loss on the support set, [width]."""
    known = _known(network, without)
    with torch.no_grad():
        return known[_losses(logits_with(network, support, known), support).argmin()]


def meta_train(network: BioHama, episodes: int, random: np.random.Generator, progress: Progress) -> None:
    """Learn gain and step sizes, in place; all weights stay as they are."""
    gain, rates = torch.zeros(1, requires_grad=True), torch.full_like(network.router.rates, -2.0).requires_grad_(True)
    optimizer = torch.optim.Adam([gain, rates], lr=0.1)
    for number in range(episodes):
        meaning = str(random.choice(TUNED_ON))
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
    network: BioHama, sizes: tuple[int, ...] = (1, 2, 4, 8), repeats: int = 5
) -> dict[str, dict[str, dict[str, float]]]:
    """Sequence accuracy on new programs by meaning, way and size of the support set, the mean of `repeats` support sets.

    The ways are "adapted" and "best known", for known operations both also with the meaning's own vector left out. Size 0
    is the vector that "zig" has without any support.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for meaning in (*TUNED_ON, *NOT_TUNED_ON, NEW):
        random = np.random.default_rng([41, len(OPERATIONS) if meaning == NEW else OPERATIONS.index(meaning)])
        query = episode(meaning, 100, "in-dist", random)
        unadapted = _scored(network, query, network.words[OPERATIONS.index("zig")])
        ways = [("", None)] if meaning == NEW else [("", None), (", own left out", meaning)]
        rows = found[meaning] = {
            name + suffix: {"0": unadapted} for suffix, _ in ways for name in ("adapted", "best known")
        }
        for size in sizes:
            supports = [episode(meaning, size, "training", random) for _ in range(repeats)]
            for suffix, without in ways:
                adapted = [adapt(network, support, without=without) for support in supports]
                picked = [best_known(network, support, without) for support in supports]
                for name, vectors in (("adapted", adapted), ("best known", picked)):
                    scores = [_scored(network, query, vector) for vector in vectors]
                    rows[name + suffix][str(size)] = round(float(np.mean(scores)), 4)
    return found


def _known(network: BioHama, without: str | None) -> torch.Tensor:
    return network.words.detach()[[OPERATIONS.index(name) for name in _KNOWN if name != without]]


def _scored(network: BioHama, query: Batch, vector: torch.Tensor) -> float:
    with torch.no_grad():
        return round(accuracy_of(logits_with(network, query, vector[None])[0], query)[0], 4)


def _losses(logits: torch.Tensor, data: Batch) -> torch.Tensor:
    """Mean loss of the due answers, [n], of logits [n, programs, steps, outputs]."""
    answers = torch.from_numpy(data.answers).expand(len(logits), -1, -1)
    losses = functional.cross_entropy(logits.movedim(3, 1), answers, ignore_index=NONE_DUE, reduction="none")
    return losses.sum(dim=(1, 2)) / (answers[0] != NONE_DUE).sum()
