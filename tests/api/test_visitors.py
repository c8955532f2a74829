"""Visitors over a real port: separate state, coming back, leaving, too many, and that nothing of theirs is left."""

from __future__ import annotations

import gc
import re
import sys

import httpx
import pytest

from nmri3d.app import visitors as visitors_module
from nmri3d.errors import MachineError
from nmri3d.service import Service
from tests.api.wire import CountingPage, Person, close_code, running
from tests.service.fakes import FakeLoader
from tests.service.test_queueing import wait_for


@pytest.fixture
def service():
    CountingPage.made.clear()
    CountingPage.closed.clear()
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


@pytest.fixture
def server(service):
    with running(service, grace_seconds=60) as server:
        yield server


@pytest.fixture
def person(server):
    return Person(server)


def test_two_visitors_have_state_of_their_own(person):
    first, path, _ = person.visit()
    second, other_path, _ = person.visit()
    assert path != other_path
    first.trigger("add", 2)
    assert (first.state["n"], second.state["n"]) == (2, 0)
    second.trigger("add", 5)
    assert (first.state["n"], second.state["n"]) == (2, 5)


def test_the_secret_of_the_visit_is_needed_and_tramas_constant_does_not_do(person):
    path, secret = person.enter()
    person.http.get(path)
    stranger = person.join(path, "wslink-secret")
    assert stranger.hello["error"]["message"] == "Authentication failed"
    assert "error" in stranger.call("trame.state.get")
    assert "result" in person.join(path, secret).hello


def test_without_the_token_nothing_is_given(server, person):
    wire, path, secret = person.visit()
    for address in ("/", path, "/static/vue.global.js", "/static/index.html", "/docs", "/openapi.json", "/healthz"):
        assert httpx.get(f"http://127.0.0.1:{server.port}{address}").status_code == 401, address
    stranger = Person(server)
    stranger.http.cookies.clear()
    with pytest.raises(Exception, match="HTTP 403"):
        stranger.join(path, secret)
    assert wire.state["n"] == 0


def test_html_is_complete_and_its_files_are_there(person):
    path, _ = person.enter()
    html = person.http.get(path).text
    assert "<title>Counting &lt;page&gt;</title>" in html
    assert re.search(r"<script(?![^>]*src)", html) is None, "inline script, which the content policy forbids"
    sources = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', html)
    assert len(sources) >= 4
    for source in sources:
        file = person.http.get(f"/static/{source.removeprefix('./')}")
        assert file.status_code == 200, source
        assert file.headers["content-type"].startswith(("text/javascript", "text/css"))


def test_a_reload_makes_a_new_visitor(person):
    path, _ = person.enter()
    assert person.http.get(path).status_code == 200
    again = person.http.get(path)
    assert (again.status_code, again.headers["location"]) == (303, "../../")
    assert person.enter()[0] != path


def test_a_broken_connection_comes_back_to_its_state(person):
    wire, path, secret = person.visit()
    wire.trigger("add", 3)
    wire.close()
    assert person.join(path, secret).state["n"] == 3


def test_a_second_connection_of_a_visit_takes_the_place_of_the_first(person):
    wire, path, secret = person.visit()
    wire.trigger("add", 3)
    second = person.join(path, secret)
    assert close_code(wire) == 4409
    assert second.state["n"] == 3


def test_a_visit_that_is_not_there_is_closed_in_words(person):
    with pytest.raises(Exception, match="this visit has ended"):
        person.join("/v/0123456789abcdef/", "secret")


def test_a_call_that_waits_does_not_hold_up_the_next(person):
    wire, _, _ = person.visit()
    waiting = wire.send("trame.trigger", "wait", [], {})
    wire.send("trame.trigger", "release", [], {})
    assert wire.answer(waiting)["result"] == "waited"


def test_calls_keep_their_order(person):
    wire, _, _ = person.visit()
    for i in range(200):
        wire.send("trame.state.update", [{"key": "n", "value": i}])
    assert wire.state["n"] == 199


def test_what_trame_cannot_read_ends_that_connection_only(person):
    wire, path, secret = person.visit()
    wire.trigger("add", 1)
    wire.socket.send(b"\x00\x01\x02")
    assert close_code(wire) == 1007
    assert person.join(path, secret).state["n"] == 1


def test_who_stays_away_is_closed_and_nothing_of_theirs_is_left(service):
    with running(service, grace_seconds=0.3) as server:
        person = Person(server)
        wire, path, secret = person.visit()
        staying, _, _ = person.visit()
        wire.trigger("add", 1)
        wire.trigger("work")
        visitor_id = path.split("/")[2]
        [job] = service._runner.jobs(visitor_id)
        wire.close()
        wait_for(lambda: CountingPage.closed == [visitor_id])
        wait_for(lambda: job.done)
        assert job.cancelled
        assert visitor_id not in server.visitors.ids
        assert person.http.get(path).status_code == 303
        with pytest.raises(Exception, match="this visit has ended"):
            person.join(path, secret)

        def gone():
            gc.collect()
            return CountingPage.made[0]() is None

        wait_for(gone)
        helpers = (
            sys.modules["trame_vtk.modules.vtk"].HELPERS_PER_SERVER if "trame_vtk.modules.vtk" in sys.modules else {}
        )
        assert visitor_id not in helpers
        assert staying.state["n"] == 0
        assert len(server.visitors) == 1


def test_who_never_connects_does_not_stay(service):
    with running(service, grace_seconds=0.2) as server:
        Person(server).enter()
        assert len(server.visitors) == 1
        wait_for(lambda: len(server.visitors) == 0)


def test_too_many_are_told_so_and_let_in_when_one_is_away(service):
    with running(service, max_visitors=2, grace_seconds=60) as server:
        person = Person(server)
        first, path, _ = person.visit()
        person.visit()
        refused = person.http.get("/", headers={"accept": "text/html"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "61"
        assert "<h1>No room just now</h1>" in refused.text
        assert "2 tabs have this page open already" in refused.text
        first.close()
        wait_for(lambda: any(visitor.left is not None for visitor in server.visitors._visitors.values()))
        third, third_path, _ = person.visit()
        assert third.state["n"] == 0
        assert path.split("/")[2] in CountingPage.closed
        assert set(server.visitors.ids) >= {third_path.split("/")[2]}
        assert len(server.visitors) == 2


def test_the_place_of_who_never_came_is_given_away(service, monkeypatch):
    monkeypatch.setattr(visitors_module, "ARRIVAL_SECONDS", 0.2)
    with running(service, max_visitors=1, grace_seconds=60) as server:
        person = Person(server)
        person.enter()
        assert person.http.get("/").status_code == 503  # it may still be on its way
        wait_for(lambda: person.http.get("/").status_code == 303)
        assert len(server.visitors) == 1


def test_a_page_that_cannot_be_built_is_told_and_leaves_nothing(service):
    def fails(server, service):
        raise MachineError("No display can be had; install libegl1.")

    with running(service, make_page=fails) as server:
        answer = Person(server).http.get("/", headers={"accept": "text/html"})
        assert answer.status_code == 500
        assert "No display can be had; install libegl1." in answer.text
        assert len(server.visitors) == 0


def test_stopping_closes_every_visitor(service):
    with running(service) as server:
        person = Person(server)
        wires = [person.visit()[0] for _ in range(2)]
        server.stop()
        assert {close_code(wire) for wire in wires} <= {1012, 1013, 1001}
    assert len(CountingPage.closed) == 2
