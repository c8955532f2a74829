"""The five scans over HTTP, beside the same scans made here on another copy of the weights."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmri3d
from nmri3d.api.layers import chosen_layers, describe_layers, layers_of
from nmri3d.api.representations import RESULT_FILE
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.results import open_scan
from tests.api.tiny_app import OTHER, PROMPT, tiny_app

PASSES = {
    "structural": ("T1", None, {}),
    "weights": ("T2", None, {"statistic": "kurtosis"}),
    "activation": ("fMRI", PROMPT, {"aggregation": "max"}),
    "circuits": ("DTI", PROMPT, {"corrupt": OTHER, "method": "exact", "position": -2}),
    "anomaly": ("FLAIR", PROMPT, {"template": "off", "layers": [0, -1]}),
}
"""Path -> mode, prompt, and options that the body and the local function both take."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with tiny_app(tmp_path_factory.mktemp("scans")) as app:
        yield app


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def each(request, tmp_path_factory):
    """Blocks one after the other and in parallel."""
    if request.param == "llama":
        yield request.getfixturevalue("tiny")
        return
    with tiny_app(tmp_path_factory.mktemp("parallel"), request.param) as app:
        yield app


def body_of(prompt, options):
    return options if prompt is None else {"prompt": prompt, **options}


def fetched(tiny, link):
    """The array behind a link."""
    answer = tiny.client.get(link["data_url"], params={"format": "npy"})
    assert answer.status_code == 200, answer.text
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert list(array.shape) == link["shape"]
    return array


def close(found, expected, rtol=1e-4):
    """JSON numbers, null for NaN, beside an array."""
    np.testing.assert_allclose(np.array(found, dtype=float), expected, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("path", PASSES)
def test_the_file_is_the_local_scan(each, path):
    mode, prompt, options = PASSES[path]
    answer = each.client.post(f"/api/scan/{path}", json=body_of(prompt, options), headers={"accept": RESULT_FILE})
    assert (answer.status_code, answer.headers["content-type"]) == (200, RESULT_FILE)
    found, expected = open_scan(answer.content), nmri3d.scan(each.copy, mode, prompt, **options)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-6)
    assert found.components == expected.components
    assert (found.mode, found.units, found.tokens) == (expected.mode, expected.units, expected.tokens)
    assert found.provenance.config == expected.provenance.config
    assert found.details.keys() == expected.details.keys()


@pytest.mark.parametrize("path", PASSES)
def test_the_values_are_behind_their_link(each, path):
    mode, prompt, options = PASSES[path]
    found = each.ok("POST", f"/api/scan/{path}", body_of(prompt, options))
    expected = nmri3d.scan(each.copy, mode, prompt, **options)
    values = fetched(each, found["values"])
    np.testing.assert_allclose(values, expected.values if expected.tokens else expected.values[0], rtol=1e-5, atol=1e-6)
    assert found["components"] == list(expected.components.ids)
    assert (found["scan_mode"], found["units"]) == (mode, expected.units)
    assert found["metadata"]["provenance"]["fingerprint"] == each.copy.fingerprint()
    assert found["metadata"]["compute_time_ms"] > 0
    assert found["metadata"]["memory_mb"] > 10
    assert found["metadata"]["gpu_memory_mb"] == 0
    for link in found.get("details", {}).values():
        assert fetched(each, link).size > 0


