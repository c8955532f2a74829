"""`python -m tests.fuzz`: schemathesis against a real server with the real model, all checks, one worker, hub offline.

Every operation of the OpenAPI description is called with generated examples, valid and not; loading and unloading, which
take the model away from the others, come in a second run. At the end the server must still give the right answer.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.fuzz.prompts import hostile
from tests.fuzz.server import TOKEN, Running, running

CONFIG = Path(__file__).with_name("schemathesis.toml")
SWAPPING = ("/api/model/load", "/api/model/unload")
SLOW = 300
"""Seconds after which an answer counts as a hang."""


def schemathesis(server: Running, examples: int, phases: str, *filters: str) -> int:
    """Run it; returns the number of test cases. Raises SystemExit when it finds something."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [
        program, "--config-file", str(CONFIG), "run", server.address + "openapi.json", "--url", server.address,
        "-H", f"Authorization: Bearer {TOKEN}", "--workers", "1", "--checks", "all", "--phases", phases, "-n", str(examples),
        "--request-timeout", str(SLOW), "--max-response-time", str(SLOW), "--continue-on-failure",
        "--suppress-health-check", "all", *filters,
    ]  # fmt: skip
    said = []
    hooked = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks"}
    with subprocess.Popen(command, env=hooked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
    if process.returncode != 0:
        raise SystemExit(f"schemathesis found something; the end of the server's log:\n{tail(server)}")
    count = re.search(r"([\d,]+) generated", "".join(said))
    return int(count[1].replace(",", "")) if count else 0


def tail(server: Running) -> str:
    """The last lines that the server printed."""
    return "\n".join(server.log.read_text(errors="replace").splitlines()[-40:])


def require_right(server: Running, prompt: str = "The capital of France is") -> None:
    """The server lives and its answer is right."""
    answer = httpx.post(
        server.address + "api/measure/predict", json={"prompt": prompt, "k": 1}, headers=server.headers, timeout=SLOW
    )
    token = answer.json()["predictions"][0]["token"]
    if token != " Paris":
        raise SystemExit(f"after the fuzzing the model answers {token!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=40, help="most cases an operation and phase")
    parser.add_argument("--prompts", type=int, default=500, help="hostile prompts (default: %(default)s)")
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(Path(name), "smollm2-135m", "--rate", "0") as server:
        started = time.monotonic()
        apart = [part for path in SWAPPING for part in ("--exclude-path", path)]
        cases = schemathesis(server, options.examples, options.phases, *apart)
        require_right(server)
        prompts = hostile(server, options.prompts)
        print(
            f"{prompts.total()} hostile prompts: {prompts['answered']} answered right, {prompts['refused']} refused in words"
        )
        require_right(server)
        only = [part for path in SWAPPING for part in ("--include-path", path)]
        swaps = schemathesis(server, 10, "examples,coverage,fuzzing", *only)
        loaded = httpx.post(
            server.address + "api/model/load", json={"model_id": "smollm2-135m"}, headers=server.headers, timeout=300
        )
        loaded.raise_for_status()
        require_right(server)
        print(
            f"{cases:,} cases, and {swaps:,} of loading and unloading, in {time.monotonic() - started:.0f} s: nothing found"
        )


if __name__ == "__main__":
    main()
