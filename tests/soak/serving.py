"""Starting the server that is soaked, asking it, and its memory as the system sees it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import httpx
import psutil

TOKEN = {"Authorization": "Bearer soak"}


class Soaked:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._memory = psutil.Process(process.pid)
        self.url = f"http://127.0.0.1:{self._line()['port']}"

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server ended"
        return json.loads(line)

    def ask(self, command: str) -> Any:
        """What the server answers to a line: see `tests.soak.server`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._line()

    @property
    def resident(self) -> int:
        """Resident memory in bytes."""
        return self._memory.memory_info().rss

    @property
    def threads(self) -> int:
        """How many threads it has."""
        return self._memory.num_threads()

    def client(self) -> httpx.Client:
        """One who asks one thing after the other."""
        return httpx.Client(base_url=self.url, headers=TOKEN, timeout=300.0)


@contextlib.contextmanager
def serving(model: str) -> Iterator[Soaked]:
    """A server with this model loaded; it must end in good order."""
    with tempfile.TemporaryDirectory() as sessions:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.server", "--model", model, "--sessions", sessions],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Soaked(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0, "work was left over when the server ended"
        finally:
            process.kill()
            process.wait()