def test_activation_is_described_layer_by_layer(tiny):
    found = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT, "token_positions": [1, -1]})
    scan = nmri3d.scan(tiny.copy, "fMRI", PROMPT)
    table, n = scan.components, scan.n_steps
    assert found["model"] == tiny.service.backend.info.model_id
    assert found["prompt_tokens"] == list(scan.tokens)
    assert found["positions"] == [1, n - 1]
    parts = [part for block in range(3) for part in (f"blocks.{block}.attn", f"blocks.{block}.mlp")]
    assert list(found["data"]) == ["embed", *parts]
    rows = [1, n - 1]
    embed, attn, mlp = (found["data"][name] for name in ("embed", "blocks.1.attn", "blocks.1.mlp"))
    assert (embed["type"], embed["shape"]) == ("embedding", [2, 32])
    assert embed["activations_summary"] == pytest.approx(scan.values[rows, table.row("embed")].tolist())
    heads = [table.row(f"blocks.1.attn.head_{head}") for head in range(4)]
    assert (attn["type"], attn["num_heads"]) == ("attention", 4)
    assert attn["per_head_activation"] == pytest.approx(scan.values[-1, heads].tolist())
    assert (mlp["type"], mlp["top_neurons"]) == ("mlp", [])
    assert mlp["activation_summary"] == pytest.approx(scan.values[rows, table.row("blocks.1.mlp")].tolist())
    np.testing.assert_allclose(found["residual"], scan.details["residual"][:, rows], rtol=1e-5)
    assert found["writes"] is None


def test_attention_patterns_are_those_of_the_whole_prompt(tiny):
    found = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT, "token_positions": [0]})
    patterns = fetched(tiny, found["data"]["blocks.2.attn"]["attention_patterns"])
    expected = tiny.copy.attention(tiny.copy.stimulus(PROMPT), 2)
    np.testing.assert_allclose(patterns, expected, rtol=1e-5, atol=1e-6)
    assert patterns.shape == (4, len(found["prompt_tokens"]), len(found["prompt_tokens"]))


def test_the_tokens_that_the_tokenizer_adds_are_told(tiny):
    found = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT})
    special = tiny.copy.stimulus(PROMPT).special
    assert found["special"] == np.flatnonzero(special).tolist()
    assert found["prompt_tokens"] == list(tiny.copy.stimulus(PROMPT).labels)


def test_layers_by_name_restrict_the_answer_and_the_scan(tiny):
    found = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT, "layers": ["blocks.2.attn", "embed"]})
    assert list(found["data"]) == ["embed", "blocks.2.attn"]
    values = fetched(tiny, found["values"])
    layer = tiny.copy.components.layer
    assert np.isnan(values[:, (layer == 0) | (layer == 1)]).all()
    expected = nmri3d.scan(tiny.copy, "fMRI", PROMPT, layers=[2])
    np.testing.assert_allclose(values, expected.values, rtol=1e-5)
    by_number = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT, "layers": [-1]})
    assert list(by_number["data"]) == ["blocks.2.attn", "blocks.2.mlp"]


def test_raw_links_to_the_whole_writes(tiny):
    found = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT, "aggregation": "raw", "layers": [1]})
    expected = nmri3d.scan(tiny.copy, "fMRI", PROMPT, aggregation="raw", layers=[1]).details["writes"]
    np.testing.assert_allclose(fetched(tiny, found["writes"]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", ["component", "neuron"])
def test_the_strongest_neurons_of_all_layers_take_one_pass_more_and_only_when_asked(tiny, level, monkeypatch):
    backend, passes = tiny.service.backend, []
    run = type(backend).run
    monkeypatch.setattr(type(backend), "run", lambda self, *args, **kw: (passes.append(1), run(self, *args, **kw))[1])
    prompt = f"{PROMPT} {level}"
    body = {"prompt": prompt, "level": level, "token_positions": [0, 2]}
    tiny.ok("POST", "/api/scan/activation", body)
    assert len(passes) == 1
    found = tiny.ok("POST", "/api/scan/activation", {**body, "top_neurons": 3})
    assert len(passes) == (2 if level == "component" else 1)
    monkeypatch.undo()
    for block in range(3):
        site = f"blocks.{block}.mlp.hook_post"
        post = tiny.copy.run(tiny.copy.stimulus(prompt), {site: lambda post: post.clone()}).reads[site][2].numpy()
        best = np.argsort(-np.abs(post), kind="stable")[:3]
        top = found["data"][f"blocks.{block}.mlp"]["top_neurons"]
        assert [one["idx"] for one in top] == best.tolist()
        assert [one["activation"] for one in top] == pytest.approx(post[best].tolist(), rel=1e-4)
        assert {one["label"] for one in top} == {None}


def test_at_neuron_level_the_mlps_are_summed_up_by_their_strongest_neuron(tiny):
    found = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT, "level": "neuron"})
    scan = nmri3d.scan(tiny.copy, "fMRI", PROMPT, level="neuron")
    assert list(found["data"]) == [f"blocks.{block}.mlp" for block in range(3)]
    rows = scan.components.rows(layer=1)
    expected = np.abs(scan.values[:, rows]).max(axis=1)
    assert found["data"]["blocks.1.mlp"]["activation_summary"] == pytest.approx(expected.tolist())
    assert (found["components"], found["residual"]) == (None, None)
    assert found["values"]["dims"] == ["token", "neuron"]


