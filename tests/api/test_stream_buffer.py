"""The buffer of a stream against a plain list, and who waits for whom."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.api.streaming.buffer import Buffer
from nmri3d.api.streaming.limits import StreamLimits
from nmri3d.errors import Cancelled, InputError
from tests.service.fakes import PATIENCE

LIMITS = StreamLimits(waiting_bytes=40, waiting_messages=5, kept_bytes=30, stall_seconds=0.2)
STEPS = st.lists(
    st.tuples(st.just("append"), st.integers(0, 12))
    | st.tuples(st.just("take"), st.integers(1, 4))
    | st.tuples(st.sampled_from(["acknowledge", "rewind"]), st.integers(0, 30)),
    max_size=60,
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(steps=STEPS)
def test_whatever_happens_each_message_comes_in_order_or_its_loss_is_told(steps):
    buffer, made = Buffer(LIMITS), []
    place = 0  # where the client stands: the next message to come is number place + 1
    acknowledged, acknowledges = 0, False
    for step, number in steps:
        if step == "append":
            made.append("ä" * number + str(len(made)))
            buffer.append(made[-1])
        elif step == "take":
            for _ in range(number):
                text = buffer.take()
                assert text == (made[place] if place < len(made) else None)
                place += text is not None
        elif step == "acknowledge":
            if number > place:
                with pytest.raises(InputError, match="not sent yet"):
                    buffer.acknowledge(number)
            else:
                buffer.acknowledge(number)
                acknowledged, acknowledges = max(acknowledged, number), True
        else:
            try:
                buffer.rewind(number)
            except InputError as error:
                assert number > len(made) or number < place, error
                if acknowledges:
                    assert number > len(made) or "no longer kept" in str(error)
            else:
                assert acknowledged <= number <= len(made)
                place, acknowledged = number, number
        assert buffer.last == len(made)
        assert buffer.waits == (place < len(made))
        sizes = [len(text.encode()) for text in made]
        unsent = sum(sizes[place:])
        assert unsent <= buffer.nbytes <= unsent + sum(sizes[acknowledged:place])
        if not acknowledges:
            assert buffer.nbytes - unsent <= LIMITS.kept_bytes + max(sizes, default=0)


def test_one_who_acknowledges_loses_nothing_however_much_it_is():
    buffer = Buffer(LIMITS)
    buffer.append("first")
    buffer.take()
    buffer.acknowledge(1)
    for number in range(100):
        buffer.append(f"{number:010}")
    while buffer.take():
        pass
    buffer.rewind(1)
    assert [buffer.take() for _ in range(100)] == [f"{number:010}" for number in range(100)]


@pytest.mark.parametrize(("n", "size"), [(5, 1), (4, 11)])
def test_the_maker_waits_until_enough_was_taken(n, size):
    buffer = Buffer(LIMITS)
    for _ in range(n):
        buffer.wait_for_room(lambda: None)  # returns at once
        buffer.append("x" * size)
    passed = threading.Event()

    def make():
        buffer.wait_for_room(lambda: None)
        passed.set()

    maker = threading.Thread(target=make)
    maker.start()
    assert not passed.wait(0.1)
    buffer.take()
    assert passed.wait(PATIENCE)
    maker.join()


def test_a_message_larger_than_all_bounds_is_let_through():
    buffer = Buffer(LIMITS)
    buffer.wait_for_room(lambda: None)
    buffer.append("x" * 1000)
    assert buffer.take() == "x" * 1000
    buffer.wait_for_room(lambda: None)
    buffer.rewind(0)
    assert buffer.take() == "x" * 1000


def test_a_maker_who_waits_can_be_cancelled_and_does_not_wait_for_ever():
    buffer = Buffer(LIMITS)
    for _ in range(5):
        buffer.append("x")

    def cancelled():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        buffer.wait_for_room(cancelled)
    with pytest.raises(Cancelled, match="took nothing"):
        buffer.wait_for_room(lambda: None)
