"""The commands: what they print, what they write, and their exit codes."""

import json
import sys

import numpy as np
import pytest

import nmri3d
from nmri3d import cli
from tests.models.tiny import tiny_checkpoint_folder

PROMPT = "The capital of France is"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return str(tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("cli") / "tiny-llama"))


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process; returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nmri3d", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


def test_scan_prints_the_values_that_the_library_gives(run, folder):
    code, out, err = run("scan", PROMPT, "--model", folder, "--json")
    assert code == 0
    printed = json.loads(out)
    expected = nmri3d.scan(nmri3d.load(folder), "fMRI", PROMPT)
    assert printed["components"] == list(expected.components.ids)
    assert printed["tokens"] == list(expected.tokens)
    values = np.array(printed["values"], dtype=float)
    np.testing.assert_allclose(values, expected.values, rtol=1e-6)
    assert np.isnan(values[:, -1]).all()
    assert printed["provenance"]["prompt"] == PROMPT
    assert "checking that the components add up" in err


def test_scan_lists_the_strongest_components_and_saves(run, folder, tmp_path):
    code, out, _ = run("scan", PROMPT, "-m", folder, "--top", "3", "--out", str(tmp_path / "scan"))
    assert code == 0
    saved = nmri3d.open_scan(tmp_path / "scan.npz")
    best = np.nan_to_num(saved.values, nan=-1).max(axis=0)
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert listed == [saved.components.ids[row] for row in np.argsort(-best)[:3]]


def test_t1_is_the_default_without_a_prompt_and_counts_exactly(run, folder):
    code, out, _ = run("scan", "--model", folder, "--json")
    assert code == 0
    printed = json.loads(out)
    assert printed["mode"] == "T1"
    assert sum(printed["values"][0]) == nmri3d.load(folder).info.n_params


def test_screenshot_writes_a_picture_of_the_size_asked_for(run, folder, tmp_path):
    from PIL import Image

    target = tmp_path / "figures" / "brain.png"
    code, out, _ = run(
        "screenshot", str(target), "-p", PROMPT, "-m", folder, "--size", "640x360", "--surface", "inflated"
    )
    assert code == 0
    assert out.strip() == str(target)
    with Image.open(target) as picture:
        assert picture.size == (640, 360)
        colors = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colors, axis=0)) > 200


def test_a_screenshot_can_take_colors_that_everybody_can_tell_apart(run, folder, tmp_path):
    pictures = []
    for palette in ("standard", "colorblind"):
        target = tmp_path / f"{palette}.png"
        assert (
            run("screenshot", str(target), "-p", PROMPT, "-m", folder, "--size", "320x180", "--palette", palette)[0]
            == 0
        )
        pictures.append(target.read_bytes())
    assert pictures[0] != pictures[1]
    assert run("screenshot", "x.png", "-m", folder, "--palette", "grey")[0] == 2


def test_atlas_prints_its_quality(run, folder):
    code, out, _ = run("atlas", "-m", folder, "--json")
    assert code == 0
    quality = json.loads(out)
    assert quality["n_missing"] == 0
    assert quality["connected_share"] == 1
    assert 0 < quality["area_error_max"] < 0.05


def test_models_lists_the_default_first(run):
    code, out, _ = run("models", "--json")
    assert code == 0
    assert json.loads(out)[0]["model_id"] == "smollm2-135m"
    assert run("models")[1].splitlines()[0].startswith("smollm2-135m")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scan", "--mode", "PET"], 2, "there is no scan 'PET'"),
        (["scan", "--mode", "fMRI"], 2, "needs a prompt"),
        (["scan", PROMPT, "--mode", "T1"], 2, "takes no prompt"),
        (["scan", "--mode", "DTI"], 2, "needs a prompt"),
        (["scan", "--top", "0"], 2, "--top"),
        (["scan", "--no-such-option"], 2, "No such option"),
        (["screenshot", "x.png", "--size", "big"], 2, "width x height"),
        (["scan", PROMPT, "--model", "/no/such/folder"], 1, "/no/such/folder"),
        (["fly"], 2, "No such command"),
    ],
)
def test_what_cannot_be_done_says_why_and_how(run, arguments, code, message):
    got, out, err = run(*arguments)
    assert got == code
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_a_prompt_that_the_model_cannot_read_is_bad_usage(run, folder):
    code, _, err = run("scan", "", "--model", folder)
    assert code == 2
    assert "the prompt is empty" in err
    assert run("scan", PROMPT, "-m", folder, "--aggregation", "median")[0] == 2


def test_version(run):
    assert run("--version")[1].strip() == f"nmri3d {nmri3d.__version__}"


