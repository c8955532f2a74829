"""Frames that no client of ours sends, and prompts that nobody should: each gets an answer, and the server lives.

NMRI3D_FUZZ sets how many examples and prompts there are; without it a few, always the same.
"""

from __future__ import annotations

import itertools
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nmri3d
from nmri3d.api.layers import layers_of
from nmri3d.api.streaming.limits import StreamLimits
from nmri3d.errors import InputError
from nmri3d.service import Service
from tests.api.hostile import as_carried, hostile_prompts
from tests.api.streams import Live
from tests.models.tiny import tiny_checkpoint_folder

ASKED = int(os.environ.get("NMRI3D_FUZZ", "0"))

VALID = (
    {"type": "scan_stream", "mode": "fMRI", "prompt": "The capital", "token_step": True, "id": "a"},
    {"type": "scan_stream", "mode": "fMRI", "prompt": "of France", "token_step": False, "aggregation": "max"},
    {"type": "scan_stream", "mode": "T1"},
    {"type": "scan_stream", "mode": "T2", "statistic": "l2", "id": "b"},
    {"type": "scan_stream", "mode": "DTI", "prompt": "a b", "effect": "zero", "method": "dla", "edges": "none"},
    {"type": "scan_stream", "mode": "FLAIR", "prompt": "a", "template": "off", "alpha": 0.5, "beta": 0.0},
    {"type": "generate_stream", "prompt": "a", "n_tokens": 2, "temperature": 1.5, "seed": 9},
    {"type": "ack", "stream_id": "x", "seq": 1},
    {"type": "resume", "stream_id": "x", "after": 0},
    {"type": "cancel", "stream_id": "x"},
)

any_text = st.text(st.characters(), max_size=30)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | any_text
    | st.sampled_from([10**400, "NaN", "", "all", -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def near_valid(draw):
    """A message of ours with one thing wrong, or with another value that may well be right."""
    message = dict(draw(st.sampled_from(VALID)))
    field = draw(st.sampled_from([*message, "session", "prompt", "position", "steps", "share", "token_step"]))
    match draw(st.sampled_from(["drop", "replace", "add", "borrow", "cut"])):
        case "drop":
            message.pop(field, None)
        case "replace":
            message[field] = draw(values)
        case "add":
            message[draw(any_text)] = draw(values)
        case "borrow":
            message.update(draw(st.sampled_from(VALID)))
        case "cut":
            text = json.dumps(message)
            return text[: draw(st.integers(0, len(text)))]
    return json.dumps(message)


FRAMES = st.lists(
    st.sampled_from(VALID).map(json.dumps)
    | near_valid()
    | near_valid()
    | values.map(json.dumps)
    | st.text(max_size=200)
    | st.binary(max_size=200),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_checkpoint_folder("qwen2", tmp_path_factory.mktemp("models") / "qwen2"))


@pytest.fixture(scope="module")
def live(folder):
    service = Service()
    service.load(folder)
    with Live(service, StreamLimits(messages_per_second=1e6)) as live:
        yield live
        assert not service._runner.jobs()
    assert service.close()


numbers = itertools.count()


@settings(
    max_examples=ASKED or 60,
    derandomize=not ASKED,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(frames=FRAMES)
def test_every_frame_is_answered_and_every_stream_ends(live, frames):
    client = live.client()
    for frame in frames:
        client.socket.send(frame)
    answers, streams, ended = 0, set(), 0
    while answers + len(streams) < len(frames) or ended < len(streams):
        message = client.hear(timeout=60)
        if message["type"] == "started":
            streams.add(message["stream_id"])
        elif message["type"] == "done":
            ended += 1
        elif message["type"] == "error":
            assert message["error"]["status"] in (404, 409, 422, 503), message
            if "seq" in message:
                assert message["stream_id"] in streams
                ended += 1
            else:
                answers += 1
    last = f"last-{next(numbers)}"
    client.say(type="cancel", stream_id=last)
    assert client.hear()["stream_id"] == last, "something came that nobody asked for"
    client.close()


def right_answer_or_clear_error(client, model, prompt):
    """One prompt, streamed and scanned by another copy; returns whether it could be scanned."""
    messages = client.ask(type="scan_stream", mode="fMRI", prompt=prompt)
    try:
        local = nmri3d.scan(model, "fMRI", as_carried(prompt))
    except InputError as error:
        assert [one["type"] for one in messages[1:]] in ([], ["error"]), "refused here, and measured there"
        told = messages[-1]["error"]
        assert (told["type"], told["status"]) == ("urn:nmri3d:error:InputError", 422)
        if "surrogate" not in str(error) and prompt:  # those two are refused as JSON and by the schema
            assert told["detail"] == str(error)
        return False
    frames = [one for one in messages if one["type"] == "activation_frame"]
    assert messages[-1]["type"] == "done", messages[-1]
    assert [frame["token"] for frame in frames] == list(local.tokens)
    rows = np.concatenate([layer.rows for layer in layers_of(local.components)])
    streamed = [[value for layer in frame["layers"] for value in layer["activations"]] for frame in frames]
    np.testing.assert_array_equal(np.array(streamed, np.float64), local.values[:, rows])
    return True


def test_hostile_prompts_get_a_right_answer_or_a_clear_error(live, folder):
    model = nmri3d.load(folder)
    client = live.client()
    scanned = [right_answer_or_clear_error(client, model, prompt) for prompt in hostile_prompts(ASKED or 80)]
    assert 0 < sum(scanned) < len(scanned)


@pytest.mark.model
def test_hostile_prompts_on_the_real_model(smollm2):
    service = Service()
    service.load("smollm2-135m")
    with Live(service) as live:
        client = live.client()
        prompts = hostile_prompts(ASKED or 16, seed=1)
        scanned = [right_answer_or_clear_error(client, smollm2, prompt) for prompt in prompts]
    assert 0 < sum(scanned) < len(scanned)
    assert service.backend.fingerprint() == smollm2.info.fingerprint
    assert service.close()
