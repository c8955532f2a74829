"""FLAIR and the logit lens: lens points at every position, against the bare forward pass of a second copy.

The template is at hand (it is shipped); how long building one takes, and the memory of a long prompt, stand beside it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.scanning import PROMPT, prompt_of, second_copy
from tests.benchmarks.timing import Figure, paired, peak_memory, seconds


def lens_against_bare(*, pairs: int) -> Iterator[Figure]:
    """Ratios at 14 tokens: FLAIR at 30 and at 60 points, and the table of the five likeliest tokens."""
    import torch

    import nmri3d
    from nmri3d.scans.flair import scan_flair
    from nmri3d.scans.flair_config import FlairConfig
    from nmri3d.scans.logit_lens import logit_lens

    backend, bare_model = nmri3d.load(), second_copy()
    prompt = prompt_of(backend, 14)
    ids = torch.from_numpy(backend.stimulus(prompt).ids)[None]
    work = (
        (
            "FLAIR, 30 points x 14 positions",
            "at most 6",
            lambda: scan_flair(backend, prompt, FlairConfig(sites=("mlp",))),
        ),
        ("FLAIR, 60 points x 14 positions", "at most 11", lambda: scan_flair(backend, prompt, FlairConfig())),
        ("logit-lens table, 60 points x 14 positions", "", lambda: logit_lens(backend, prompt)),
    )
    with torch.inference_mode():
        for name, reach, ours in work:
            ratio, a, b = paired(ours, lambda: bare_model(input_ids=ids, use_cache=False), pairs=pairs)
            yield Figure(f"{name} / bare forward pass", f"{ratio:.2f}  ({1e3 * a:.0f} / {1e3 * b:.0f} ms)", reach)


def template_seconds() -> Iterator[Figure]:
    """Building the default model's template, as it is done once for any other model."""
    import nmri3d
    from nmri3d.template.build import build_template

    backend = nmri3d.load()
    yield Figure(
        "template of the default model, built, seconds", f"{seconds(lambda: build_template(backend)):.0f}", "under 120"
    )


def lens_memory() -> Iterator[Figure]:
    """Peak memory of FLAIR on 1,024 tokens, everything in all, in a process of its own."""
    run = subprocess.run([sys.executable, "-m", "tests.benchmarks.lens"], capture_output=True, text=True, check=True)
    total, above, took = map(float, run.stdout.split()[-3:])
    value = f"{total / 1e6:.0f}  ({above / 1e6:+.0f} MB above the model, {took:.0f} s)"
    yield Figure("FLAIR of 1,024 tokens, peak memory of the process, MB", value, "under 4,000")


def _long_prompt() -> tuple[int, int, float]:
    """Peak resident bytes of a 1,024-token scan, how far above the bytes before it, and its seconds."""
    import psutil

    import nmri3d
    from nmri3d.scans.flair import scan_flair
    from nmri3d.scans.flair_config import FlairConfig

    backend = nmri3d.load()
    prompt = prompt_of(backend, 1024)
    scan_flair(backend, PROMPT, FlairConfig())
    before = psutil.Process().memory_info().rss
    took = []
    above = peak_memory(lambda: took.append(seconds(lambda: scan_flair(backend, prompt, FlairConfig()))))
    return before + above, above, took[0]


if __name__ == "__main__":
    print(*_long_prompt())
