"""An fMRI scan of every head, MLP and residual at every position, against the bare forward pass of a second copy.

Bare: Hugging Face's own forward of another instance of the same weights, eager attention, logits of every position
included, no cache. Both under inference mode, in one process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.timing import Figure, paired, peak_memory

PROMPT = "When Mary and John went to the store, John gave a drink to"
WORDS = " The scanner shows what every part of the network writes while it reads a long and patient sentence."


def prompt_of(backend, n_tokens: int) -> str:
    """A prompt of exactly that many tokens."""
    ids = backend.tokenizer(PROMPT + WORDS * (n_tokens // 12 + 1))["input_ids"][:n_tokens]
    text = backend.tokenizer.decode(ids)
    assert len(backend.stimulus(text)) == n_tokens
    return text


def second_copy():
    """Another instance of the default model, loaded by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    from nmri3d.models.embedded import locate_embedded

    folder = locate_embedded(lambda share, what: None).folder
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def scan_against_bare(*, pairs: int) -> Iterator[Figure]:
    """Ratios at 14 and at 256 tokens."""
    import torch

    import nmri3d

    backend, bare_model = nmri3d.load(), second_copy()
    for n_tokens in (14, 256):
        prompt = prompt_of(backend, n_tokens)
        ids = torch.from_numpy(backend.stimulus(prompt).ids)[None]
        with torch.inference_mode():
            ratio, ours, bare = paired(
                lambda prompt=prompt: nmri3d.scan(backend, "fMRI", prompt),
                lambda ids=ids: bare_model(input_ids=ids, use_cache=False),
                pairs=pairs if n_tokens < 100 else max(5, pairs // 3),
            )
        times = f"{ratio:.2f}  ({1e3 * ours:.0f} / {1e3 * bare:.0f} ms)"
        yield Figure(f"fMRI scan / bare forward pass, {n_tokens} tokens", times, "at most 0.95")
    seconds_t2 = _t2_seconds(backend)
    yield Figure("T2 scan of all weights, seconds", f"{seconds_t2:.2f}")


def _t2_seconds(backend) -> float:
    import nmri3d

    return nmri3d.scan(backend, "T2").provenance.seconds


def memory_above_bare() -> Iterator[Figure]:
    """Peak memory of a 1,024-token scan above that of the bare pass, each in a process of its own."""
    peaks = {}
    for what in ("scan", "bare"):
        run = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.scanning", what], capture_output=True, text=True, check=True
        )
        peaks[what] = int(run.stdout.split()[-1])
    above = (peaks["scan"] - peaks["bare"]) / 1e6
    detail = f"{above:+.0f}  ({peaks['scan'] / 1e6:.0f} / {peaks['bare'] / 1e6:.0f} MB)"
    yield Figure("peak memory of a 1,024-token scan above the bare pass, MB", detail, "under +300")


def _peak_in_this_process(what: str) -> int:
    """Peak of one pass of 1,024 tokens, after a warm-up of 14 so that one-time allocations do not count."""
    import torch

    import nmri3d

    backend = nmri3d.load()
    prompt = prompt_of(backend, 1024)
    if what == "scan":
        nmri3d.scan(backend, "fMRI", PROMPT)
        return peak_memory(lambda: nmri3d.scan(backend, "fMRI", prompt))
    model = second_copy()
    passes = [torch.from_numpy(backend.stimulus(text).ids)[None] for text in (PROMPT, prompt)]
    with torch.inference_mode():
        model(input_ids=passes[0], use_cache=False)
        return peak_memory(lambda: model(input_ids=passes[1], use_cache=False))


if __name__ == "__main__":
    print(_peak_in_this_process(sys.argv[1]))
