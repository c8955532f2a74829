"""Does memory stay where it is: many scans of different prompts, and many swaps between two models.

Convention. The warm-up is part of the work itself: what comes before it fills what is bounded (5 prompts of kept results,
4,096 addresses of arrays, allocators, thread stacks). "After warm-up" and "at the end" are medians of the resident memory
over as many samples, one after each request, so that neither is a lucky moment.

Left out: the memory of clients, which are another process.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.models.tiny import CORPUS
from tests.soak.serving import Soaked, serving

MOST_GROWTH = 0.03
WORDS = sorted({word for sentence in CORPUS for word in sentence.split()})


@dataclass(frozen=True)
class Growth:
    """Resident bytes after the warm-up and at the end."""

    what: str
    warm_up: int
    count: int
    before: float
    after: float
    peak: float
    seconds: float
    threads: tuple[int, int]

    @property
    def share(self) -> float:
        """By how much it grew."""
        return self.after / self.before - 1

    @property
    def passed(self) -> bool:
        """Whether it stayed within the bound."""
        return self.share <= MOST_GROWTH

    def __str__(self) -> str:
        mb = 2**20
        return (
            f"{'ok  ' if self.passed else 'FAIL'} {self.what}: {self.count} in {self.seconds:.0f} s, resident memory "
            f"{self.before / mb:.1f} MB after {self.warm_up}, {self.after / mb:.1f} MB at the end ({self.share:+.2%}, bound "
            f"+{MOST_GROWTH:.0%}), peak {self.peak / mb:.1f} MB, threads {self.threads[0]} and {self.threads[1]}"
        )


def watched(server: Soaked, what: str, count: int, warm_up: int, samples: int, step: Callable[[int], None]) -> Growth:
    """Do `step(i)` for i under `count` and look at the memory after each."""
    assert warm_up + 2 * samples <= count
    seen, threads, started = [], [0, 0], time.perf_counter()
    for i in range(count):
        step(i)
        seen.append(server.resident)
        if i == warm_up:
            threads[0] = server.threads
        if i % max(1, count // 10) == 0:
            print(f"     {i:5d}  {seen[-1] / 2**20:8.1f} MB", flush=True)
    threads[1] = server.threads
    before = statistics.median(seen[warm_up : warm_up + samples])
    after = statistics.median(seen[-samples:])
    seconds = time.perf_counter() - started
    return Growth(what, warm_up, count, before, after, max(seen), seconds, (threads[0], threads[1]))


def prompt(number: int) -> str:
    """A prompt of 3 to 24 words, another one for each number."""
    chosen = random.Random(number)
    return f"{number} " + " ".join(chosen.choices(WORDS, k=chosen.randint(2, 23)))


def scans(server: Soaked, count: int, warm_up: int, samples: int) -> Growth:
    """Scans of different prompts, each with its arrays: values, and every tenth an attention pattern too."""
    with server.client() as client:

        def step(i: int) -> None:
            answer = client.post("/api/scan/activation", json={"prompt": prompt(i)})
            assert answer.status_code == 200, answer.text
            body = answer.json()
            links = [body["values"]["data_url"]]
            if i % 10 == 0:
                links.append(body["data"]["blocks.0.attn"]["attention_patterns"]["data_url"])
            for link in links:
                assert client.get(link).status_code == 200

        return watched(server, "scans", count, warm_up, samples, step)


def swaps(server: Soaked, folders: tuple[Path, Path], count: int, warm_up: int, samples: int) -> Growth:
    """One model after the other, a scan and a perturbation on each."""
    fingerprints: dict[str, str] = {}
    with server.client() as client:

        def step(i: int) -> None:
            folder = str(folders[i % 2])
            answer = client.post("/api/model/load", json={"model_id": folder})
            assert answer.status_code == 200, answer.text
            now = answer.json()["info"]["fingerprint"]
            assert fingerprints.setdefault(folder, now) == now
            answer = client.post("/api/scan/activation", json={"prompt": prompt(i)})
            assert answer.status_code == 200, answer.text
            assert client.get(answer.json()["values"]["data_url"]).status_code == 200
            edit = {"prompt": prompt(i), "target_component": "blocks.1.mlp"}
            assert client.post("/api/perturb/zero", json=edit).status_code == 200

        growth = watched(server, "model swaps", count, warm_up, samples, step)
    assert len(set(fingerprints.values())) == 2, "both were the same model"
    return growth


def memory(model: str, folders: tuple[Path, Path], n_scans: int, n_swaps: int) -> list[Growth]:
    """Both, each on a server of its own."""
    with serving(model) as server:
        scanned = scans(server, n_scans, warm_up=n_scans // 5, samples=max(1, n_scans // 20))
        print(scanned, flush=True)
    with serving(str(folders[0])) as server:
        swapped = swaps(server, folders, n_swaps, warm_up=n_swaps // 5, samples=max(1, n_swaps // 10))
        print(swapped, flush=True)
    return [scanned, swapped]
