"""The end of `nmri3d serve`: in good order at the first signal, at once at the second."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from nmri3d.service import Service
from tests.api.wire import running
from tests.service.fakes import PATIENCE, FakeLoader


@pytest.fixture
def service():
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


PROGRAM = """
import sys, threading, time
from tests.api.wire import CountingPage
from tests.service.fakes import FakeBackend, FakeLoader
from nmri3d.app import ending, serve
from nmri3d.service import Service
serve.WebServer.__init__.__kwdefaults__["make_page"] = CountingPage
what, sessions = sys.argv[1:]
loader = FakeLoader()
if what == "loading":
    def loader(name, *, progress, **options):
        while True:
            progress(0.5, "reading")
            threading.Event().wait(0.01)
service = Service(loader=loader)
if what == "deaf":  # work that never looks whether it was withdrawn
    Service.close.__defaults__ = (1.5,)
    service.run(lambda progress: threading.Event().wait())
options = dict(sessions=sessions, port=0, open_browser=False, model="fake")
if what == "json":
    options.update(log_format="json", token="given-token-0123456789")
ended = serve.run(service, **options)
sys.stdout.write(f"ended {ended}\\n")
if not ended:
    ending.leave_at_once(0)
"""


@contextlib.contextmanager
def started(what, folder):
    """The program in a process of its own, and its first line."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def address_of(program):
    first_line = program.stdout.readline()
    assert program.stdout.readline() == "Press Ctrl+C to end it.\n"
    return first_line.removeprefix("Neural MRI 3D is at ").strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["ready", "loading"])
def test_a_signal_ends_the_program_in_good_order(number, when, tmp_path):
    with started(when, tmp_path) as program:
        address = address_of(program)
        with httpx.Client(timeout=PATIENCE, follow_redirects=True) as client:
            # the port listens already, so that this waits until the server answers
            assert client.get(address).status_code == 200
            health = client.get(httpx.URL(address).join("/healthz"))
        assert health.json()["status"] == ("ok" if when == "ready" else "loading")
        program.send_signal(number)
        out, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, err
    assert "Traceback" not in err
    assert out == "ended True\n"


def test_a_second_signal_ends_the_program_at_once(tmp_path):
    with started("deaf", tmp_path) as program:
        httpx.get(address_of(program), timeout=PATIENCE)
        program.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the deaf work
            program.wait(0.5)
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE) == 1  # in good order it would have been 0


def test_work_that_cannot_be_stopped_does_not_keep_the_program(tmp_path):
    with started("deaf", tmp_path) as program:
        httpx.get(address_of(program), timeout=PATIENCE)
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out) == (0, "ended False\n"), err


def test_in_json_a_given_token_is_written_nowhere(tmp_path):
    with started("json", tmp_path) as program:
        serving = None
        while serving is None:
            line = json.loads(program.stderr.readline())
            serving = line if line["event"] == "serving" else None
        headers = {"authorization": "Bearer given-token-0123456789"}
        assert httpx.get(f"{serving['address']}healthz", headers=headers, timeout=PATIENCE).status_code == 200
        assert httpx.get(serving["address"], params={"token": headers["authorization"][7:]}).status_code == 303
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=PATIENCE)
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert program.returncode == 0
    assert {"request"} <= set(events)
    assert out == "ended True\n"
    assert "given-token" not in err


def test_when_it_ends_requests_are_refused_running_work_is_withdrawn_and_sessions_are_closed(service, tmp_path):
    service.load("fake")
    service.backend.gates[1] = threading.Event()
    answers = {}
    with running(service, token="", sessions=tmp_path) as server:
        assert server.store is not None
        closed = threading.Event()
        close_store = server.store.close

        def close():
            close_store()
            closed.set()

        server.store.close = close

        def ask(name, base):
            with httpx.Client(base_url=base, timeout=PATIENCE) as client:
                answers[name] = client.post("/api/measure/predict", json={"prompt": "a b"})

        asking = threading.Thread(target=ask, args=("running", server.address))
        asking.start()
        assert service.backend.reached[1].wait(PATIENCE)
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            assert client.get("/healthz").status_code == 200
            server.limits.closing = True  # what `stop` does first; the connection is still there
            late = client.get("/healthz")
        assert (late.status_code, late.headers["retry-after"]) == (503, "5")
        server.stop()
        deadline = time.monotonic() + PATIENCE
        while not all(job._withdrawn.is_set() for job in service._runner.jobs()) and time.monotonic() < deadline:
            time.sleep(0.01)  # stopping happens in the server's own thread
        service.backend.gates[1].set()
        asking.join(PATIENCE)
        assert not asking.is_alive()
    assert answers["running"].status_code == 409
    assert closed.is_set()