def test_parameters_add_up_to_the_models_own(each):
    found = each.ok("POST", "/api/scan/structural")
    expected = sum(parameter.numel() for parameter in each.copy.hf_model.parameters())
    assert found["n_params"] == expected == sum(layer["n_params"] for layer in found["data"].values())
    assert found["n_params"] == sum(n for layer in found["data"].values() for n in layer["components"].values())


def test_weights_are_described_by_all_statistics(tiny):
    found = tiny.ok("POST", "/api/scan/weights", {"statistic": "l2"})
    scan = nmri3d.scan(tiny.copy, "T2", statistic="l2")
    assert list(found["statistics"]) == ["std", "mean", "max", "l2", "kurtosis", "outlier_share", "ov_norm", "qk_norm"]
    for layer in found["data"].values():
        rows = [scan.components.row(name) for name in layer["components"]]
        for name, values in layer["statistics"].items():
            close(values, scan.details[name][rows])
    assert {name for layer in found["data"].values() for name in layer["components"]} == set(scan.components.ids)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_circuits_tell_nodes_edges_and_how_faithful_they_are(tiny, share):
    options = {"corrupt": OTHER, "method": "atp", "share": share}
    found = tiny.ok("POST", "/api/scan/circuits", {"prompt": PROMPT, **options})
    scan = nmri3d.scan(tiny.copy, "DTI", PROMPT, **options)
    ids = scan.components.ids
    scores = {node["id"]: node["score"] for node in found["nodes"]}
    close([scores[name] for name in ids], scan.values[0], rtol=1e-3)
    sizes = [abs(node["score"]) for node in found["nodes"] if node["score"] is not None]
    assert sizes == sorted(sizes, reverse=True)
    drawn = scan.tracts.pruned(share)
    assert len(found["edges"]) == len(drawn)
    assert found["edges_share"] == pytest.approx(drawn.share, rel=1e-4)
    assert sum(abs(edge["score"]) for edge in found["edges"]) >= share * found["edges_total"] * (1 - 1e-6)
    assert found["edges_measured"] == scan.tracts.count
    assert found["faithfulness"] == pytest.approx(float(scan.details["faithfulness"]), rel=1e-2, abs=1e-4)
    assert found["clean_metric"] == pytest.approx(float(scan.details["clean_metric"]), rel=1e-4)
    assert found["target"]["id"] == int(scan.details["target"])
    links = {name: fetched(tiny, link) for name, link in found["tracts"].items()}
    first = found["edges"][0]
    assert (ids[links["source"][0]], ids[links["target"][0]], links["slot"][0]) == (
        first["source"],
        first["target"],
        first["slot"],
    )
    assert links["score"][0] == pytest.approx(first["score"])
    assert fetched(tiny, found["attention_patterns"]["blocks.0.attn"]).shape == (
        4,
        scan_length(tiny),
        scan_length(tiny),
    )


def scan_length(tiny):
    return len(tiny.copy.stimulus(PROMPT))


def test_circuits_without_edges_say_so(tiny):
    found = tiny.ok(
        "POST", "/api/scan/circuits", {"prompt": PROMPT, "effect": "zero", "edges": "none", "method": "dla"}
    )
    assert (found["edges"], found["edges_share"], found["tracts"], found["faithfulness"]) == ([], None, {}, None)
    assert (found["method"], found["effect"], found["baseline"]) == ("dla", None, "zero")


