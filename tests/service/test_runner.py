"""Jobs and the threads that they run in."""

from __future__ import annotations

import asyncio
import threading
import traceback
import weakref

import pytest

from nmri3d.errors import BusyError, Cancelled, InputError
from nmri3d.service.runner import OWNER, Runner
from tests.service.fakes import PATIENCE


@pytest.fixture
def a_runner():
    runner = Runner(limit=4)
    yield runner
    assert runner.close(), "a job was left over"


def until_cancelled(progress):
    """Work that ends only when it is withdrawn."""
    pause = threading.Event()
    while True:
        progress(0.5, "working")
        pause.wait(0.005)


def test_result_and_last_progress_are_those_of_the_work(a_runner):
    def work(progress):
        progress(0.25, "a")
        progress(0.75, "b")
        return 42

    job = a_runner.run(work)
    assert job.result(PATIENCE) == 42
    assert (job.done, job.cancelled, job.progress) == (True, False, (0.75, "b"))


def test_work_runs_in_a_thread_of_its_own_with_its_owner(a_runner):
    thread, owner = a_runner.run(lambda _: (threading.current_thread(), OWNER.get()), owner="ann").result(PATIENCE)
    assert thread is not threading.current_thread()
    assert owner == "ann"
    assert OWNER.get() is None


def test_an_error_reaches_who_asked(a_runner):
    def work(progress):
        raise InputError("no such thing")

    job = a_runner.run(work)
    with pytest.raises(InputError, match="no such thing"):
        job.result(PATIENCE)
    assert not job.cancelled


def test_cancel_raises_in_the_work_and_at_who_asked(a_runner):
    seen = []

    def work(progress):
        try:
            until_cancelled(progress)
        except Cancelled as error:
            seen.append(error)
            raise

    job = a_runner.run(work, name="The scan")
    job.cancel()
    with pytest.raises(Cancelled, match=r"The scan was cancelled\."):
        job.result(PATIENCE)
    assert job.cancelled
    assert len(seen) <= 1  # none when it was withdrawn before it began


def test_work_that_ended_before_the_cancel_keeps_its_result(a_runner):
    job = a_runner.run(lambda _: 1)
    assert job.result(PATIENCE) == 1
    job.cancel()
    assert job.result() == 1
    assert not job.cancelled


def test_cancel_by_owner_leaves_the_others(a_runner):
    mine, yours = (a_runner.run(until_cancelled, owner=name) for name in ("me", "you"))
    a_runner.cancel("me")
    with pytest.raises(Cancelled):
        mine.result(PATIENCE)
    assert not yours.done
    assert a_runner.jobs("you") == (yours,)


def test_one_job_too_many_is_refused_and_room_comes_back(a_runner):
    jobs = [a_runner.run(until_cancelled) for _ in range(4)]
    with pytest.raises(BusyError, match="4 requests"):
        a_runner.run(until_cancelled)
    jobs[0].cancel()
    with pytest.raises(Cancelled):
        jobs[0].result(PATIENCE)
    for _ in range(1000):  # its thread takes it off the list a moment after it is done
        if len(a_runner.jobs()) < 4:
            break
        threading.Event().wait(0.005)
    assert a_runner.run(lambda _: "room").result(PATIENCE) == "room"


def test_one_owner_leaves_room_for_others(a_runner):
    for _ in range(3):
        a_runner.run(until_cancelled, owner="greedy")
    with pytest.raises(BusyError, match="3 requests of yours"):
        a_runner.run(until_cancelled, owner="greedy")
    a_runner.run(until_cancelled, owner="other")
    with pytest.raises(BusyError, match="4 requests are"):
        a_runner.run(until_cancelled, owner="third")


def test_who_is_refused_learns_when_to_come_back():
    runner = Runner(limit=1, retry_after=lambda: 7)
    runner.run(until_cancelled)
    with pytest.raises(BusyError) as refused:
        runner.run(until_cancelled)
    assert refused.value.retry_after == 7
    assert runner.close()


def test_an_error_lets_go_of_what_its_frames_held(a_runner):
    """Errors are kept (a job's, a flight's); what they pass through may be a whole model."""
    held = []

    class Large:
        pass

    def inner(progress):
        large = Large()
        held.append(weakref.ref(large))
        raise KeyError("first")

    def work(progress):
        large = Large()
        held.append(weakref.ref(large))
        try:
            inner(progress)
        except KeyError as error:
            raise InputError("second") from error

    job = a_runner.run(work)
    with pytest.raises(InputError):
        job.result(PATIENCE)
    assert [reference() for reference in held] == [None, None]
    assert "second" in "".join(traceback.format_exception(job.error)), "the lines of the traceback stay for the log"


def test_each_report_and_the_end_are_news(a_runner):
    gate = threading.Event()

    def work(progress):
        progress(0.5, "a")
        progress(0.5, "a")
        progress(0.75, "b")
        assert gate.wait(PATIENCE)

    ends = []
    job = a_runner.run(work)
    job.on_end(lambda: ends.append(job.done))
    while job.progress[1] != "b":
        threading.Event().wait(0.005)
    assert (job.changes, job.error) == (2, None)
    gate.set()
    job.result(PATIENCE)
    assert (job.changes, job.error) == (3, None)
    while not ends:  # called a moment after the result is there
        threading.Event().wait(0.005)
    assert ends == [True]


def test_close_ends_all_work_and_takes_no_more():
    runner = Runner()
    job = runner.run(until_cancelled)
    assert runner.close()
    assert job.cancelled
    with pytest.raises(BusyError, match="shutting down"):
        runner.run(lambda _: 1)


def test_close_says_when_work_goes_on():
    runner = Runner()
    gate = threading.Event()
    job = runner.run(lambda _: gate.wait(PATIENCE))
    assert not runner.close(timeout=0.05)
    gate.set()
    assert job.result(PATIENCE) is True


def test_in_a_loop_a_job_is_awaited_and_progress_comes_in_the_loop(a_runner):
    heard = []

    async def main():
        gate = threading.Event()

        def work(progress):
            for i in range(100):
                progress(i / 100, str(i))
            gate.set()
            return "done"

        job = a_runner.run(
            work, progress_cb=lambda share, what: heard.append((threading.current_thread(), share, what))
        )
        assert gate.wait(PATIENCE)  # blocks the loop: all reports become one
        assert await job == "done"
        assert await job == "done"

    asyncio.run(main())
    assert [(share, what) for _, share, what in heard] == [(0.99, "99")]
    assert heard[0][0] is threading.current_thread()


def test_without_a_loop_every_report_is_heard(a_runner):
    heard = []
    work = lambda progress: [progress(i / 2, "x") for i in (0, 1)]  # noqa: E731
    a_runner.run(work, progress_cb=lambda share, _: heard.append(share)).result(PATIENCE)
    assert heard == [0.0, 0.0, 0.5]  # the first says that it has begun


def test_cancelling_a_task_that_awaits_leaves_the_work(a_runner):
    async def main():
        gate = threading.Event()
        job = a_runner.run(lambda _: gate.wait(PATIENCE))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(job, 0.02)
        gate.set()
        return await job

    assert asyncio.run(main()) is True
