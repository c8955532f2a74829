"""The soak in short: a tiny model, a few clients, a few seconds; and that it would notice."""

from __future__ import annotations

from dataclasses import replace

import httpx
import numpy as np
import pytest

import nmri3d
from tests.models.tiny import tiny_checkpoint_folder
from tests.soak.load import Load, Tally, load
from tests.soak.memory import MOST_GROWTH, Growth, prompt, watched
from tests.soak.questions import questions, same


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("soak") / "llama"))


def test_clients_at_once_get_what_each_would_get_alone(tiny):
    result = load(tiny, clients=8, duration=4.0)
    assert result.passed, str(result)
    assert len(result.tally.answered) >= 8, "too few kinds of questions were answered"


def test_each_question_tells_a_wrong_answer_from_a_right_one(tiny):
    """A difference in the last bit of one number is noticed."""
    asked = questions(nmri3d.load(tiny))
    assert len({question.kind for question in asked}) >= 11
    for question in asked:
        assert same(question.alone, question.alone), question.kind
        assert not same(changed(question.alone), question.alone), question.kind


def changed(answer):
    """The answer with one number moved by one unit in the last place."""
    if isinstance(answer, list):
        return [answer[0] | {"logit": np.nextafter(answer[0]["logit"], np.inf)}, *answer[1:]]
    name = "values_after" if hasattr(answer, "values_after") else "values"
    values = getattr(answer, name).copy()
    place = np.unravel_index(np.nanargmax(np.abs(values.astype(np.float64))), values.shape)
    values[place] = values[place] + 1 if values.dtype.kind == "i" else np.nextafter(values[place], np.float32(np.inf))
    return replace(answer, **{name: values})


@pytest.mark.parametrize(
    "change",
    [
        {"tally": Tally(seconds=[1.0], errors=["one"])},
        {"tally": Tally()},
        {"fingerprints": ("a", "b")},
        {"figures": {"jobs": 1}},
    ],
)
def test_a_load_with_a_fault_does_not_pass(change):
    good = Load(1, 1.0, Tally(seconds=[1.0]), ("a", "a"), {"jobs": 0})
    assert good.passed
    assert not replace(good, **change).passed


def test_a_refusal_without_its_time_is_an_error():
    from tests.soak.load import Client

    tally = Tally()
    client = Client(type("Server", (), {"url": ""}), 0, [], 0.0, tally)
    client._come_back_later(httpx.Response(503, headers={"retry-after": "3"}))
    assert (tally.errors, tally.refused) == ([], {503: 1})
    client._come_back_later(httpx.Response(429))
    assert len(tally.errors) == 1


def test_memory_that_grows_is_noticed():
    """Planted: a server that keeps 1 MB a request, and one that fills a bounded cache in the warm-up."""

    class Server:
        threads = 1

        def __init__(self, grows_until):
            self.steps, self.grows_until = 0, grows_until

        @property
        def resident(self):
            return 200 * 2**20 + min(self.steps, self.grows_until) * 2**20

        def step(self, i):
            self.steps += 1

    def growth(grows_until):
        server = Server(grows_until)
        return watched(server, "planted", 100, warm_up=20, samples=5, step=server.step)

    assert not growth(grows_until=1000).passed
    assert growth(grows_until=20).passed
    assert growth(grows_until=20).share == 0
    assert Growth("x", 0, 1, 100.0, 100.0 * (1 + MOST_GROWTH) + 1, 0, 0, (1, 1)).passed is False


def test_prompts_differ():
    assert len({prompt(number) for number in range(1000)}) == 1000
