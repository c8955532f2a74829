"""Work of requests: awaited, withdrawn when the client hangs up, or kept as a job that is asked for later."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.testclient import TestClient

from nmri3d.api import calls as calls_module
from nmri3d.api import errors
from nmri3d.api.calls import Calls, client_of
from nmri3d.api.routes import jobs as routes
from nmri3d.errors import BusyError, Cancelled, InputError
from nmri3d.service import Service
from tests.service.fakes import PATIENCE, FakeLoader

ASYNC = {"prefer": "respond-async"}


class Bench:
    """An application whose POST /work does what the test says: `gate` holds it, `work` makes the answer."""

    def __init__(self, service):
        self.service, self.calls = service, Calls(service)
        self.gate, self.began = threading.Event(), threading.Event()
        self.work = lambda progress: Response(b"\x00answer", 201, headers={"X-Kept": "yes"}, media_type="image/png")
        app = FastAPI()
        errors.install(app)
        app.include_router(routes.router(SimpleNamespace(service=service, calls=self.calls)))

        @app.post("/work")
        async def work(request: Request) -> Response:
            return await self.calls.respond(request, self._held, name="The work")

        self.client = TestClient(app)
        self.app = app

    def _held(self, progress):
        self.began.set()
        while not self.gate.wait(0.005):
            progress(0.25, "held")
        return self.work(progress)

    def start(self, **headers):
        answer = self.client.post("/work", headers=ASYNC | headers)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def ended(self, job):
        self.gate.set()
        answer = self.client.get(f"/api/jobs/{job['id']}", params={"wait": PATIENCE})
        while answer.json()["state"] == "running":
            answer = self.client.get(
                f"/api/jobs/{job['id']}", params={"wait": PATIENCE, "since": answer.json()["version"]}
            )
        return answer.json()


@pytest.fixture
def bench():
    service = Service(loader=FakeLoader())
    bench = Bench(service)
    yield bench
    bench.gate.set()
    assert service.close()


def test_without_a_wish_the_answer_is_waited_for(bench):
    bench.gate.set()
    answer = bench.client.post("/work")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (201, b"\x00answer", "image/png")
    assert bench.calls.jobs() == []


@pytest.mark.parametrize("prefer", ["respond-async", "wait=5, Respond-Async; x=1", "return=minimal,respond-async"])
def test_with_the_wish_it_is_a_job_that_says_how_far_it_is(bench, prefer):
    answer = bench.client.post("/work", headers={"prefer": prefer})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    job = answer.json()
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert bench.began.wait(PATIENCE)
    news = bench.client.get(answer.headers["location"], params={"wait": PATIENCE, "since": job["version"]}).json()
    while not news["what"]:
        news = bench.client.get(answer.headers["location"], params={"wait": PATIENCE, "since": news["version"]}).json()
    assert (news["state"], news["share"], news["what"], news["name"]) == ("running", 0.25, "held", "The work")
    assert bench.ended(job)["share"] == 1.0


@pytest.mark.parametrize("prefer", ["", "respond-asynchronously", "x=respond-async", "wait=3"])
def test_another_wish_is_none(bench, prefer):
    bench.gate.set()
    assert bench.client.post("/work", headers={"prefer": prefer}).status_code == 201


def test_the_answer_is_kept_as_it_was_made_and_may_be_fetched_again(bench):
    job = bench.start()
    assert bench.ended(job)["state"] == "done"
    for _ in range(2):
        answer = bench.client.get(job["result_url"])
        assert (answer.status_code, answer.content) == (201, b"\x00answer")
        assert (answer.headers["content-type"], answer.headers["x-kept"]) == ("image/png", "yes")


def test_before_it_is_done_there_is_no_answer(bench):
    job = bench.start()
    answer = bench.client.get(job["result_url"])
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"/api/jobs/{job['id']}?wait=30" in answer.json()["detail"]


def test_a_failed_job_answers_with_its_error_each_time(bench):
    def fails(progress):
        raise InputError("The cause, and the remedy.")

    bench.work = fails
    job = bench.start()
    assert bench.ended(job)["state"] == "failed"
    for _ in range(2):
        answer = bench.client.get(job["result_url"])
        assert (answer.status_code, answer.json()["detail"]) == (422, "The cause, and the remedy.")


def test_an_error_that_nobody_expected_tells_nothing_of_the_inside(bench, caplog):
    def fails(progress):
        raise KeyError("secret")

    bench.work = fails
    job = bench.start()
    assert bench.ended(job)["state"] == "failed"
    answer = bench.client.get(job["result_url"])
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_an_error_lets_go_of_what_its_frames_held(bench):
    """A failed job is kept for minutes; a model that its frames knew must not be."""

    class Large:
        pass

    import weakref

    held = []

    def fails(progress):
        large = Large()
        held.append(weakref.ref(large))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise InputError("outer") from error

    bench.work = fails
    bench.ended(bench.start())
    assert held[0]() is None


def test_a_deleted_job_stops_and_is_not_there_any_more(bench):
    job = bench.start()
    assert bench.began.wait(PATIENCE)
    (running,) = bench.service._runner.jobs()
    deleted = bench.client.delete(f"/api/jobs/{job['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    with pytest.raises(Cancelled):
        running.result(PATIENCE)
    for path in (f"/api/jobs/{job['id']}", job["result_url"]):
        assert bench.client.get(path).status_code == 404
    assert bench.client.delete(f"/api/jobs/{job['id']}").status_code == 404
    assert bench.client.get("/api/jobs").json() == {"jobs": []}


def test_work_that_is_withdrawn_otherwise_says_so(bench):
    """By the server when it is stopped, say."""
    job = bench.start()
    assert bench.began.wait(PATIENCE)
    bench.service.cancel_jobs(None)
    while (state := bench.client.get(f"/api/jobs/{job['id']}", params={"wait": 5}).json()["state"]) == "running":
        pass
    assert state == "cancelled"
    answer = bench.client.get(job["result_url"])
    assert (answer.status_code, answer.json()["detail"]) == (409, "The work was cancelled.")


def test_waiting_ends_after_its_time_at_news_and_at_the_end(bench):
    job = bench.start()
    url = f"/api/jobs/{job['id']}"
    assert bench.began.wait(PATIENCE)
    while (known := bench.client.get(url).json())["what"] != "held":
        pass
    started = time.monotonic()
    assert bench.client.get(url, params={"wait": 0.3, "since": known["version"]}).json() == known
    assert 0.3 <= time.monotonic() - started < PATIENCE / 2
    assert bench.client.get(url, params={"wait": 0.3}).json() == known  # of this moment: no news either
    # news since an older version are told at once
    assert bench.client.get(url, params={"wait": 30, "since": known["version"] - 1}).json() == known
    threading.Timer(0.2, bench.gate.set).start()
    done = bench.client.get(url, params={"wait": 30, "since": known["version"]}).json()
    assert (done["state"], done["version"]) == ("done", known["version"] + 1)
    started = time.monotonic()
    assert bench.client.get(url, params={"wait": 30, "since": done["version"]}).json() == done
    assert time.monotonic() - started < PATIENCE / 2


def test_each_client_lists_its_own(bench):
    mine = bench.start(**{"nmri3d-client": "me"})
    yours = bench.start()
    listed = bench.client.get("/api/jobs", headers={"nmri3d-client": "me"}).json()["jobs"]
    assert [job["id"] for job in listed] == [mine["id"]]
    assert [job["id"] for job in bench.client.get("/api/jobs").json()["jobs"]] == [yours["id"]]
    # who has the id may look
    assert bench.client.get(f"/api/jobs/{mine['id']}").status_code == 200


def test_who_a_client_is():
    def named(name, host="10.0.0.1"):
        headers = {} if name is None else {"nmri3d-client": name}
        return client_of(SimpleNamespace(headers=headers, client=SimpleNamespace(host=host, port=1)))

    assert named("a b") == "client a b"
    for unusable in (None, "", "x" * 65, "é", "a\x00"):
        assert named(unusable) == "host 10.0.0.1"
    assert client_of(SimpleNamespace(headers={}, client=None)) == "host"


def test_what_is_no_job_is_told_in_words(bench):
    unknown = bench.client.get("/api/jobs/AAAAAAAAAAAAAAAA")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:nmri3d:error:NotFoundError")
    for method, path in (("get", "AAAAAAAAAAAAAAAA/result"), ("delete", "AAAAAAAAAAAAAAAA")):
        assert getattr(bench.client, method)(f"/api/jobs/{path}").status_code == 404
    for wrong in ("short", "..%5c..%5cx", "A" * 17, "ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ"):
        assert bench.client.get(f"/api/jobs/{wrong}").status_code == 422
    job = bench.start()
    for query in ({"wait": -1}, {"wait": 31}, {"wait": "nan"}, {"wait": "inf"}, {"since": -2}, {"since": 10**30}):
        assert bench.client.get(f"/api/jobs/{job['id']}", params=query).status_code == 422, query


def settled(condition):
    """A job is done a moment before it is counted."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_ended_jobs_are_forgotten_after_their_time(bench, monkeypatch):
    job = bench.start()
    bench.ended(job)
    monkeypatch.setattr(calls_module, "KEPT_SECONDS", 0.0)
    assert bench.client.get(job["result_url"]).status_code == 404
    assert bench.client.get("/api/jobs").json() == {"jobs": []}


