"""Perturbations over HTTP, beside the same edits made here on another copy of the weights; sessions' stacks; the weights."""

from __future__ import annotations

import asyncio
import json
import threading

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import nmri3d
from nmri3d.api import errors
from nmri3d.api.edits import EditItem, PatchByMethod
from nmri3d.api.representations import RESULT_FILE
from nmri3d.api.routes import features
from nmri3d.errors import InputError
from nmri3d.results import Comparison
from tests.api.test_scan_routes import close, fetched
from tests.api.tiny_app import ADDRESS, OTHER, PROMPT, short_template, tiny_app
from tests.service.fakes import PATIENCE

HEAD, MLP = "blocks.1.attn.head_2", "blocks.0.mlp"
VALUES = (np.arange(32) / 8 - 2).tolist()

KINDS = {
    "zero": {},
    "amplify": {"factor": -3.5},
    "invert": {},
    "noise": {"sigma": 0.5, "seed": 7},
    "ablate": {},
    "inject": {"values": VALUES},
}
"""Kind -> options that the body and `nmri3d.Edit` both take."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with tiny_app(tmp_path_factory.mktemp("perturb")) as app, short_template(app.copy):
        yield app


@pytest.fixture
def session(tiny):
    return tiny.store.create("edits")


def expected_of(tiny, *edits, prompt=PROMPT):
    return nmri3d.perturb(tiny.copy, prompt, list(edits))


def check(tiny, found, expected):
    """An answer says what a local comparison says."""
    assert found["original_prediction"]["token_id"] == expected.before[0].token_id
    assert found["original_prediction"]["logit"] == pytest.approx(expected.before[0].logit, rel=1e-4)
    assert found["original_prediction"]["prob"] == pytest.approx(expected.before[0].probability, rel=1e-3)
    assert found["perturbed_prediction"]["token_id"] == expected.after[0].token_id
    assert found["perturbed_prediction"]["logit"] == pytest.approx(expected.after[0].logit, rel=1e-4)
    assert found["logit_diff"] == pytest.approx(expected.logit_diff, rel=1e-3, abs=1e-4)
    compared = found["compared"]
    assert compared["logit_after"] - compared["logit_before"] == pytest.approx(found["logit_diff"], abs=1e-5)
    assert found["kl"] == pytest.approx(expected.kl, rel=1e-3, abs=1e-5)
    assert [one["token_id"] for one in found["after"]] == [one.token_id for one in expected.after]
    impact = np.nan_to_num(np.abs(expected.values_after - expected.values_before)).max(axis=0)
    scores = {one["id"]: one["impact_score"] for one in found["affected_components"]}
    close([scores.get(name, 0.0) for name in expected.components.ids], impact, rtol=1e-3)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    close(fetched(tiny, found["values"]["change"]), expected.change, rtol=1e-3)
    close(fetched(tiny, found["values"]["before"]), expected.values_before)
    close(fetched(tiny, found["values"]["after"]), expected.values_after)
    assert found["edits"] == [dict(record) for record in expected.edits]
    assert found["prompt_tokens"] == list(expected.tokens)
    assert found["impact_units"] == "change of the L2 norm of the write"


@pytest.mark.parametrize("kind", KINDS)
def test_each_edit_does_what_it_does_here(tiny, kind):
    body = {"prompt": PROMPT, "target_component": HEAD, "target_token_idx": -1, **KINDS[kind]}
    expected = expected_of(tiny, nmri3d.Edit(HEAD, kind, positions=[-1], **KINDS[kind]))
    check(tiny, tiny.ok("POST", f"/api/perturb/{kind}", body), expected)
    by_method = tiny.ok("POST", "/api/perturb/patch", {**body, "method": kind})
    check(tiny, by_method, expected)


@pytest.mark.parametrize(
    ("component", "positions"),
    [
        ("embed", {}),
        (MLP, {"token_positions": "all"}),
        ("blocks.1.attn.h2", {"token_positions": [0, -2]}),
        ("blocks.2.mlp.neuron_5", {"token_positions": [1]}),
        ("blocks.1.hook_resid_pre", {"target_token_idx": 2}),
    ],
)
def test_an_edit_acts_where_it_is_asked_to(tiny, component, positions):
    listed = positions.get(
        "token_positions", [positions["target_token_idx"]] if "target_token_idx" in positions else None
    )
    edit = nmri3d.Edit(component, "invert", positions=None if listed == "all" else listed)
    body = {"prompt": PROMPT, "target_component": component, **positions}
    check(tiny, tiny.ok("POST", "/api/perturb/invert", body), expected_of(tiny, edit))


@pytest.mark.parametrize("into", ["clean", "corrupt"])
def test_activation_patching_takes_the_write_from_the_other_prompt(tiny, into):
    body = {"clean_prompt": PROMPT, "corrupt_prompt": OTHER, "target_component": MLP, "into": into}
    run, source = (PROMPT, OTHER) if into == "clean" else (OTHER, PROMPT)
    found = tiny.ok("POST", "/api/perturb/patch", body)
    check(tiny, found, expected_of(tiny, nmri3d.Edit(MLP, "patch", source=source), prompt=run))
    assert found["prompt"] == run


def test_patching_everything_gives_the_other_prompts_answer(tiny):
    body = {"clean_prompt": PROMPT, "corrupt_prompt": OTHER, "target_component": "hook_resid_final"}
    found = tiny.ok("POST", "/api/perturb/patch", body)
    assert found["perturbed_prediction"]["logit"] == pytest.approx(
        nmri3d.perturb(tiny.copy, OTHER, []).before[0].logit, rel=1e-5
    )


def test_several_edits_stack_in_their_order(tiny):
    edits = [nmri3d.Edit(MLP, "inject", values=VALUES), nmri3d.Edit(MLP, "amplify", factor=2, positions=[0])]
    body = {"prompt": PROMPT, "edits": [edit.as_record() for edit in edits]}
    check(tiny, tiny.ok("POST", "/api/perturb/stack", body), expected_of(tiny, *edits))
    swapped = tiny.ok("POST", "/api/perturb/stack", {"prompt": PROMPT, "edits": body["edits"][::-1]})
    check(tiny, swapped, expected_of(tiny, *edits[::-1]))


def test_no_edit_changes_nothing(tiny):
    found = tiny.ok("POST", "/api/perturb/stack", {"prompt": PROMPT, "edits": []})
    assert (found["affected_components"], found["logit_diff"], found["kl"]) == ([], 0, 0)


def test_the_answer_is_left_out_where_it_is_not_compared(tiny):
    body = {"prompt": PROMPT, "target_component": MLP, "compare_logits": False}
    found = tiny.ok("POST", "/api/perturb/zero", body)
    names = ("original_prediction", "perturbed_prediction", "logit_diff", "compared", "kl")
    assert [found[name] for name in names] == [None] * 5
    assert (found["before"], found["after"]) == ([], [])
    assert found["affected_components"][0]["impact_score"] > 0


def test_the_file_is_the_local_comparison(tiny):
    body = {"prompt": PROMPT, "target_component": MLP, "k": 3}
    answer = tiny.client.post("/api/perturb/zero", json=body, headers={"accept": RESULT_FILE})
    found = Comparison.open(answer.content)
    expected = expected_of(tiny, nmri3d.Edit(MLP, "zero"))
    close(found.values_after, expected.values_after)
    assert [one.token_id for one in found.after] == [one.token_id for one in expected.after[:3]]


REFUSED = {
    "no such component": ("zero", {"target_component": "blocks.7.mlp"}, "no component 'blocks.7.mlp'"),
    "nothing to edit": ("zero", {"target_component": "unembed"}, "writes nothing"),
    "no such token": ("zero", {"target_token_idx": 40}, "position 40 is outside the prompt"),
    "both ways to tell the token": ("zero", {"target_token_idx": 1, "token_positions": [1]}, "not both"),
    "no tokens": ("zero", {"token_positions": []}, "is an empty list"),
    "an option of another kind": ("zero", {"factor": 2}, "factor"),
    "the same by method": ("patch", {"method": "zero", "factor": 2.0}, "has no option 'factor'; it takes none"),
    "no values": ("inject", {}, "values"),
    "ragged values": ("inject", {"values": [[1.0], [1.0, 2.0]]}, "different lengths"),
    "values that do not fit": ("inject", {"values": [1.0, 2.0]}, "32 numbers"),
    "a patch without a source": ("patch", {"method": "patch"}, "takes a source"),
    "a source of another length": ("patch", {"method": "patch", "source": "a"}, "equally many tokens"),
    "beyond what numbers hold": ("amplify", {"factor": 1e300}, "beyond what it can hold"),
    "infinity": ("noise", {"sigma": 1e999}, "sigma"),
    "less than no noise": ("noise", {"sigma": -1.0}, "sigma"),
    "a huge seed": ("noise", {"seed": 10**40}, "seed"),
    "too many candidates": ("zero", {"k": 1001}, "k"),
    "more candidates than tokens": ("zero", {"k": 1000}, "k is a whole number from 1 to 384"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_told_in_words(tiny, case):
    kind, options, words = REFUSED[case]
    body = json.dumps({"prompt": PROMPT, "target_component": MLP, **options})
    headers = {"content-type": "application/json"}
    answer = tiny.client.post(f"/api/perturb/{kind}", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert words in answer.json()["detail"]


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional={
    "factor": st.floats(allow_nan=False, allow_infinity=False),
    "sigma": st.floats(0, 1e6),
    "seed": st.integers(0, 2**53),
    "values": st.one_of(st.floats(-9, 9), st.lists(st.floats(-9, 9)), st.lists(st.lists(st.floats(-9, 9), max_size=3))),
    "source": st.text(st.characters(codec="utf-8"), min_size=1, max_size=9),
    "positions": st.lists(st.integers(-5, 5), max_size=4),
}), st.sampled_from(["zero", "amplify", "invert", "noise", "ablate", "inject", "patch"]))  # fmt: skip
def test_an_edit_is_read_back_from_its_record_or_refused_in_words(options, kind):
    item = EditItem.model_validate({"component": MLP, "kind": kind, **options})
    try:
        edit = item.edit()
    except InputError:
        return
    again = EditItem.model_validate(edit.as_record()).edit()
    assert again.as_record() == edit.as_record()
    assert set(edit.as_record()) >= {"component", "kind", *(options.keys() - {"positions"})}


def test_both_forms_of_a_patch_are_told_apart():
    body = {"prompt": PROMPT, "target_component": MLP, "target_token_idx": -1, "method": "zero", "compare_logits": True}
    assert PatchByMethod.model_validate(body).edit().as_record() == {
        "component": MLP,
        "kind": "zero",
        "positions": [-1],
    }


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_sessions_edits_stack_up_are_undone_and_reset(tiny, session):
    headers = {"Nmri3d-Session": session.id}
    first, second = nmri3d.Edit(MLP, "zero"), nmri3d.Edit(HEAD, "amplify", factor=4.0)
    body = {"prompt": PROMPT, "target_component": MLP}
    check(tiny, tiny.ok("POST", "/api/perturb/zero", body, headers=headers), expected_of(tiny, first))
    body = {"prompt": PROMPT, "target_component": HEAD, "factor": 4.0}
    check(tiny, tiny.ok("POST", "/api/perturb/amplify", body, headers=headers), expected_of(tiny, first, second))

    bad = {"prompt": PROMPT, "target_component": "blocks.7.mlp"}
    tiny.refused("POST", "/api/perturb/zero", bad, headers=headers)
    held = tiny.ok("POST", "/api/perturb/stack", {"prompt": OTHER, "edits": []}, headers=headers)
    check(tiny, held, expected_of(tiny, first, second, prompt=OTHER))

    undone = tiny.ok("DELETE", "/api/perturb/last", headers=headers)
    assert undone == {"edits": 1, "stack": [first.as_record()]}
    held = tiny.ok("POST", "/api/perturb/stack", {"prompt": PROMPT, "edits": []}, headers=headers)
    check(tiny, held, expected_of(tiny, first))

    assert tiny.ok("POST", "/api/perturb/reset", headers=headers) == {"edits": 0, "stack": []}
    assert "holds no edit" in tiny.refused("DELETE", "/api/perturb/last", headers=headers)
    recorded = tiny.store.open(session.id)
    kinds = [event.kind for event in recorded.events]
    assert kinds == ["model", "edit", "edit", "undo", "reset"]
    close(recorded.result(recorded.events[2]).values_after, expected_of(tiny, first, second).values_after)


def test_without_a_session_nothing_is_left_of_an_edit(tiny):
    tiny.ok("POST", "/api/perturb/zero", {"prompt": PROMPT, "target_component": MLP})
    other = tiny.ok("POST", "/api/perturb/invert", {"prompt": PROMPT, "target_component": HEAD})
    assert other["edits"] == [{"component": HEAD, "kind": "invert"}]
    assert tiny.ok("POST", "/api/perturb/reset") == {"edits": 0, "stack": []}
    assert "name the session" in tiny.refused("DELETE", "/api/perturb/last")
    tiny.refused("POST", "/api/perturb/reset", status=404, headers={"Nmri3d-Session": "../../etc"})


def test_edits_of_another_model_do_not_count(tiny, session):
    session.record("model", {"model_id": "another", "fingerprint": "0" * 64})
    session.record("edit", {"prompt": PROMPT, "edit": {"component": MLP, "kind": "zero"}})
    body = {"prompt": PROMPT, "target_component": HEAD}
    found = tiny.ok("POST", "/api/perturb/zero", body, headers={"Nmri3d-Session": session.id})
    check(tiny, found, expected_of(tiny, nmri3d.Edit(HEAD, "zero")))
    assert [edit["component"] for edit in tiny.store.open(session.id).edits] == [HEAD]


def test_edits_of_one_session_at_once_all_enter_and_each_answers_for_what_it_ran(tiny, session):
    session.record("note", {"text": "begun"})
    components = [f"blocks.{block}.attn.head_{head}" for block in range(3) for head in range(4)]

    async def together():
        transport = httpx.ASGITransport(app=tiny.app)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, timeout=PATIENCE * 3) as client:
            bodies = [{"prompt": PROMPT, "target_component": one} for one in components]
            calls = [
                client.post("/api/perturb/zero", json=body, headers={"Nmri3d-Session": session.id}) for body in bodies
            ]
            return await asyncio.gather(*calls)

    answers = asyncio.run(together())
    assert {answer.status_code for answer in answers} == {200}
    stack = [edit["component"] for edit in tiny.store.open(session.id).edits]
    assert sorted(stack) == sorted(components)
    for answer in answers:
        ran = [edit["component"] for edit in answer.json()["edits"]]
        assert ran == stack[: len(ran)]


# -- the weights -------------------------------------------------------------------------------------------------------


def live(tiny):
    return tiny.service.backend.fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_the_same_after_each_edit(tiny, kind):
    before = live(tiny)
    tiny.ok("POST", f"/api/perturb/{kind}", {"prompt": PROMPT, "target_component": MLP, **KINDS[kind]})
    assert live(tiny) == before == tiny.copy.fingerprint()


@pytest.mark.parametrize("kind", ["zero", "noise"])
def test_the_weights_are_the_same_when_the_caller_hangs_up_half_way(tiny, session, kind, monkeypatch):
    """The edited pass is held in its second layer, the caller goes, and the pass ends there."""
    before, expected = live(tiny), tiny.service.perturb(PROMPT, [])
    reached, gone, layers = threading.Event(), threading.Event(), []
    run = type(tiny.service.backend).run

    def held(backend, stimulus, reads, *, edits=(), progress, **options):
        def report(share, what):
            if edits:
                layers.append(what)
                if len(layers) == 2:
                    reached.set()
                    assert gone.wait(PATIENCE)
            progress(share, what)

        return run(backend, stimulus, reads, edits=edits, progress=report, **options)

    monkeypatch.setattr(type(tiny.service.backend), "run", held)
    body = json.dumps({"prompt": PROMPT, "target_component": MLP, "k": 4}).encode()
    headers = {"host": "127.0.0.1:8765", "content-type": "application/json", "nmri3d-session": session.id}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": f"/api/perturb/{kind}", "raw_path": b"", "root_path": "", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8765), "state": {},
    }  # fmt: skip
    sent = []

    async def hang_up():
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            if message := next(received, None):
                return message
            await asyncio.to_thread(reached.wait, PATIENCE)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        answering = asyncio.ensure_future(tiny.app(scope, receive, send))
        await asyncio.to_thread(reached.wait, PATIENCE)
        await asyncio.sleep(0.2)  # the server hears of it
        gone.set()
        await answering

    session.record("note", {"text": "begun"})
    asyncio.run(hang_up())
    monkeypatch.undo()
    assert len(layers) == 2
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] in ([409], [])
    assert tiny.store.open(session.id).edits == ()
    assert live(tiny) == before
    again = tiny.service.backend.run(tiny.service.backend.stimulus(PROMPT), {}, logits=[-1]).logits[0].numpy()
    assert float(again.max()) == pytest.approx(expected.before[0].logit, rel=1e-6)


def test_the_weights_are_the_same_when_an_edit_fails_half_way(tiny, monkeypatch):
    before = live(tiny)
    tiny.service.perturb(PROMPT, [])
    run = type(tiny.service.backend).run

    def failing(backend, stimulus, reads, *, edits=(), progress, **options):
        def report(share, what):
            if edits and "1" in what:
                raise InputError("The edit failed half-way.")
            progress(share, what)

        return run(backend, stimulus, reads, edits=edits, progress=report, **options)

    monkeypatch.setattr(type(tiny.service.backend), "run", failing)
    body = {"prompt": PROMPT, "target_component": HEAD, "factor": 9.0}
    assert tiny.refused("POST", "/api/perturb/amplify", body) == "The edit failed half-way."
    monkeypatch.undo()
    assert live(tiny) == before
    check(
        tiny, tiny.ok("POST", "/api/perturb/amplify", body), expected_of(tiny, nmri3d.Edit(HEAD, "amplify", factor=9.0))
    )


# -- features ----------------------------------------------------------------------------------------------------------


def test_features_are_none_and_say_why():
    app = FastAPI()
    errors.install(app)
    app.include_router(features.router(None))
    client = TestClient(app)
    listed = client.get("/api/features/list").json()
    assert listed["features"] == []
    refused = client.post("/api/features/activate", json={"feature": "7", "active": True})
    assert (refused.status_code, refused.json()["detail"]) == (409, listed["note"])
    assert "no sparse autoencoders" in listed["note"]
    assert client.post("/api/features/activate", json={"feature": 7}).status_code == 422
