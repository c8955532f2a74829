"""Turns at the model, and equal requests that are computed once."""

from __future__ import annotations

import threading

import pytest

from nmri3d.errors import BusyError, Cancelled, InputError
from nmri3d.models.backend import no_progress
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
