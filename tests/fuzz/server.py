"""A server in a process of its own, on a free port, with a model in it; for tests that treat it badly."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

TOKEN = "a-token-for-tests"


@dataclass(frozen=True)
class Running:
    """A running server: its address with a slash at the end, its process, and the file of its output."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        """What lets a caller in."""
        return {"Authorization": f"Bearer {TOKEN}"}

    def get(self, path: str) -> httpx.Response:
        """One GET with the token."""
        return httpx.get(self.address + path, headers=self.headers, timeout=60)


@contextlib.contextmanager
def running(folder: Path, model: str = "smollm2-135m", *options: str, patience: float = 300.0) -> Iterator[Running]:
    """`nmri3d serve` with this model, hub offline, its sessions and caches under the folder; ended by a signal.

    Raises RuntimeError, with the output, when it does not come up.
    """
    log = folder / "server.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "NMRI3D_SESSIONS": str(folder / "sessions")}
    program = str(Path(sys.executable).with_name("nmri3d"))
    command = [program, "serve", "--no-open", "--port", "0", "--token", TOKEN, "--model", model]
    with open(log, "wb") as file:
        process = subprocess.Popen([*command, *options], stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield Running(_address(process, log, patience), process, log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def _address(process: subprocess.Popen[bytes], log: Path, patience: float) -> str:
    """Where it listens, once its model is there."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://[^ ?]+/", log.read_text(errors="replace"))
        if found is not None:
            with contextlib.suppress(httpx.TransportError):
                health = httpx.get(found[0] + "healthz", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
                if health.json()["status"] == "ok":
                    return found[0]
        time.sleep(0.2)
    raise RuntimeError(f"the server did not come up:\n{log.read_text(errors='replace')}")
