"""Turns at the model, and equal requests that are computed once."""

from __future__ import annotations

import threading

import pytest

from nmri3d.errors import BusyError, Cancelled, InputError
from nmri3d.models.backend import no_progress
from nmri3d.service import queueing
from nmri3d.service.queueing import Flights, TurnLock
from nmri3d.service.runner import Runner
from tests.service.fakes import PATIENCE


@pytest.fixture
def a_runner():
    runner = Runner()
    yield runner
    assert runner.close()


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never happened")


def test_owners_take_turns(a_runner):
    """One who asks for five things while the model is held delays another by one, not by five."""
    lock, order, release = TurnLock(), [], threading.Event()

    def hold(name):
        def work(progress):
            with lock.hold(progress):
                order.append(name)
                if name == "first":
                    assert release.wait(PATIENCE)

        return work

    jobs = [a_runner.run(hold("first"), owner="greedy")]
    wait_for(lambda: order == ["first"])
    for i in range(5):
        jobs.append(a_runner.run(hold(f"greedy {i}"), owner="greedy"))
        wait_for(lambda i=i: len(lock._waiters) == i + 1)
    jobs.append(a_runner.run(hold("other"), owner="other"))
    wait_for(lambda: len(lock._waiters) == 6)
    release.set()
    for job in jobs:
        job.result(PATIENCE)
    assert order == ["first", "other", *[f"greedy {i}" for i in range(5)]]


def test_only_one_holds_the_lock(a_runner):
    lock, inside, most = TurnLock(), [], []

    def work(progress):
        for _ in range(20):
            with lock.hold(progress):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    for job in [a_runner.run(work, owner=i) for i in range(4)]:
        job.result(PATIENCE)
    assert len(most) == 80
    assert set(most) == {1}


def test_who_waits_can_leave_and_holds_nobody_up(a_runner):
    lock, release, waits = TurnLock(), threading.Event(), []

    def holder(progress):
        with lock.hold(progress):
            assert release.wait(PATIENCE)

    def waiter(progress):
        with lock.hold(lambda share, what: (waits.append(what), progress(share, what))):
            return "had it"

    first = a_runner.run(holder)
    wait_for(lambda: lock._held)
    leaver, stayer = a_runner.run(waiter), a_runner.run(waiter)
    wait_for(lambda: len(lock._waiters) == 2 and waits)
    leaver.cancel()
    with pytest.raises(Cancelled):
        leaver.result(PATIENCE)
    release.set()
    assert first.result(PATIENCE) is None
    assert stayer.result(PATIENCE) == "had it"
    assert all(what.startswith("Waiting for the model") for what in waits)


def test_a_full_line_is_refused(a_runner):
    lock = TurnLock(limit=1)
    with lock.hold(no_progress):
        waiter = a_runner.run(lambda progress: lock.hold(progress).__enter__())
        wait_for(lambda: len(lock._waiters) == 1)
        with pytest.raises(BusyError, match="1 requests wait already"):
            lock.hold(no_progress).__enter__()
        waiter.cancel()
        with pytest.raises(Cancelled):
            waiter.result(PATIENCE)


def held_by(runner, lock, gate):
    """A job that holds the lock until the gate opens."""

    def work(progress):
        with lock.hold(progress):
            assert gate.wait(PATIENCE)

    job = runner.run(work, owner="holder")
    wait_for(lambda: lock._held)
    return job


def take(lock):
    def work(progress):
        with lock.hold(progress):
            return "had it"

    return work


def test_one_who_fills_the_line_shuts_nobody_else_out(a_runner):
    lock, gate = TurnLock(limit=3), threading.Event()
    jobs = [held_by(a_runner, lock, gate)]
    for i in range(3):
        jobs.append(a_runner.run(take(lock), owner="greedy"))
        wait_for(lambda i=i: lock.waiting == i + 1)
    with pytest.raises(BusyError):
        a_runner.run(take(lock), owner="greedy").result(PATIENCE)
    jobs.append(a_runner.run(take(lock), owner="modest"))
    wait_for(lambda: lock.waiting == 4)
    with pytest.raises(BusyError):
        a_runner.run(take(lock), owner="modest").result(PATIENCE)
    gate.set()
    assert [job.result(PATIENCE) for job in jobs[1:]] == ["had it"] * 4


def test_work_that_had_a_turn_is_not_sent_away_half_way(a_runner):
    """A generation gives the model back after each token; a full line must not end it."""
    lock, gate, second = TurnLock(limit=1), threading.Event(), threading.Event()

    def two_turns(progress):
        with lock.hold(progress):
            pass
        assert second.wait(PATIENCE)
        with lock.hold(progress):
            return "both"

    begun = a_runner.run(two_turns, owner="writer")
    wait_for(lambda: lock.turns == 1)
    holder = held_by(a_runner, lock, gate)
    waits = [a_runner.run(take(lock), owner="writer")]
    wait_for(lambda: lock.waiting == 1)
    second.set()
    wait_for(lambda: lock.waiting == 2)
    gate.set()
    assert begun.result(PATIENCE) == "both"
    assert waits[0].result(PATIENCE) == "had it"
    holder.result(PATIENCE)


