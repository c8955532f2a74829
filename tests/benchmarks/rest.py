"""What HTTP adds to a scan: POST /api/scan/activation in one process, no network between, beside `nmri3d.scan`.

A call goes through everything but a socket: middleware, checks of the body, the worker thread, the service, JSON. The time
of the caller's own side counts too, so that these are upper bounds of the server's work.

The local call runs in a thread of its own, as a server's does: each thread that multiplies matrices has a team of OpenMP
threads, and as soon as there are more of those than cores, all of them are slower by a third. A server has one such thread
at a time; a caller's main thread beside it would be a second.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx

from tests.benchmarks.scanning import prompt_of
from tests.benchmarks.timing import Figure, paired, seconds

T = TypeVar("T")

ADDRESS = "http://127.0.0.1:8765"


def rest(*, pairs: int) -> Iterator[Figure]:
    """A scan that is kept, and one that is not, at 14 and at 256 tokens."""
    import nmri3d
    from nmri3d.api import Security, create_app
    from nmri3d.service import Service
    from nmri3d.service.sessions import SessionStore

    service = Service()
    _in_a_thread(lambda: service.load("smollm2-135m"))
    backend = service.backend
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        security = Security.for_address("127.0.0.1", 8765, token="")
        app = create_app(service, security=security, store=SessionStore(Path(folder)))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ADDRESS)

        def post(path: str, body: dict) -> None:
            answer = runner.run(client.post(path, json=body))
            assert answer.status_code == 200, answer.text

        for n_tokens, n_pairs in ((14, pairs), (256, max(3, pairs // 3))):
            kept = {"prompt": _in_a_thread(lambda n_tokens=n_tokens: prompt_of(backend, n_tokens))}
            post("/api/scan/activation", kept)
            times = sorted(seconds(lambda kept=kept: post("/api/scan/activation", kept)) for _ in range(50))
            words = f"{1e3 * statistics.median(times):.1f}  (95th percentile {1e3 * times[47]:.1f})"
            yield Figure(f"a kept scan over REST, {n_tokens} tokens, ms", words, "under 20" if n_tokens == 14 else "")

            ours, local = _numbered(kept["prompt"]), _numbered(kept["prompt"])
            ratio, there, here = paired(
                lambda ours=ours: post("/api/scan/activation", {"prompt": ours()}),
                lambda local=local: _in_a_thread(lambda: nmri3d.scan(backend, "fMRI", local())),
                pairs=n_pairs,
            )
            words = f"{ratio:.2f}  ({1e3 * there:.0f} / {1e3 * here:.0f} ms)"
            yield Figure(f"a new scan over REST / the local call, {n_tokens} tokens", words, "at most 1.1")
        runner.run(client.aclose())
    assert service.close()


def _in_a_thread(work: Callable[[], T]) -> T:
    """Do it in a thread that ends with it."""
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(work).result()


def _numbered(prompt: str) -> Callable[[], str]:
    """Prompts of one length, each another one at each call: the first letter changes."""
    letters = itertools.cycle("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return lambda: f"{next(letters)}{prompt[1:]}"
