"""Ports, addresses, and the beginning and end of `nmri3d serve`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading

import httpx
import pytest

from nmri3d.app import listening
from nmri3d.app.listening import bind
from nmri3d.app.serve import WebServer
from nmri3d.app.terminal import Terminal
from nmri3d.errors import InputError, MachineError, ModelNotFoundError
from nmri3d.service import Service
from tests.api.wire import CountingPage, Person, running
from tests.service.fakes import PATIENCE, FakeLoader


@pytest.fixture
def service():
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


def test_a_busy_port_that_was_asked_for_is_refused_by_name(taken_port, service):
    with pytest.raises(MachineError, match=rf"port {taken_port} .*--port"):
        WebServer(service, port=taken_port)


def test_a_busy_default_port_is_left_for_a_free_one(taken_port, monkeypatch):
    monkeypatch.setattr(listening, "DEFAULT_PORT", taken_port)
    with contextlib.closing(bind("127.0.0.1", None)) as listener:
        assert listener.getsockname()[1] not in (0, taken_port)


@pytest.mark.parametrize(("host", "port"), [("no-such-host.invalid", 0), ("203.0.113.1", 0)])
def test_an_address_that_cannot_be_had_is_refused(host, port):
    with pytest.raises(MachineError, match=f"Cannot listen on {host} port {port}"):
        bind(host, port)


@pytest.mark.parametrize("port", [70000, -1, "80", True])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(InputError, match="port must be"):
        bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:{port}/"),
        ("localhost", "http://localhost:{port}/"),
        ("0.0.0.0", "http://127.0.0.1:{port}/"),
    ],
)
def test_the_address_can_be_opened_on_this_machine(service, host, expected):
    server = WebServer(service, host=host, port=0, token="a/b&c")
    with contextlib.closing(server._listener):
        assert server.address == expected.format(port=server.port)
        assert server.url == server.address + "?token=a%2Fb%26c"


def test_rules_that_are_not_safe_are_refused_and_the_port_is_given_back(service):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match="Without a token"):
        WebServer(service, host="0.0.0.0", port=port, token="")
    bind("127.0.0.1", port).close()


def test_without_a_token_the_address_is_plain_and_open(service):
    with running(service, token="") as server:
        assert server.url == server.address
        assert httpx.get(f"{server.address}healthz").status_code == 200


def test_a_page_whose_libraries_are_missing_ends_the_server_in_words(service, monkeypatch):
    monkeypatch.setitem(sys.modules, "nmri3d.app.page", None)  # importing it raises ImportError
    with pytest.raises(MachineError, match="libraries cannot be imported"), running(service, make_page=None):
        pass


def test_stopping_before_it_began_ends_it_at_once(service):
    server = WebServer(service, port=0, make_page=CountingPage)
    server.stop()
    asyncio.run(asyncio.wait_for(server.serve(), PATIENCE))
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))


def test_stopping_withdraws_a_load_and_a_call_that_waits(service):
    loader = service._slot._loader
    loader.gate = threading.Event()
    with running(service) as server:
        job = service.run(lambda progress: service.load("slow", progress=progress))
        assert loader.begun.wait(PATIENCE)
        wire, _, _ = Person(server).visit()
        wire.send("trame.trigger", "wait", [], {})
    loader.gate.set()
    with pytest.raises(Exception, match="cancelled"):
        job.result(PATIENCE)


def test_the_terminal_tells_of_loads_line_by_line_where_it_is_none(service, capsys):
    loader = service._slot._loader
    loader.errors["missing"] = [ModelNotFoundError("There is no model missing; see `nmri3d models`.")]
    with Terminal(service) as terminal:
        terminal.say("address")
        service.load("fake")
        with pytest.raises(ModelNotFoundError):
            service.load("missing")
    service.load("late")
    written = capsys.readouterr()
    assert written.out == "address\n"
    assert written.err.splitlines() == [
        "fake: Looking for fake",
        "fake: reading",
        "fake: checking",
        "Fake is ready (1,000 parameters, float32, cpu).",
        "missing: Looking for missing",
        "missing: reading",
        "missing could not be loaded. There is no model missing; see `nmri3d models`.",
    ]
