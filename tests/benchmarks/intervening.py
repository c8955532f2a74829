"""Circuits, sweeps, traces and perturbations, against the bare forward pass of a second copy, and against the naive way.

Bare: Hugging Face's own forward of another instance of the same weights, eager attention, logits of every position
included, no cache. Naive: the same interventions, one whole pass each, by plain hooks on that second copy; timed on a part
of them and scaled. All in one process, one after the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from tests.benchmarks.scanning import prompt_of, second_copy
from tests.benchmarks.timing import Figure, peak_memory, seconds

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
ELSEWHERE = "When Lisa and Mark went to the store, Mark gave a drink to"
OPTIONS = {"target": " Mary", "foil": " John"}


def intervening(*, repeats: int) -> Iterator[Figure]:
    """Ratios at 14 tokens; each is the median of `repeats` runs over the median of the bare passes beside them."""
    import torch

    import nmri3d
    from nmri3d.models import replay

    backend, bare_model = nmri3d.load(), second_copy()
    ids = torch.from_numpy(backend.stimulus(CLEAN).ids)[None]
    assert ids.shape[1] == 14
    clean = _clean_of(backend)

    def bare() -> None:
        with torch.inference_mode():
            bare_model(input_ids=ids, use_cache=False)

    def scan(**options: Any) -> Callable[[], Any]:
        return lambda: nmri3d.scan(backend, "DTI", CLEAN, corrupt=CORRUPT, **OPTIONS, **options)

    def ratio(name: str, work: Callable[[], Any], reach: str) -> Figure:
        times, passes = [], []
        work()
        for _ in range(repeats):
            times.append(seconds(work))
            passes += [seconds(bare) for _ in range(5)]
        value = statistics.median(times) / statistics.median(passes)
        return Figure(name, f"{value:.2f}  ({statistics.median(times):.2f} s)", reach)

    bare()
    yield ratio("attribution patching of 300 nodes", scan(method="atp", edges="none"), "3.0")
    yield ratio("edges, EAP, one step (nodes by attribution patching too)", _edges_only(backend), "5")
    yield ratio(
        "exact zero ablation of 270 heads + 30 MLPs + embedding",
        lambda: nmri3d.ablate_all(backend, CLEAN, **OPTIONS),
        "42",
    )
    yield ratio(
        "exact patch of every component from another prompt",
        lambda: nmri3d.ablate_all(backend, CLEAN, effect="patch", corrupt=ELSEWHERE, **OPTIONS),
        "42",
    )
    yield ratio(
        "exact residual heat map, 31 x 14, prompts differ from token 1 on",
        lambda: nmri3d.trace(backend, CLEAN, ELSEWHERE, sites=("resid",), **OPTIONS),
        "42",
    )
    yield ratio(
        "exact residual heat map, prompts share their first 9 tokens",
        lambda: nmri3d.trace(backend, CLEAN, CORRUPT, sites=("resid",), **OPTIONS),
        "12",
    )
    edit = nmri3d.Edit("blocks.23.attn.head_3", "zero")
    yield ratio(
        "one perturbation with comparison, clean run kept",
        lambda: nmri3d.perturb(backend, CLEAN, edit, clean=clean),
        "1.3",
    )
    yield ratio("8 tokens written and scanned, one pass each", _generation(backend, 8), "")
    yield Figure("naive loop: zero ablation of every component", f"{_naive_sweep(bare_model, ids, bare):.0f}")
    yield Figure("rows x steps that pass a block together", f"{replay.CHUNK_STEPS}")


def _clean_of(backend: Any) -> Any:
    from nmri3d.perturbation import clean_run

    return clean_run(backend, CLEAN)


def _edges_only(backend: Any) -> Callable[[], Any]:
    """Baseline run, gradient, readers and edges, without running the circuit that they make."""
    from nmri3d.perturbation.baselines import baseline
    from nmri3d.perturbation.metric import logit_difference
    from nmri3d.scans.dti import KEPT_EDGES
    from nmri3d.scans.edges import GradientPass, edge_attribution

    def work() -> Any:
        stimulus = backend.stimulus(CLEAN)
        chosen = baseline(backend, stimulus, "patch", CORRUPT)
        clean = GradientPass(
            *backend.gradients(stimulus, lambda x: logit_difference(backend, x, " Mary", " John", -1).of_steps(x))
        )
        return edge_attribution(backend, clean.recording, [clean], chosen, keep=KEPT_EDGES)

    return work


def _generation(backend: Any, n_tokens: int) -> Callable[[], Any]:
    from nmri3d.scans.generation import Generation

    def work() -> None:
        generation = Generation(backend, CLEAN, n_tokens)
        while not generation.done:
            generation.step(backend)

    return work


def _naive_sweep(model: Any, ids: Any, bare: Callable[[], Any]) -> float:
    """Bare passes that 301 whole passes with a hook take: a head of every third layer is timed."""
    import torch

    passes = statistics.median(seconds(bare) for _ in range(9))
    times = []
    for layer in range(0, 30, 3):
        projection = model.model.layers[layer].self_attn.o_proj

        def silence(module: Any, args: Any) -> Any:
            z = args[0].clone()
            z[..., :64] = 0
            return (z,)

        handle = projection.register_forward_pre_hook(silence)
        with torch.inference_mode():
            times.append(seconds(lambda: model(input_ids=ids, use_cache=False)))
        handle.remove()
    return 301 * statistics.median(times) / passes


def long_prompt() -> Iterator[Figure]:
    """Peak memory above the loaded model of each measurement at 1,024 tokens."""
    import nmri3d

    backend = nmri3d.load()
    prompt = prompt_of(backend, 1024)
    works = {
        "direct logit attribution": lambda: nmri3d.scan(backend, "DTI", prompt, method="dla", edges="none"),
        "attribution patching": lambda: nmri3d.scan(backend, "DTI", prompt, method="atp", edges="none"),
        "attribution patching and EAP": lambda: nmri3d.scan(backend, "DTI", prompt, method="atp"),
    }
    for name, work in works.items():
        elapsed: list[float] = []
        peak = peak_memory(lambda work=work, elapsed=elapsed: elapsed.append(seconds(work)))  # type: ignore[misc]
        yield Figure(f"peak memory at 1,024 tokens, {name}, GB", f"{peak / 1e9:.2f}  ({elapsed[0]:.0f} s)", "under 4")
