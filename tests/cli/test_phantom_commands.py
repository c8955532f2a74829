"""Commands on a network of units: its own steps and signals, and what it has not, told in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nmri3d
import nmri3d.models
from nmri3d.cli import main
from nmri3d.models.residual_backend import refusal
from nmri3d.perturbation import Edit
from nmri3d.phantoms.registry import PHANTOMS, shipped, shipped_names
from tests.phantoms.tiny import tiny_phantom

PROMPT = "a b c"
MODEL = ("--model", "phantom:tiny")


@pytest.fixture(params=["logits", "signal"])
def model(request, monkeypatch, tmp_path):
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path))
    network = tiny_phantom(signal=request.param == "signal")
    monkeypatch.setattr(nmri3d.models, "load", lambda name, **options: network, raising=False)
    return network


@pytest.fixture
def run(monkeypatch, capsys):
    """Code, stdout and stderr of `nmri3d` with these words."""

    def call(*words):
        monkeypatch.setattr("sys.argv", ["nmri3d", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out, told.err

    return call


def test_a_scan_is_told_in_the_networks_own_steps(model, run):
    code, out, _ = run("scan", PROMPT, *MODEL)
    assert code == 0
    assert "task steps: a | b | c" in out
    assert "at task step" in out
    code, out, _ = run("scan", PROMPT, *MODEL, "--json")
    values = np.array(json.loads(out)["values"], dtype=float)
    assert np.allclose(values, nmri3d.scan(model, "fMRI", PROMPT).values, equal_nan=True)


def test_a_circuit_needs_no_word_about_edges(model, run):
    code, out, _ = run("scan", PROMPT, "--mode", "DTI", "--target", model.token_text(4), *MODEL, "--json")
    assert code == 0
    found = json.loads(out)
    assert "tracts" not in found
    local = nmri3d.scan(model, "DTI", PROMPT, target=model.token_text(4))
    assert np.allclose(np.array(found["values"], dtype=float), local.values, equal_nan=True, atol=1e-6)


def test_a_perturbation_prints_answers_or_signals(model, run):
    code, out, _ = run("perturb", PROMPT, "--edit", "zero unit.2.3", *MODEL)
    assert code == 0
    local = nmri3d.perturb(model, PROMPT, Edit("unit.2.3", "zero"))
    assert f"{local.logit_before:.4f} to {local.logit_after:.4f}" in out
    assert ("KL(before || after)" in out) == (model.outputs == "logits")
    assert ("(mm)" in out) == (model.outputs == "signal")


def test_a_sweep_ranks_the_parts(model, run):
    code, out, _ = run("sweep", PROMPT, "--target", model.token_text(4), *MODEL, "--json")
    assert code == 0
    local = nmri3d.ablate_all(model, PROMPT, target=model.token_text(4), effect="zero")
    found = json.loads(out)
    assert np.allclose(np.array(found["values"], dtype=float), local.values, equal_nan=True, atol=1e-6)
    assert (found["foil"] is None) == (model.outputs == "signal")


@pytest.mark.parametrize(
    ("words", "feature"),
    [
        (("trace", PROMPT), "trace"),
        (("lens", PROMPT), "lens"),
        (("generate", PROMPT), "generation"),
        (("scan", PROMPT, "--mode", "DTI", "--method", "dla"), "dla"),
        (("scan", PROMPT, "--mode", "DTI", "--edges", "eap"), "edges"),
        (("scan", PROMPT, "--level", "neuron"), "neurons"),
        (("bench", "--faithfulness"), "edges"),
        (("bench", "--flair"), "lens"),
    ],
)
def test_what_it_has_not_is_refused_in_one_sentence(model, run, words, feature):
    code, out, err = run(*words, *MODEL)
    assert code != 0
    assert out == ""
    assert refusal(model, feature) in " ".join(err.split())


def test_phantoms_are_listed_with_what_they_are(run):
    code, out, _ = run("models")
    assert code == 0
    for name in shipped_names():
        (line,) = [line for line in out.splitlines() if line.startswith(f"phantom:{name} ")]
        assert PHANTOMS[name].about in line


def test_biohama_trains_with_the_settings_of_a_file(run, monkeypatch, tmp_path):
    from nmri3d.phantoms.biohama.config import Config
    from nmri3d.phantoms.biohama.model import BioHama
    from nmri3d.phantoms.biohama.training import BioHamaRecipe

    monkeypatch.setattr(BioHamaRecipe, "ship", lambda self, seed, progress: (BioHama(self.config), {"seed": seed}))
    (tmp_path / "settings.yaml").write_text("modules: 5\nlevels: [global]\n")
    words = ("phantom", "train", "biohama", "--out", str(tmp_path / "out"))
    code, _, err = run(*words, "--config", str(tmp_path / "settings.yaml"))
    assert code == 0, err
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert Config(**kept["settings"]) == Config(modules=5, levels=("global",))
    assert kept["figures"] == {"seed": 0}
    code, _, _ = run(*words)
    assert code == 0
    assert Config(**json.loads((tmp_path / "out" / "metrics.json").read_text())["settings"]) == Config()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("induction", "--config", "settings.yaml"), "induction takes no settings from a file"),
        (("biohama", "--config", "settings.yaml"), "no setting 'moduls'"),
        (("biohama", "--config", "missing.yaml"), "missing.yaml cannot be read"),
        (("biohama", "--config", "good.yaml", "--study"), "leave out --seed and --config"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_training(run, monkeypatch, tmp_path, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text("moduls: 5\n")
    (tmp_path / "good.yaml").write_text("modules: 5\n")
    code, out, err = run("phantom", "train", *words)
    assert code != 0
    assert out == ""
    assert says in " ".join(err.split())
    assert not (tmp_path / "phantoms").exists()


def test_the_list_says_what_was_shipped_of_each(run):
    code, out, _ = run("phantom", "list", "--json")
    assert code == 0
    metrics = json.loads(out)
    assert set(metrics) == set(PHANTOMS)
    _, out, _ = run("phantom", "list")
    for name in shipped_names():
        count = sum(parameter.numel() for parameter in shipped(name).parameters())
        assert metrics[name]["parameters"] == count
        assert f"{count:,} parameters" in out


def test_tables_of_a_study_are_printed_or_told_to_be_missing(run, tmp_path, monkeypatch):
    from nmri3d.phantoms import registry

    monkeypatch.setattr(registry, "folder_of", lambda name: tmp_path)
    code, out, err = run("phantom", "figures", "induction")
    assert code != 0
    assert "nmri3d phantom train induction --study" in " ".join(err.split())
    (tmp_path / "study.json").write_text("{}")
    code, out, _ = run("phantom", "figures", "induction")
    assert code == 0
    assert "fixed lag" in out  # missing, and said so