def test_anomaly_tells_each_point_of_the_lens(each):
    found = each.ok("POST", "/api/scan/anomaly", {"prompt": PROMPT, "template": "off", "token_positions": [-1, 0]})
    scan = nmri3d.scan(each.copy, "FLAIR", PROMPT, template="off", positions=[-1, 0])
    points = [
        f"blocks.{layer}.{site}"
        for layer, site in zip(scan.details["row_layer"], scan.details["row_site"], strict=True)
    ]
    assert list(found["data"]) == points
    for row, name in enumerate(points):
        close(found["data"][name]["kl"], scan.details["kl"][row], rtol=1e-3)
        close(found["data"][name]["entropy"], scan.details["entropy"][row])
        assert found["data"][name]["score"] == [None, None]
    assert found["data"]["blocks.2.mlp"]["kl"] == [None, None]
    assert found["final_entropy"] == pytest.approx(scan.details["final_entropy"].tolist(), rel=1e-4)
    assert found["positions"] == [scan_length(each) - 1, 0]
    assert len(found["prompt_tokens"]) == scan_length(each)
    assert found["template"] is None


def test_a_kept_scan_is_not_made_again(tiny):
    kept = tiny.service.scan("fMRI", PROMPT, aggregation="mean")
    found = tiny.ok("POST", "/api/scan/activation", {"prompt": PROMPT, "aggregation": "mean"})
    assert found["metadata"]["provenance"]["created"] == kept.provenance.created
    assert found["metadata"]["compute_time_ms"] == 1e3 * kept.provenance.seconds


def test_a_scan_is_recorded_in_the_session_that_it_names(tiny):
    session = tiny.store.create("scans")
    body = {"prompt": PROMPT, "layers": [1], "token_positions": [0]}
    tiny.ok("POST", "/api/scan/activation", body, headers={"Nmri3d-Session": session.id})
    tiny.ok("POST", "/api/scan/activation", body)
    events = [event for event in tiny.store.open(session.id).events if event.kind == "scan"]
    assert len(events) == 1
    assert (events[0].data["mode"], events[0].data["prompt"]) == ("fMRI", PROMPT)
    found = tiny.store.open(session.id).result(events[0])
    again = nmri3d.scan(tiny.copy, "fMRI", PROMPT, **events[0].data["options"])
    np.testing.assert_allclose(found.values, again.values, rtol=1e-5)


def test_a_session_that_is_not_there_is_refused_before_anything_is_scanned(tiny):
    headers = {"Nmri3d-Session": "not-there"}
    tiny.refused("POST", "/api/scan/structural", {}, status=404, headers=headers)