def test_answers_are_bounded_in_bytes_and_the_oldest_go(bench, monkeypatch):
    monkeypatch.setattr(calls_module, "KEPT_BYTES", 250)
    bench.work = lambda progress: Response(b"x" * 100)
    jobs = []
    for _ in range(3):
        jobs.append(bench.start()["id"])
        assert bench.ended({"id": jobs[-1]})["state"] == "done"
    settled(lambda: [kept.id for kept in bench.calls.jobs()] == jobs[1:])
    bench.work = lambda progress: Response(b"x" * 1000)
    large = bench.start()
    assert bench.ended(large)["state"] == "done", "the newest stays even if it is larger"
    settled(lambda: [kept.id for kept in bench.calls.jobs()] == [large["id"]])


def test_one_client_may_not_fill_the_server(bench, monkeypatch):
    monkeypatch.setattr(calls_module, "MOST_RUNNING", 2)
    for _ in range(2):
        bench.start(**{"nmri3d-client": "greedy"})
    refused = bench.client.post("/work", headers=ASYNC | {"nmri3d-client": "greedy"})
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "2 jobs of yours" in refused.json()["detail"]
    bench.start(**{"nmri3d-client": "other"})


def test_when_there_are_too_many_the_oldest_ended_gives_way_and_running_ones_do_not(bench, monkeypatch):
    monkeypatch.setattr(calls_module, "MOST_JOBS", 2)
    ended = bench.start()
    bench.ended(ended)
    bench.gate.clear()
    running = [bench.start(), bench.start()]
    assert [kept.id for kept in bench.calls.jobs()] == [job["id"] for job in running]
    assert bench.client.post("/work", headers=ASYNC).status_code == 503