def test_doctor_finds_what_is_there_and_what_is_not(run, monkeypatch, tmp_path):
    from nmri3d import doctor

    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    code, out, _ = run("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert code == 0
    assert (
        findings["Python"]["state"] == findings["off-screen rendering"]["state"] == findings["torch"]["state"] == "ok"
    )
    assert findings["embedded model"]["state"] == "note"  # not in this empty cache
    assert findings["embedded model"]["remedy"]

    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-library"))
    monkeypatch.setattr(doctor, "_DRAW_A_PIXEL", "raise SystemExit('no EGL')")
    code, out, _ = run("doctor")
    assert code == 1
    assert "no-such-library" in out
    assert "no EGL" in out
    assert "apt-get install libegl1" in out


def test_a_dti_scan_prints_nodes_edges_and_faithfulness(run, folder):
    options = ["--corrupt", "The capital of Italy is", "--method", "exact"]
    code, out, err = run("scan", PROMPT, "--mode", "dti", "-m", folder, "--json", *options)
    assert code == 0, err
    printed = json.loads(out)
    expected = nmri3d.scan(nmri3d.load(folder), "DTI", PROMPT, corrupt="The capital of Italy is", method="exact")
    np.testing.assert_allclose(np.array(printed["values"], dtype=float), expected.values, rtol=1e-4, atol=1e-5)
    assert printed["tracts"]["measured"] == expected.tracts.count
    assert len(printed["tracts"]["edges"]) == len(expected.tracts.pruned(0.5))
    code, out, _ = run("scan", PROMPT, "--mode", "dti", "-m", folder, *options)
    assert "faithfulness of that circuit" in out


def test_perturb_compares_and_saves(run, folder, tmp_path):
    arguments = ["-e", "zero blocks.1.attn.head_2", "-e", "amplify:3 blocks.2.mlp@-1", "-m", folder]
    code, out, err = run("perturb", PROMPT, *arguments, "--json", "--out", str(tmp_path / "one"))
    assert code == 0, err
    printed = json.loads(out)
    edits = [
        nmri3d.Edit("blocks.1.attn.head_2", "zero"),
        nmri3d.Edit("blocks.2.mlp", "amplify", factor=3, positions=[-1]),
    ]
    expected = nmri3d.perturb(nmri3d.load(folder), PROMPT, edits)
    assert printed["logit_diff"] == pytest.approx(expected.logit_diff, abs=1e-5)
    assert printed["kl"] == pytest.approx(expected.kl, rel=1e-4)
    assert nmri3d.Comparison.open(tmp_path / "one.npz").kl == pytest.approx(expected.kl, rel=1e-4)
    code, out, _ = run("perturb", PROMPT, *arguments)
    assert "KL(before || after)" in out


def test_trace_and_sweep_print_what_the_library_measures(run, folder, tmp_path):
    other = "The capital of Italy is"
    code, out, err = run("trace", PROMPT, "--corrupt", other, "-m", folder, "--json", "--site", "resid")
    assert code == 0, err
    model = nmri3d.load(folder)
    expected = nmri3d.trace(model, PROMPT, other, sites=("resid",))
    np.testing.assert_allclose(np.array(json.loads(out)["values"], dtype=float), expected.values, atol=1e-4)
    code, out, _ = run("sweep", PROMPT, "-m", folder, "--json", "--out", str(tmp_path / "sweep"))
    assert code == 0
    swept = nmri3d.ablate_all(model, PROMPT)
    np.testing.assert_allclose(np.array(json.loads(out)["values"], dtype=float), swept.values, atol=1e-4)
    assert np.array_equal(nmri3d.Sweep.open(tmp_path / "sweep.npz").components.ids, swept.components.ids)
    assert run("trace", PROMPT, "--corrupt", other, "-m", folder)[1].startswith("recovery of the logit of")
    assert "without an edit it is" in run("sweep", PROMPT, "-m", folder)[1]


def test_a_long_run_asks_first(run, folder, monkeypatch):
    from nmri3d.cli import common

    monkeypatch.setattr(common, "ASK_ABOVE", -1.0)
    code, _, err = run("sweep", PROMPT, "-m", folder)
    assert code == 2
    assert "pass --yes to run it" in err
    assert run("sweep", PROMPT, "-m", folder, "--yes")[0] == 0


def test_lens_and_generate_follow_the_model(run, folder):
    code, out, _ = run("lens", PROMPT, "-m", folder, "--json", "-k", "2")
    assert code == 0
    last = json.loads(out)["token_ids"][-1][-1]
    model = nmri3d.load(folder)
    logits = model.run(model.stimulus(PROMPT), {}, logits=[-1]).logits[0]
    assert last == logits.topk(2).indices.tolist()
    code, out, _ = run("generate", PROMPT, "-n", "3", "-m", folder, "--json")
    assert code == 0
    assert json.loads(out.splitlines()[0])["token_id"] == last[0]
    assert run("lens", PROMPT, "-m", folder, "--at", "-1")[1].startswith("after ")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("zap blocks.1.mlp", "there is no edit 'zap'"),
        ("zero", "is no edit"),
        ("zero:2 blocks.1.mlp", "only amplify, noise and inject"),
        ("amplify:big blocks.1.mlp", "is not a number"),
        ("inject blocks.1.mlp", "takes a .npy file"),
        ("inject:nothing.npy blocks.1.mlp", "cannot be read"),
        ("patch blocks.1.mlp", "takes a source"),
    ],
)
def test_an_edit_that_cannot_be_read_is_bad_usage(run, edit, message):
    code, out, err = run("perturb", PROMPT, "-e", edit)
    assert (code, out) == (2, "")
    assert message in err


def test_bench_needs_to_be_told_what(run):
    code, _, err = run("bench")
    assert code == 2
    assert "--faithfulness" in err
