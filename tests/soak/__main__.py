"""`python -m tests.soak [--part memory|load]`: hours of use in minutes, on a real server; code 1 where a bound is passed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.models.tiny import tiny_checkpoint_folder
from tests.soak.load import load
from tests.soak.memory import memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--part", choices=["memory", "load"], help="do only this one")
    parser.add_argument(
        "--model", default="smollm2-135m", help='of scans and load; "tiny" for a random one (default: %(default)s)'
    )
    parser.add_argument("--scans", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--swaps", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of load (default: %(default)s)")
    options = parser.parse_args()
    passed = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = (
            tiny_checkpoint_folder("llama", Path(scratch, "llama")),
            tiny_checkpoint_folder("gpt2", Path(scratch, "gpt2"), seed=1),
        )
        model = str(folders[0]) if options.model == "tiny" else options.model
        if options.part in (None, "memory"):
            passed += [one.passed for one in memory(model, folders, options.scans, options.swaps)]
        if options.part in (None, "load"):
            passed.append(load(model, options.clients, options.seconds).passed)
    raise SystemExit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
