"""Listeners and the log."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from nmri3d.errors import InputError
from nmri3d.service import Log
from nmri3d.service.events import Broadcaster, LogLine, ModelUnloaded

EVENT = ModelUnloaded("fake")


def test_a_listener_hears_until_it_unsubscribes():
    events, heard = Broadcaster(), []
    unsubscribe = events.subscribe(heard.append)
    events.send(EVENT)
    unsubscribe()
    unsubscribe()
    events.send(EVENT)
    assert heard == [EVENT]


def test_a_listener_that_fails_harms_nobody(caplog):
    events, heard = Broadcaster(), []
    events.subscribe(lambda event: 1 / 0)
    events.subscribe(heard.append)
    with caplog.at_level(logging.ERROR):
        events.send(EVENT)
    assert heard == [EVENT]
    assert "a listener failed on ModelUnloaded" in caplog.text


def test_a_listener_of_a_loop_hears_in_its_loop():
    events, threads = Broadcaster(), []

    async def main():
        events.subscribe(lambda event: threads.append(threading.current_thread()))
        sender = threading.Thread(target=events.send, args=(EVENT,))
        sender.start()
        await asyncio.to_thread(sender.join)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert threads == [threading.current_thread()]


def test_who_unsubscribes_while_an_event_waits_does_not_hear_it():
    events, heard = Broadcaster(), []

    async def main():
        unsubscribe = events.subscribe(heard.append)
        events.send(EVENT)
        unsubscribe()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert heard == []


def test_a_closed_loop_is_no_harm():
    events, heard = Broadcaster(), []

    async def main():
        events.subscribe(heard.append)

    asyncio.run(main())
    events.send(EVENT)
    assert heard == []


def test_log_lines_have_the_time_since_the_session_began():
    now = [100.0]
    log = Log(clock=lambda: now[0])
    log.add("begun")
    now[0] = 112.4
    line = log.add("Scan complete", "warning")
    assert line == LogLine(pytest.approx(12.4), "warning", "Scan complete")
    assert str(line) == "[00:12] Scan complete"
    now[0] = 100.0 + 3725
    assert log.add("late").stamp == "[62:05]"


def test_the_log_is_bounded_and_heard():
    log, heard = Log(limit=3), []
    log.subscribe(heard.append)
    for i in range(5):
        log.add(str(i))
    assert [line.text for line in log.lines] == ["2", "3", "4"]
    assert [line.text for line in heard] == ["0", "1", "2", "3", "4"]
    with pytest.raises(InputError, match="not a level"):
        log.add("x", "loud")
