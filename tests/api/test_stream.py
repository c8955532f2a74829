"""/ws/stream over a real socket: what it measures, in which order it comes, and what breaks when connections break."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time

import jsonschema
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

import nmri3d
from nmri3d import scans
from nmri3d.api.layers import layers_of
from nmri3d.api.streaming.client_messages import client_schema
from nmri3d.api.streaming.limits import StreamLimits
from nmri3d.results import Provenance, Scan
from nmri3d.scans.generation import Generation
from nmri3d.service import Service
from nmri3d.service.cache import ResultCache
from nmri3d.service.sessions import SessionStore
from tests.api.streams import Live, wait_until
from tests.models.tiny import tiny_checkpoint_folder
from tests.service.fakes import PATIENCE, FakeBackend, FakeLoader

PROMPT = "The capital of France is"
FMRI = {"type": "scan_stream", "mode": "fMRI", "prompt": PROMPT}
TOKEN = "right-token_123"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("models") / "llama"))


@pytest.fixture(scope="module")
def tiny(folder):
    """A second copy, to compare with."""
    return nmri3d.load(folder)


@pytest.fixture(scope="module")
def real(folder):
    """A server with a tiny real model."""
    service = Service()
    service.load(folder)
    with Live(service) as live:
        yield live
    assert service.close()


@pytest.fixture(scope="module")
def guarded(real):
    """The same behind a token."""
    with Live(real.streams._context.service, token=TOKEN) as live:
        yield live


@pytest.fixture(scope="module")
def fake():
    service = Service(loader=FakeLoader())
    service.load("fake")
    yield service
    assert service.close()


@pytest.fixture
def planted(fake, monkeypatch):
    """A service without kept results, whose scans run the fake backend once and return a row of ones a word."""

    def scan(backend, mode, prompt=None, *, progress, **config):
        stimulus = backend.stimulus("weights" if prompt is None else prompt)
        backend.run(stimulus, {}, progress=progress)
        values = np.ones((len(stimulus) if prompt else 1, len(backend.components)), np.float32)
        provenance = Provenance(backend.info.model_id, backend.info.fingerprint, prompt, config, seconds=0.0)
        return Scan(mode, values, "planted", backend.components, stimulus.labels if prompt else (), provenance)

    monkeypatch.setattr(scans, "scan", scan)
    fake._slot.loaded.cache = ResultCache()
    fake._slot.loaded.backend = FakeBackend()
    yield fake
    wait_until(lambda: not fake._runner.jobs())


def words(n):
    return " ".join(f"w{i}" for i in range(n))


def frames_of(messages):
    return [one for one in messages if one["type"] in ("activation_frame", "token_frame")]


def seqs(messages):
    return [one["seq"] for one in messages if "seq" in one]


# -- what is measured ----------------------------------------------------------------------------------------------------


def row_of(table, layers):
    """A row of the table from the layers of a frame; components that no layer holds are NaN."""
    row = np.full(len(table), np.nan)
    ids = {layer.id: layer.rows for layer in layers_of(table)}
    assert [layer["layer_id"] for layer in layers] == list(ids)
    for layer in layers:
        row[ids[layer["layer_id"]]] = [np.nan if one is None else one for one in layer["activations"]]
    return row


def expected_rows(scan):
    values = scan.values.astype(float)
    held = np.concatenate([layer.rows for layer in layers_of(scan.components)])
    values[:, np.setdiff1d(np.arange(len(scan.components)), held)] = np.nan
    return values


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("T1", {}),
        ("T2", {"statistic": "ov_norm"}),
        ("fMRI", {"aggregation": "max"}),
        ("DTI", {"effect": "zero", "method": "atp"}),
        ("FLAIR", {"template": "off", "alpha": 1.0}),
    ],
)
def test_frames_hold_what_a_local_scan_measures(real, tiny, mode, options):
    prompt = {} if mode in ("T1", "T2") else {"prompt": PROMPT}
    local = nmri3d.scan(tiny, mode, prompt.get("prompt"), **options)
    asked = {"type": "scan_stream", "mode": mode, **prompt, **options}
    client = real.client()
    by_token, whole = client.ask(**asked), client.ask(**asked, token_step=False)
    for messages in (by_token, whole):
        assert [messages[0]["type"], messages[1]["type"], messages[-1]["type"]] == ["started", "measured", "done"]
        measured = messages[1]
        assert measured["units"] == local.units
        assert measured["signed"] == local.signed
        assert measured["provenance"]["fingerprint"] == tiny.fingerprint()
    tokens = list(tiny.stimulus(PROMPT).labels) if prompt else []
    frames = [one for one in by_token if one["type"].endswith("_frame")]
    assert by_token[1]["tokens"] == tokens
    assert by_token[1]["n_frames"] == by_token[-1]["n_frames"] == len(frames) == max(1, len(tokens))
    assert by_token[1]["activations_of"] == {"T1": "model", "T2": "model", "DTI": "prompt"}.get(mode, "token")
    expected = expected_rows(local)
    if tokens:
        assert [(frame["token_idx"], frame["token"]) for frame in frames] == list(enumerate(tokens))
        found = np.array([row_of(local.components, frame["layers"]) for frame in frames])
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
    (frame,) = [one for one in whole if one["type"].endswith("_frame")]
    assert frame["type"] == "scan_frame"
    assert frame["tokens"] == tokens
    for row, values in enumerate(expected):
        layers = [{**layer, "activations": layer["activations"][row]} for layer in frame["layers"]]
        np.testing.assert_array_equal(row_of(local.components, layers), values)


def test_dti_brings_the_attention_of_the_token_and_the_drawn_edges(real, tiny):
    asked = {"type": "scan_stream", "mode": "DTI", "prompt": PROMPT, "effect": "zero", "share": 0.3}
    client = real.client()
    messages, whole = client.ask(**asked), client.ask(**asked, token_step=False)
    stimulus = tiny.stimulus(PROMPT)
    for layer in range(tiny.info.n_layers):
        pattern = tiny.attention(stimulus, layer)
        streamed = [
            one["attention_pattern"]
            for frame in frames_of(messages)
            for one in frame["layers"]
            if one["layer_id"] == f"blocks.{layer}.attn"
        ]
        np.testing.assert_array_equal(np.array(streamed).transpose(1, 0, 2), pattern)
        (at_once,) = [
            one["attention_pattern"] for one in whole[-2]["layers"] if one["layer_id"] == f"blocks.{layer}.attn"
        ]
        np.testing.assert_array_equal(at_once, pattern)
    local = nmri3d.scan(tiny, "DTI", PROMPT, effect="zero")
    drawn, ids = local.tracts.pruned(0.3), local.components.ids
    (edges,) = [one for one in messages if one["type"] == "edges"]
    assert 0 < len(edges["score"]) < len(local.tracts)
    assert edges["source"] == [ids[row] for row in drawn.source]
    assert edges["target"] == [ids[row] for row in drawn.target]
    assert (edges["slot"], edges["score"]) == (drawn.slot.tolist(), drawn.score.tolist())
    assert (edges["total"], edges["count"]) == (local.tracts.total, local.tracts.count)


def test_patterns_too_large_for_a_frame_are_offered_by_links(real, monkeypatch):
    monkeypatch.setattr("nmri3d.api.streaming.producing.MOST_PATTERN_NUMBERS", 10)
    messages = real.client().ask(type="scan_stream", mode="DTI", prompt=PROMPT, effect="zero")
    links = messages[1]["attention_patterns"]
    assert set(links) == {f"blocks.{layer}.attn" for layer in range(3)}
    assert links["blocks.1.attn"]["shape"] == [4, 7, 7]
    assert not any("attention_pattern" in layer for frame in frames_of(messages) for layer in frame["layers"])


def test_flair_brings_its_figures(real, tiny):
    frames = frames_of(real.client().ask(type="scan_stream", mode="FLAIR", prompt=PROMPT, template="off"))
    local = nmri3d.scan(tiny, "FLAIR", PROMPT, template="off")
    streamed = [frame["figures"]["final_entropy"] for frame in frames]
    np.testing.assert_array_equal(streamed, local.details["final_entropy"].astype(float))
    assert frames[0]["figures"]["summary"] is None  # no template: not defined


def test_a_scan_too_large_for_one_frame_is_refused_in_words(real, monkeypatch):
    monkeypatch.setattr("nmri3d.api.streaming.producing.MOST_FRAME_NUMBERS", 10)
    client = real.client()
    refused = client.ask(**FMRI, token_step=False)[-1]
    assert refused["type"] == "error"
    assert "ask for token_step" in refused["error"]["detail"]
    assert client.ask(**FMRI)[-1]["type"] == "done"


def test_the_message_of_the_specification_works_word_for_word(real):
    client = real.client()
    client.say('{"type": "scan_stream", "mode": "fMRI", "prompt": "The capital of France is", "token_step": true}')
    frame = frames_of(client.hear_all())[2]
    assert {"type", "token_idx", "token", "layers"} <= set(frame)
    attention = next(layer for layer in frame["layers"] if layer["layer_id"] == "blocks.0.attn")
    assert attention["type"] == "attention"
    assert len(attention["activations"]) == 4


def test_a_kept_result_is_not_measured_again(planted):
    planted.scan("fMRI", "one two three", aggregation="l2_norm")
    passes = planted.backend.passes
    with Live(planted) as live:
        messages = live.client().ask(type="scan_stream", mode="fMRI", prompt="one two three")
    assert len(frames_of(messages)) == 3
    assert planted.backend.passes == passes


@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 0), (2.5, 7)])
def test_generation_sends_each_token_as_it_is_made(real, tiny, temperature, seed):
    asked = {"prompt": PROMPT, "n_tokens": 6, "temperature": temperature, "seed": seed}
    messages = real.client().ask(type="generate_stream", id="mine", **asked)
    frames = frames_of(messages)
    local = Generation(tiny, PROMPT, 6, temperature=temperature, seed=seed)
    for frame in frames:
        step = local.step(tiny)
        assert (frame["token_idx"], frame["token"], frame["token_id"], frame["id"]) == (
            step.index,
            step.token.token,
            step.token.token_id,
            "mine",
        )
        assert frame["probability"] == step.token.probability
        np.testing.assert_array_equal(row_of(step.scan.components, frame["layers"]), expected_rows(step.scan)[-1])
    assert local.done
    assert messages[-1]["n_frames"] == len(frames) > 0


# -- several streams, order, cancelling ----------------------------------------------------------------------------------


def test_several_streams_share_a_connection_and_none_waits_for_another(planted):
    planted.scan("fMRI", words(400), aggregation="l2_norm")
    planted.backend.gates[0] = threading.Event()
    with Live(planted) as live:
        client = live.client()
        client.say(**{**FMRI, "prompt": "held"}, id="held")
        assert client.hear_type("started")["id"] == "held"
        for name in ("a", "b"):
            client.say(**{**FMRI, "prompt": words(400)}, id=name)
        order = []
        while order.count("done") < 2:
            message = client.hear_type("started", "measured", "activation_frame", "done")
            order.append(message["id"] if message["type"] == "activation_frame" else message["type"])
        assert order.count("a") == order.count("b") == 400
        assert order.index("b") < len(order) - 1 - order[::-1].index("a"), "one came wholly before the other"
        planted.backend.gates[0].set()
        assert client.hear_all()[-1]["id"] == "held"


def test_too_many_streams_are_refused_in_words(planted):
    planted.backend.gates[0] = threading.Event()
    with Live(planted, StreamLimits(streams=2, all_streams=3)) as live:
        first, second = live.client(), live.client()
        for number in range(2):
            first.say(**{**FMRI, "prompt": f"prompt {number}"})
            first.hear_type("started")
        first.say(**FMRI, id="third")
        refused = first.hear_type("error")
        assert (refused["id"], refused["error"]["status"]) == ("third", 503)
        assert "2 streams are under way on this connection" in refused["error"]["detail"]
        assert refused["retry_after"] > 0
        second.say(**{**FMRI, "prompt": "x"})
        second.hear_type("started")
        second.say(**{**FMRI, "prompt": "y"})
        assert "3 streams are under way already" in second.hear_type("error")["error"]["detail"]
        planted.backend.gates[0].set()
        assert [second.hear_all()[-1]["type"]] == ["done"]
        assert second.ask(**{**FMRI, "prompt": "y"})[-1]["type"] == "done"


def test_a_stream_is_cancelled_and_the_model_is_free(planted):
    planted.backend.gates[1] = threading.Event()
    with Live(planted) as live:
        client = live.client()
        client.say(**FMRI, id="unwanted")
        stream_id = client.hear_type("started")["stream_id"]
        assert planted.backend.reached[1].wait(PATIENCE)
        client.say(type="cancel", stream_id=stream_id)
        client.say(type="cancel", stream_id="nobody")  # answered: the first has been read
        assert client.hear_type("error")["error"]["status"] == 404
        planted.backend.gates.pop(1).set()
        ended = client.hear_type("error")
        assert (ended["stream_id"], ended["id"], ended["error"]["type"]) == (
            stream_id,
            "unwanted",
            "urn:nmri3d:error:Cancelled",
        )
        client.say(type="cancel", stream_id=stream_id)
        assert "over already" in client.hear_type("error")["error"]["detail"]
        assert client.ask(**FMRI)[-1]["type"] == "done"


def test_an_error_of_the_scan_is_the_last_message(real):
    client = real.client()
    messages = client.ask(type="scan_stream", mode="fMRI", prompt="long " * 500, id="long")
    assert [one["type"] for one in messages] == ["started", "error"]
    assert messages[1]["seq"] == client.last[messages[1]["stream_id"]]
    assert messages[1]["error"]["status"] == 422
    assert "reads at most 128" in messages[1]["error"]["detail"]


def test_without_a_model_it_is_told_and_nothing_begins():
    service = Service(loader=FakeLoader())
    with Live(service) as live:
        client = live.client()
        client.say(**FMRI, id="early")
        told = client.hear_type("error")
        assert (told["id"], told["error"]["status"], "stream_id" in told) == ("early", 409, False)
        assert len(live.streams) == 0
    assert service.close()


def test_what_is_waited_for_is_told(planted):
    planted.backend.gates[1] = threading.Event()
    other = planted.run(lambda progress: planted.scan("fMRI", "somebody else", progress=progress))
    assert planted.backend.reached[1].wait(PATIENCE)
    with Live(planted) as live:
        client = live.client()
        client.say(**FMRI)
        client.hear_type("started")
        told = client.hear()
        assert (told["type"], told["share"], told["what"]) == ("progress", 0.0, "Waiting for the model")
        planted.backend.gates[1].set()
        assert client.hear_all()[-1]["type"] == "done"
    other.result(PATIENCE)


# -- breaking and resuming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acknowledges", [False, True])
def test_after_a_broken_connection_nothing_is_lost_and_nothing_comes_twice(planted, acknowledges):
    limits = StreamLimits(waiting_messages=16)
    n = 2000
    with Live(planted, limits) as live:
        client = live.client()
        client.say(**{**FMRI, "prompt": words(n)}, id="film")
        messages = [client.hear()]
        stream_id = messages[0]["stream_id"]
        while messages[-1]["type"] != "done":
            messages.append(client.hear())
            if acknowledges and len(messages) % 5 == 0:
                client.say(type="ack", stream_id=stream_id, seq=messages[-1]["seq"])
            if len(messages) % 450 == 0:
                client.abort()
                client = live.client()
                client.say(type="resume", stream_id=stream_id, after=messages[-1]["seq"])
                assert client.hear() == {
                    "type": "resumed",
                    "stream_id": stream_id,
                    "id": "film",
                    "after": messages[-1]["seq"],
                }
        assert seqs(messages) == list(range(1, len(messages) + 1))
        assert [frame["token"] for frame in frames_of(messages)] == words(n).split()


def test_the_last_messages_can_come_again_after_the_end(planted):
    with Live(planted) as live:
        client = live.client()
        messages = client.ask(**FMRI)
        client.abort()
        again = live.client()
        again.say(type="resume", stream_id=messages[0]["stream_id"], after=messages[-3]["seq"])
        assert again.hear_type("resumed")
        assert again.hear_all() == messages[-2:]


def test_a_stream_moves_even_when_its_old_connection_still_looks_alive(planted):
    planted.backend.gates[0] = threading.Event()
    with Live(planted) as live:
        old, new = live.client(), live.client()
        old.say(**FMRI)
        stream_id = old.hear_type("started")["stream_id"]
        new.say(type="resume", stream_id=stream_id, after=1)
        new.hear_type("resumed")
        planted.backend.gates[0].set()
        assert new.hear_all()[-1]["type"] == "done"
        old.say("{")
        assert "seq" not in old.hear_type("error")  # nothing of the stream came here


def test_a_resume_that_cannot_be_is_told_in_words(planted):
    limits = StreamLimits(kept_bytes=3000)
    with Live(planted, limits) as live:
        client = live.client()
        messages = client.ask(**{**FMRI, "prompt": words(30)})
        stream_id, last = messages[0]["stream_id"], messages[-1]["seq"]
        for after, reason in ((1, "no longer kept"), (last + 1, f"come to message {last}")):
            client.say(type="resume", stream_id=stream_id, after=after)
            told = client.hear_type("error")
            assert (told["stream_id"], told["error"]["status"]) == (stream_id, 422)
            assert reason in told["error"]["detail"]
        client.say(type="resume", stream_id="A" * 22, after=0)
        assert "is kept for 60 seconds" in client.hear_type("error")["error"]["detail"]
        client.say(type="ack", stream_id=stream_id, seq=last)
        wait_until(lambda: len(live.streams) == 0)


def test_without_a_resume_all_is_freed_after_the_grace_time(planted):
    planted.backend.gates[1] = threading.Event()
    with Live(planted, StreamLimits(grace_seconds=0.3)) as live:
        client = live.client()
        client.say(**FMRI)
        client.hear_type("started")
        assert planted.backend.reached[1].wait(PATIENCE)
        client.abort()
        wait_until(lambda: len(live.streams) == 0)
        planted.backend.gates[1].set()
        wait_until(lambda: not planted._runner.jobs())
        assert planted.backend.layers_run[-1] == 1, "the work went on"


def test_a_goodbye_frees_all_at_once(planted):
    planted.backend.gates[1] = threading.Event()
    with Live(planted) as live:
        client = live.client()
        client.say(**FMRI)
        client.hear_type("started")
        assert planted.backend.reached[1].wait(PATIENCE)
        client.close()
        wait_until(lambda: len(live.streams) == 0)
        planted.backend.gates[1].set()
        wait_until(lambda: not planted._runner.jobs())
        assert planted.backend.layers_run[-1] == 1, "the work went on"


# -- pace ----------------------------------------------------------------------------------------------------------------


def test_generation_waits_for_a_client_that_acknowledges_and_others_use_the_model_meanwhile(real):
    service = real.streams._context.service
    with Live(service, StreamLimits(waiting_messages=4)) as live:
        client = live.client()
        client.say(type="generate_stream", prompt="a", n_tokens=30, temperature=3.0, seed=3)
        started = client.hear_type("started")
        client.say(type="ack", stream_id=started["stream_id"], seq=1)
        (stream,) = live.streams._streams.values()
        messages = [started]
        while messages[-1]["seq"] < 5:
            messages.append(client.hear())
        before = stream.buffer.last
        service.scan("fMRI", "Somebody else asks for something")  # returns: the model is not held
        time.sleep(0.3)
        assert stream.buffer.last == before <= 6
        while messages[-1]["type"] != "done":
            client.say(type="ack", stream_id=started["stream_id"], seq=messages[-1]["seq"])
            messages.append(client.hear())
        assert len(frames_of(messages)) == 30
        client.say(type="ack", stream_id=started["stream_id"], seq=messages[-1]["seq"])
        wait_until(lambda: len(live.streams) == 0)


def test_what_was_not_sent_cannot_be_acknowledged(planted):
    with Live(planted) as live:
        client = live.client()
        messages = client.ask(**FMRI)
        client.say(type="ack", stream_id=messages[0]["stream_id"], seq=messages[-1]["seq"] + 1)
        assert "was not sent yet" in client.hear_type("error")["error"]["detail"]


def test_a_client_that_does_not_read_costs_a_bounded_memory_and_gets_all_when_it_does(planted):
    limits = StreamLimits(waiting_bytes=100_000, kept_bytes=200_000)
    n = 20_000
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    with Live(planted, limits) as live:
        narrow.connect(("127.0.0.1", live.port))
        client = live.client(sock=narrow)
        client.say(**{**FMRI, "prompt": words(n)})
        wait_until(lambda: len(live.streams) == 1)
        (stream,) = live.streams._streams.values()

        def stands_still():
            before = stream.buffer.last
            time.sleep(0.3)
            return stream.buffer.last == before > 100

        wait_until(stands_still, 30)
        assert stream.buffer.last < n, "all was sent to a client that does not read"
        largest = 2000
        assert live.streams.nbytes <= limits.waiting_bytes + limits.kept_bytes + 2 * largest
        assert planted.scan("fMRI", "somebody else").n_steps == 2
        messages = client.hear_all()
        assert len(frames_of(messages)) == n
        assert messages[-1]["type"] == "done"


def test_work_for_a_client_that_takes_nothing_is_given_up_in_the_end(planted):
    with Live(planted, StreamLimits(waiting_messages=4, stall_seconds=0.3)) as live:
        client = live.client()
        client.say(**{**FMRI, "prompt": words(50)})
        client.say(type="ack", stream_id=client.hear_type("started")["stream_id"], seq=1)
        ended = client.hear_all()[-1]
        assert (ended["type"], ended["error"]["type"]) == ("error", "urn:nmri3d:error:Cancelled")
        assert "took nothing" in ended["error"]["detail"]


def test_streams_that_ended_are_kept_in_bounded_number(planted):
    with Live(planted, StreamLimits(ended_bytes=20_000)) as live:
        client = live.client()
        for number in range(10):
            client.ask(**{**FMRI, "prompt": words(20 + number % 2)})
        wait_until(lambda: live.streams.nbytes <= 20_000)
        assert 0 < len(live.streams) < 10


# -- what is no message --------------------------------------------------------------------------------------------------

START = '{"type": "scan_stream", "mode": "fMRI", "prompt": "x", "id": "odd"'
BAD = {
    "no JSON": ("{", None),
    "empty": ("", None),
    "not an object": ("[]", None),
    "a text": ('"scan_stream"', None),
    "null": ("null", None),
    "no type": ('{"id": "odd"}', "odd"),
    "unknown type": ('{"type": "format_disk", "id": "odd"}', "odd"),
    "type of another type": ('{"type": ["scan_stream"], "id": "odd"}', "odd"),
    "unknown mode": ('{"type": "scan_stream", "mode": "PET", "prompt": "x"}', None),
    "mode in another case": ('{"type": "scan_stream", "mode": "fmri", "prompt": "x"}', None),
    "no prompt": ('{"type": "scan_stream", "mode": "fMRI"}', None),
    "empty prompt": ('{"type": "scan_stream", "mode": "fMRI", "prompt": ""}', None),
    "prompt of another type": ('{"type": "scan_stream", "mode": "fMRI", "prompt": 5}', None),
    "prompt for the weights": ('{"type": "scan_stream", "mode": "T1", "prompt": "x"}', None),
    "unknown field": (START + ', "tokenstep": true}', "odd"),
    "text for a truth value": (START + ', "token_step": "true"}', "odd"),
    "lone surrogate": (START + ', "session": "\\ud800"}', None),
    "lone surrogate in the prompt": ('{"type": "scan_stream", "mode": "fMRI", "prompt": "\\udc00"}', None),
    "bad name": ('{"type": "scan_stream", "mode": "fMRI", "prompt": "x", "id": "a b"}', None),
    "huge number": ('{"type": "ack", "stream_id": "a", "seq": ' + "9" * 5000 + "}", None),
    "infinite number": ('{"type": "ack", "stream_id": "a", "seq": 1e400}', None),
    "not a number": ('{"type": "generate_stream", "prompt": "x", "n_tokens": 2, "temperature": NaN}', None),
    "too many tokens": ('{"type": "generate_stream", "prompt": "x", "n_tokens": 1000000}', None),
    "deep nesting": ("[" * 500_000, None),
    "deep nesting in a field": (START + ', "session": ' + "[" * 100_000 + "]" * 100_000 + "}", None),
    "a megabyte of one word": ('{"type": "' + "x" * 1_000_000 + '"}', None),
    "too long": ('"' + "x" * 2_000_000 + '"', None),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_message_is_answered_and_the_connection_goes_on(real, kind):
    text, name = BAD[kind]
    client = real.client()
    client.say(text)
    told = client.hear_type("error")
    assert told["error"]["type"] == "urn:nmri3d:error:InputError"
    assert told["error"]["status"] == 422
    assert told.get("id") == name
    assert 20 < len(told["error"]["detail"]) < 1200
    assert client.ask(**FMRI)[-1]["type"] == "done"


def test_binary_frames_are_answered(real):
    client = real.client()
    client.socket.send(b"\x00\xff" * 1000)
    assert "send it as a text frame" in client.hear_type("error")["error"]["detail"]
    assert client.ask(**FMRI)[-1]["type"] == "done"


def test_what_the_published_schema_refuses_is_refused_and_the_other_way_round(real):
    valid = jsonschema.Draft202012Validator(client_schema())
    client = real.client()
    for text, _ in BAD.values():
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if len(text) > 10_000 or any(sign in text for sign in ("\\ud", "1e400", "NaN")):
            continue  # no schema speaks of lengths, halves of characters, and what is no JSON
        assert not valid.is_valid(message), text
    good = {**FMRI, "id": "x", "token_step": False}
    valid.validate(good)
    assert client.ask(**good)[-1]["type"] == "done"


def test_who_sends_only_rubbish_is_sent_away(real):
    client = real.client()
    for _ in range(100):
        client.socket.send(b"")
    assert client.closed() == (1008, "100 messages in a row could not be read")


TOO_LONG = struct.pack("!BBQ4s", 0x81, 0xFF, 17 * 2**20, b"mask")
"""The head of a text frame of 17 MiB; the server need not wait for the rest."""


@pytest.mark.parametrize(("frame", "code"), [(TOO_LONG, 1009), (b"\x81\x82mask" + b"\x92\x9e", 1007)])
def test_what_cannot_be_a_message_closes_the_connection_with_its_code(real, frame, code):
    client = real.client()
    client.socket.socket.sendall(frame)
    assert client.closed()[0] == code
    assert real.client().ask(**FMRI)[-1]["type"] == "done"


def test_a_flood_is_read_slowly_and_holds_up_nobody_else(planted):
    with Live(planted, StreamLimits(messages_per_second=100.0, faults=10_000)) as live:
        flooding, other = live.client(), live.client()
        for _ in range(260):
            flooding.say(type="cancel", stream_id="nobody")
        began = time.monotonic()
        assert other.ask(**FMRI)[-1]["type"] == "done"
        assert time.monotonic() - began < 2
        for _ in range(260):
            assert flooding.hear_type("error")["error"]["status"] == 404
        assert time.monotonic() - began > 0.4, "260 messages were read at once: 200 may be, the others 100 a second"


# -- who may come in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ({}, {}),
        ({"Authorization": "Bearer wrong"}, {}),
        ({}, {"query": "?token=wrong"}),
        ({"Cookie": f"nmri3d-0={TOKEN}"}, {}),
        ({**BEARER, "Origin": "https://evil.example"}, {}),
        ({**BEARER, "Origin": "http://127.0.0.1:1"}, {}),
        ({**BEARER, "Origin": "null"}, {}),
        ({**BEARER, "Sec-Fetch-Site": "cross-site"}, {}),
        (BEARER, {"name": "rebound.example"}),
        ({"Origin": "http://rebound.example"}, {"name": "rebound.example", "query": f"?token={TOKEN}"}),
    ],
)
def test_strangers_are_refused_before_anything_begins(guarded, headers, where):
    with pytest.raises(InvalidStatus) as refused:
        guarded.client(additional_headers=headers, **where)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("way", ["bearer", "query", "cookie"])
def test_who_holds_the_token_is_let_in(guarded, way):
    cookie = f"{guarded.security.cookie}={guarded.security.cookie_value}"
    headers = {"bearer": BEARER, "cookie": {"Cookie": cookie}}.get(way, {})
    headers = {**headers, "Origin": f"http://127.0.0.1:{guarded.port}"}
    client = guarded.client(additional_headers=headers, query=f"?token={TOKEN}" if way == "query" else "")
    assert client.ask(**FMRI)[-1]["type"] == "done"


# -- sessions, and the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["header", "message"])
def test_what_a_stream_does_is_recorded(tiny, tmp_path, real, by):
    store = SessionStore(tmp_path)
    session = store.create("streamed")
    session.keep()
    with Live(real.streams._context.service, store=store) as live:
        headers = {"Nmri3d-Session": session.id} if by == "header" else {}
        extra = {"session": session.id} if by == "message" else {}
        client = live.client(additional_headers=headers)
        assert client.ask(**FMRI, aggregation="mean", **extra)[-1]["type"] == "done"
        assert client.ask(type="generate_stream", prompt=PROMPT, n_tokens=2, **extra)[-1]["type"] == "done"
    model, scan, generate = store.open(session.id).events
    assert (model.kind, model.data["fingerprint"]) == ("model", tiny.fingerprint())
    assert scan.data == {"mode": "fMRI", "prompt": PROMPT, "options": {"aggregation": "mean"}}
    recorded = session.result(scan)
    np.testing.assert_array_equal(recorded.values, nmri3d.scan(tiny, "fMRI", PROMPT, aggregation="mean").values)
    assert generate.data["n_tokens"] == len(generate.data["tokens"]) == 2
    assert session.result(generate).n_steps == len(tiny.stimulus(PROMPT)) + 2
    store.close()


def test_a_session_that_is_not_there_is_told_before_anything_is_measured(planted, tmp_path):
    with Live(planted, store=SessionStore(tmp_path)) as live:
        messages = live.client().ask(**FMRI, session="20200101-000000-00000000")
        assert messages[-1]["error"]["status"] == 404
    assert planted.backend.passes == 0


def test_when_the_server_ends_its_streams_do(planted):
    planted.backend.gates[1] = threading.Event()
    with Live(planted) as live:
        client = live.client()
        client.say(**FMRI)
        client.hear_type("started")
        assert planted.backend.reached[1].wait(PATIENCE)
        live.stop()
        assert client.closed()[0] == 1012
        assert len(live.streams) == 0
        planted.backend.gates[1].set()
        wait_until(lambda: not planted._runner.jobs())
        assert planted.backend.layers_run[-1] == 1, "the work went on"


def test_a_service_that_ends_tells_its_streams(planted):
    planted.backend.gates[1] = threading.Event()
    with Live(planted) as live:
        client = live.client()
        client.say(**FMRI)
        client.hear_type("started")
        assert planted.backend.reached[1].wait(PATIENCE)
        planted.cancel_jobs(None)  # what `nmri3d serve` does first
        planted.backend.gates[1].set()
        assert client.hear_type("error")["error"]["type"] == "urn:nmri3d:error:Cancelled"