REFUSED = {
    "an unknown field": ({"prompt": PROMPT, "position": [1]}, "position"),
    "a number as text": ({"prompt": PROMPT, "layers": [True]}, "layers"),
    "an unknown aggregation": ({"prompt": PROMPT, "aggregation": "median"}, "aggregation"),
    "a missing prompt": ({}, "prompt"),
    "an empty prompt": ({"prompt": ""}, "prompt"),
    "half a character": ({"prompt": "\ud800"}, "prompt"),
    "no layers": ({"prompt": PROMPT, "layers": []}, "layers is an empty list"),
    "a layer that is not there": ({"prompt": PROMPT, "layers": [3]}, "which has 3"),
    "a name that is not there": (
        {"prompt": PROMPT, "layers": ["blocks.9.mlp"]},
        "this model has no layer 'blocks.9.mlp'",
    ),
    "a head as a layer": ({"prompt": PROMPT, "layers": ["blocks.0.attn.head_1"]}, "is one of its components"),
    "a position that is not there": ({"prompt": PROMPT, "token_positions": [99]}, "position 99 is outside the prompt"),
    "a huge position": ({"prompt": PROMPT, "token_positions": [10**400]}, "position"),
    "no positions": ({"prompt": PROMPT, "token_positions": []}, "positions is an empty list"),
    "neurons by another number": ({"prompt": PROMPT, "level": "neuron", "aggregation": "max"}, "takes no aggregation"),
    "too many neurons": ({"prompt": PROMPT, "top_neurons": 101}, "top_neurons"),
    "too long a prompt": ({"prompt": "brain " * 500}, "reads at most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_told_in_words(tiny, case):
    body, words = REFUSED[case]
    if case == "half a character":  # httpx would refuse to send it
        headers = {"content-type": "application/json"}
        answer = tiny.client.post("/api/scan/activation", content=b'{"prompt": "\\ud800"}', headers=headers)
        assert (answer.status_code, "prompt" in answer.json()["detail"]) == (422, True)
        return
    assert words in tiny.refused("POST", "/api/scan/activation", body)


def test_more_than_the_model_has_is_refused_by_each_scan(tiny):
    assert "equally many tokens" in tiny.refused("POST", "/api/scan/circuits", {"prompt": PROMPT, "corrupt": "a"})
    assert "both 0" in tiny.refused("POST", "/api/scan/anomaly", {"prompt": PROMPT, "alpha": 0, "beta": 0})
    assert "statistic" in tiny.refused("POST", "/api/scan/weights", {"statistic": "median"})
    assert "prompt" in tiny.refused("POST", "/api/scan/structural", {"prompt": PROMPT})


# -- layers ------------------------------------------------------------------------------------------------------------

KINDS = st.sampled_from(["embed", "head", "attn_bias", "mlp", "unembed", "unit"])


@st.composite
def tables(draw):
    """Tables of any kinds, each id once, in any order."""
    rows = draw(st.lists(st.tuples(KINDS, st.integers(0, 3), st.integers(0, 3)), min_size=1, unique_by=canonical))
    rows = [canonical(row) for row in rows]
    return ComponentTable(*zip(*rows, strict=True), n_params=[1] * len(rows))


def canonical(row):
    kind, layer, index = row
    if kind in ("embed", "unembed"):
        return kind, -1, -1
    return kind, layer, -1 if kind in ("mlp", "attn_bias") else index


@settings(deadline=None)
@given(tables())
def test_every_row_is_in_one_layer(table):
    rows = np.concatenate([layer.rows for layer in layers_of(table, passive=True)])
    assert sorted(rows.tolist()) == list(range(len(table)))
    active = [row for layer in layers_of(table) for row in layer.rows.tolist()]
    assert sorted(active) == [row for row, kind in enumerate(table.kind) if kind not in ("unembed", "attn_bias")]
    for layer in layers_of(table):
        assert {table.layer[row] for row in layer.rows} == {layer.block}


@settings(deadline=None)
@given(tables(), st.data())
def test_layers_are_chosen_by_the_names_that_are_described(table, data):
    names = [layer.id for layer in layers_of(table)]
    if not names:
        return
    wanted = data.draw(st.lists(st.sampled_from(names), min_size=1))
    blocks, only = chosen_layers(wanted, table)
    assert only == set(wanted)
    assert blocks == (sorted({layer.block for layer in layers_of(table) if layer.id in only} - {-1}) or [0])


@settings(deadline=None)
@given(st.integers(-30, 30))
def test_a_block_is_counted_from_either_end(number):
    table = ComponentTable(["embed", *["mlp"] * 5], [-1, *range(5)], [-1] * 6, [1] * 6)
    if -5 <= number < 5:
        assert chosen_layers([number], table) == ([range(5)[number]], {f"blocks.{range(5)[number]}.mlp"})
    else:
        with pytest.raises(InputError, match="outside this model"):
            chosen_layers([number], table)


def test_units_of_a_network_that_is_no_transformer_are_a_layer(tiny):
    table = ComponentTable(["unit", "unit"], [1, 1], [0, 1], [3, 3])
    scan = replace(
        nmri3d.scan(tiny.copy, "T1"), values=np.array([[2.0, np.nan]], np.float32), components=table, tokens=("x",)
    )
    described = describe_layers(scan, width=4)
    assert {name: json.loads(layer.model_dump_json()) for name, layer in described.items()} == {
        "unit.1": {"type": "unit", "activations": [2.0, None]}
    }
