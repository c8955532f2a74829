"""Many clients at once: is each answer the one computed alone, and is every refusal one that says when to come back?

Convention. A client asks one question after the other, drawn at random; half of them name themselves. Some requests go by as
jobs, and from some the client hangs up half-way, so that work is withdrawn while others wait for it. A 429 or 503 must carry
`Retry-After` (1 to 60 s), which the client obeys. Everything else but a right answer is an error.

Left out: memory (memory.py).
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.soak.questions import Question, questions
from tests.soak.serving import TOKEN, Soaked, serving

AS_JOB, HANGING_UP = 0.1, 0.05
"""Shares of requests that go by as jobs, and from which the client hangs up."""


@dataclass
class Tally:
    """What all clients saw together."""

    answered: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    hung_up: int = 0
    jobs: int = 0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Load:
    """The tally, and whether the weights are what they were."""

    clients: int
    duration: float
    tally: Tally
    fingerprints: tuple[str, str]
    figures: dict[str, float]

    @property
    def passed(self) -> bool:
        """No error, every answer right, each kind answered, weights untouched, nothing left over."""
        same_weights = self.fingerprints[0] == self.fingerprints[1]
        return not self.tally.errors and same_weights and bool(self.tally.seconds) and not self.figures["jobs"]

    def __str__(self) -> str:
        tally, seconds = self.tally, sorted(self.tally.seconds) or [0.0]
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.answered.items()))
        return "\n".join(
            [
                f"{'ok  ' if self.passed else 'FAIL'} load: {self.clients} clients, {self.duration:.0f} s, "
                f"{len(tally.seconds)} right answers ({len(tally.seconds) / self.duration:.1f} a second), {len(tally.errors)} "
                f"errors, refused {dict(tally.refused)}, {tally.jobs} by way of jobs, {tally.hung_up} hung up",
                f"     {kinds}",
                f"     answer after {statistics.median(seconds):.2f} s (median), {seconds[int(0.95 * len(seconds))]:.2f} s "
                f"(95th percentile), {seconds[-1]:.2f} s (longest)",
                f"     weights {'as before' if self.fingerprints[0] == self.fingerprints[1] else 'CHANGED'}, "
                f"service {self.figures}",
                *[f"     {error}" for error in tally.errors[:10]],
            ]
        )


class Client:
    """One who asks until the time is over."""

    def __init__(self, server: Soaked, number: int, asked: list[Question], until: float, tally: Tally) -> None:
        self._url, self._asked, self._until, self._tally = server.url, asked, until, tally
        self._headers = TOKEN | ({"Nmri3d-Client": f"soak {number}"} if number % 2 else {})
        self._random = random.Random(number)

    def run(self) -> None:
        """Ask; every failure is noted, none ends it."""
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=300.0) as client:
            while time.monotonic() < self._until:
                question = self._random.choice(self._asked)
                try:
                    if self._random.random() < HANGING_UP:
                        self._hang_up(client, question)
                    else:
                        self._ask(client, question)
                except Exception as error:
                    self._note(f"{question.kind} {dict(question.body)}: {type(error).__name__}: {error}"[:300])

    def _hang_up(self, client: httpx.Client, question: Question) -> None:
        timeout = httpx.Timeout(300.0, read=self._random.uniform(0.02, 0.5))
        try:
            client.post(question.path, json=question.body, headers=question.headers, timeout=timeout)
        except httpx.ReadTimeout:
            with self._tally.lock:
                self._tally.hung_up += 1

    def _ask(self, client: httpx.Client, question: Question) -> None:
        as_job = self._random.random() < AS_JOB
        started = time.perf_counter()
        headers = {**question.headers, "Prefer": "respond-async"} if as_job else question.headers
        answer = client.post(question.path, json=question.body, headers=headers)
        if as_job and answer.status_code == 202:
            answer = self._fetched(client, answer)
        if answer.status_code in (429, 503):
            self._come_back_later(answer)
            return
        if answer.status_code != 200:
            self._note(f"{question.kind}: {answer.status_code} {answer.text[:200]}")
            return
        if not question.is_answered_by(answer):
            self._note(f"{question.kind} {dict(question.body)}: not the answer that is computed alone")
            return
        with self._tally.lock:
            self._tally.answered[question.kind] += 1
            self._tally.seconds.append(time.perf_counter() - started)
            self._tally.jobs += as_job

    def _fetched(self, client: httpx.Client, accepted: httpx.Response) -> httpx.Response:
        job = accepted.json()
        while job["state"] == "running":
            news = client.get(f"/api/jobs/{job['id']}", params={"wait": 30, "since": job["version"]})
            if news.status_code != 200:
                return news
            job = news.json()
        return client.get(job["result_url"])

    def _come_back_later(self, answer: httpx.Response) -> None:
        seconds = answer.headers.get("retry-after", "")
        if not (seconds.isdecimal() and 1 <= int(seconds) <= 60):
            self._note(f"{answer.status_code} with Retry-After {seconds!r}")
        with self._tally.lock:
            self._tally.refused[answer.status_code] += 1
        time.sleep(max(0.0, min(int(seconds or 1), self._until - time.monotonic())))

    def _note(self, error: str) -> None:
        with self._tally.lock:
            self._tally.errors.append(error)


def load(model: str, clients: int, duration: float) -> Load:
    """`clients` at once for `duration` seconds."""
    import nmri3d

    copy = nmri3d.load(model)
    asked = questions(copy)
    print(f"     {len(asked)} answers computed alone", flush=True)
    with serving(model) as server:
        before = server.ask("fingerprint")
        assert before == copy.fingerprint() == copy.info.fingerprint
        tally, until = Tally(), time.monotonic() + duration
        threads = [
            threading.Thread(target=Client(server, number, asked, until, tally).run) for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = server.ask("fingerprint")
        figures = server.ask("figures")
    result = Load(clients, duration, tally, (before, after), figures)
    print(result, flush=True)
    return result