def test_who_is_refused_learns_how_long_the_line_takes(a_runner, monkeypatch):
    """Line length times recent seconds a turn, by a clock of the test's own."""
    now = [100.0]
    monkeypatch.setattr(queueing.time, "monotonic", lambda: now[0])
    lock = TurnLock(limit=2)
    assert (lock.waiting, lock.turns, lock.seconds_a_turn, lock.retry_after()) == (0, 0, 0.0, 1)
    for seconds in (4.0, 4.0, 9.0):
        with lock.hold(no_progress):
            now[0] += seconds
    assert lock.turns == 3
    assert lock.seconds_a_turn == pytest.approx(4 + 0.2 * (9 - 4))
    assert lock.retry_after() == 1  # nobody is there
    gate = threading.Event()
    jobs = [held_by(a_runner, lock, gate)]
    assert lock.retry_after() == 5
    for i in range(2):
        jobs.append(a_runner.run(take(lock), owner="a"))
        wait_for(lambda i=i: lock.waiting == i + 1)
    with pytest.raises(BusyError, match="again in 15 s") as refused:
        a_runner.run(take(lock), owner="a").result(PATIENCE)
    assert refused.value.retry_after == 15  # one holds it, two wait, 5 s each
    now[0] += 8
    assert lock.retry_after() == 24  # a turn that lasts already longer than the mean counts as it is
    now[0] += 1000
    assert lock.retry_after() == 60
    gate.set()
    for job in jobs:
        job.result(PATIENCE)


def test_an_error_inside_gives_the_lock_back():
    lock = TurnLock()
    with pytest.raises(KeyError), lock.hold(no_progress):
        raise KeyError
    with lock.hold(no_progress):
        assert lock._held
    assert not lock._held


def flying(flights, key):
    return key in flights._flights


def test_equal_requests_fly_once_and_others_alone(a_runner):
    flights, gate, computed = Flights(), threading.Event(), []

    def compute(progress):
        progress(0.5, "half")
        computed.append(1)
        assert gate.wait(PATIENCE)
        return object()

    followers_heard = []
    leader = a_runner.run(lambda progress: flights.run("key", compute, progress))
    wait_for(lambda: computed)
    followers = [
        a_runner.run(
            lambda progress: flights.run(
                "key", compute, lambda share, what: (followers_heard.append(share), progress(share, what))
            )
        )
        for _ in range(3)
    ]
    other = a_runner.run(lambda progress: flights.run("other", lambda _: "other", progress))
    assert other.result(PATIENCE) == "other"
    wait_for(lambda: followers_heard)
    gate.set()
    value = leader.result(PATIENCE)
    assert all(job.result(PATIENCE) is value for job in followers)
    assert len(computed) == 1
    assert flights.shared == 3
    assert 0.5 in followers_heard
    assert not flying(flights, "key")


def test_when_the_first_leaves_another_takes_over(a_runner):
    flights, began, gate = Flights(), [], threading.Event()

    def compute(progress):
        began.append(1)
        while not gate.wait(0.005):
            progress(0.5, "working")
        return "value"

    leader = a_runner.run(lambda progress: flights.run("key", compute, progress))
    wait_for(lambda: len(began) == 1)
    follower = a_runner.run(lambda progress: flights.run("key", compute, progress))
    wait_for(lambda: follower.progress == (0.5, "working"))
    leader.cancel()
    with pytest.raises(Cancelled):
        leader.result(PATIENCE)
    wait_for(lambda: len(began) == 2)
    gate.set()
    assert follower.result(PATIENCE) == "value"


def test_a_follower_may_leave_alone(a_runner):
    flights, gate = Flights(), threading.Event()
    compute = lambda progress: gate.wait(PATIENCE)  # noqa: E731
    leader = a_runner.run(lambda progress: flights.run("key", compute, progress))
    wait_for(lambda: flying(flights, "key"))
    follower = a_runner.run(lambda progress: flights.run("key", compute, progress))
    follower.cancel()
    with pytest.raises(Cancelled):
        follower.result(PATIENCE)
    gate.set()
    assert leader.result(PATIENCE) is True


def test_an_error_is_everybodys_and_is_not_kept(a_runner):
    flights, gate, computed = Flights(), threading.Event(), []

    def fails(progress):
        computed.append(1)
        assert gate.wait(PATIENCE)
        raise InputError("not so")

    jobs = [a_runner.run(lambda progress: flights.run("key", fails, progress)) for _ in range(2)]
    wait_for(lambda: computed)
    threading.Event().wait(0.1)  # let the second join
    gate.set()
    for job in jobs:
        with pytest.raises(InputError, match="not so"):
            job.result(PATIENCE)
    assert flights.run("key", lambda _: "again", no_progress) == "again"