# -- clients that hang up --------------------------------------------------------------------------------------------


async def ask(bench, hang_up):
    """POST /work as a server would call it; `hang_up` is an asyncio.Event after which the client is gone."""
    received, sent = 0, []

    async def receive():
        nonlocal received
        received += 1
        if received == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        await hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/work",
        "raw_path": b"/work",
        "query_string": b"",
        "headers": [],
        "client": ("10.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
    }
    await bench.app(scope, receive, send)
    return sent


def test_when_the_client_hangs_up_its_work_is_withdrawn(bench):
    async def scenario():
        hang_up = asyncio.Event()
        call = asyncio.ensure_future(ask(bench, hang_up))
        while not bench.began.is_set():
            await asyncio.sleep(0.01)
        (job,) = bench.service._runner.jobs()
        hang_up.set()
        await asyncio.wait_for(call, PATIENCE)
        return job

    job = asyncio.run(scenario())
    assert job.cancelled
    with pytest.raises(Cancelled):
        job.result(PATIENCE)


def test_when_the_first_of_equal_requests_hangs_up_another_goes_on(bench):
    """Through the whole service: the measurement is begun anew for the one who stayed."""
    bench.service.load("fake")
    backend, gate = bench.service.backend, threading.Event()
    backend.gates[1] = gate
    bench.gate.set()

    def work(progress):
        (best,) = bench.service.predict("a b", k=1, progress=progress)
        return Response(str(best.token_id))

    bench.work = work

    async def scenario():
        first_leaves, second_leaves = asyncio.Event(), asyncio.Event()
        first = asyncio.ensure_future(ask(bench, first_leaves))
        while not backend.reached[1].is_set():
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(ask(bench, second_leaves))
        while len(bench.service._runner.jobs()) < 2:
            await asyncio.sleep(0.01)
        first_leaves.set()
        await asyncio.sleep(0.1)
        gate.set()  # the pass goes on and finds that it was withdrawn
        sent = await asyncio.wait_for(second, PATIENCE)
        await asyncio.wait_for(first, PATIENCE)
        return sent

    start, body = asyncio.run(scenario())
    assert (start["status"], body["body"]) == (200, b"1")
    assert backend.passes == 2


def test_equal_requests_at_once_are_measured_once(bench):
    bench.service.load("fake")
    backend, gate = bench.service.backend, threading.Event()
    backend.gates[1] = gate
    bench.gate.set()
    bench.work = lambda progress: Response(str(bench.service.predict("a b", k=1, progress=progress)[0].probability))

    async def scenario():
        stay = asyncio.Event()
        asked = [asyncio.ensure_future(ask(bench, stay)) for _ in range(8)]
        while len(bench.service._runner.jobs()) < 8 or not backend.reached[1].is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # all have joined
        gate.set()
        return await asyncio.gather(*asked)

    answers = asyncio.run(scenario())
    assert len({sent[1]["body"] for sent in answers}) == 1
    assert backend.passes == 1
    assert bench.service.figures()["shared"] == 7


def test_a_refusal_says_when_to_come_back(bench):
    def refuses(progress):
        raise BusyError("Full.", retry_after=17)

    bench.work = refuses
    bench.gate.set()
    answer = bench.client.post("/work")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "17")


def test_openapi_says_that_a_result_may_be_anything(bench):
    paths = bench.client.get("/openapi.json").json()["paths"]
    result = paths["/api/jobs/{job_id}/result"]["get"]["responses"]
    assert set(result["200"]["content"]) == {"*/*"}
    assert "409" in result
