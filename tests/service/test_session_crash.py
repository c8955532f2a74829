"""kill -9 at random moments while a process records: nothing that it was told is safe is missing, and recording goes on.

NMRI3D_KILLS says how many times; 5 by default. Run as a program, this file is the process that is killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from nmri3d.service.sessions import SessionStore
from tests.service import planted

KILLS = int(os.environ.get("NMRI3D_KILLS", "5"))
LONGEST = 0.25
"""Seconds from the first acknowledgment to the latest kill; an event takes about 2 ms."""

ROOT = Path(__file__).parents[2]


def record_for_ever(folder: str, session_id: str, seed: str) -> None:
    """Record events of all sizes; print number, data and result of each once it is recorded."""
    session = SessionStore(Path(folder)).open(session_id)
    random.seed(int(seed))
    print("[]", flush=True)
    while True:
        result = planted.scan(random.randrange(10**6)) if random.random() < 0.6 else None
        data = {"random": random.random(), "text": "é" * random.choice([1, 1, 100, 100, 100, 20_000, 20_000, 400_000])}
        event = session.record("scan", data, result)
        print(json.dumps([event.number, event.data["random"], event.result]), flush=True)


def killed_while_recording(folder: Path, session_id: str, seed: int) -> list[tuple[int, float, str]]:
    """Start the recorder, kill it at a random moment, and return what it had acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.service.test_session_crash", str(folder), session_id, str(seed)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "[]\n", "the recorder did not start"
        time.sleep(random.uniform(0.0, LONGEST))
    finally:
        child.send_signal(signal.SIGKILL)
    said, _ = child.communicate(timeout=30)
    whole = said.splitlines() if said.endswith("\n") or not said else said.splitlines()[:-1]
    return [tuple(json.loads(line)) for line in whole]


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path):
    store = SessionStore(tmp_path)
    session = store.create("killed")
    session.keep()
    told, torn = 0, 0
    for seed in range(KILLS):
        before = len(store.open(session.id).events)
        acknowledged = killed_while_recording(tmp_path, session.id, seed)
        again = SessionStore(tmp_path).open(session.id)
        assert again.damaged == ""
        assert len(again.events) - before - len(acknowledged) in (0, 1), (
            "one event may be there without having been told"
        )
        for number, value, result in acknowledged:
            event = again.events[number]
            assert (event.data["random"], event.result) == (value, result)
        for event in again.events[before:]:
            found = again.result(event)
            assert found is None or np.isnan(found.values[:, 2]).all()
        again.record("note", {"text": f"after kill {seed}"})
        told += len(acknowledged)
        torn = len(list((tmp_path / session.id).glob("torn-*")))
    last = SessionStore(tmp_path).open(session.id)
    assert [event.data["text"] for event in last.events if event.kind == "note"] == [
        f"after kill {k}" for k in range(KILLS)
    ]
    assert told > 0
    print(f"{KILLS} kills, {told} events acknowledged, none missing, {torn} torn lines moved away")


if __name__ == "__main__":
    record_for_ever(*sys.argv[1:])
