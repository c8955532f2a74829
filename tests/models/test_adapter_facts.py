"""What is remembered of TransformerLens must be what it would say, and must be asked for again when it is damaged."""

import subprocess
import sys

import pytest

from nmri3d.models import adapter_facts
from tests.models.tiny import FAMILIES, tiny_checkpoint_folder, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_remembered_paths_are_those_of_the_adapter(family, own_cache, monkeypatch):
    model = tiny_model(family)
    first = adapter_facts.module_paths(model)
    assert first == adapter_facts._paths_of(adapter_facts.adapter_of(model))
    monkeypatch.setattr(adapter_facts, "adapter_of", lambda model: pytest.fail("asked twice"))
    assert adapter_facts.module_paths(model) == first
    for role in ("embed", "blocks", "ln_final"):
        model.get_submodule(first[role])


def test_another_configuration_is_asked_for_anew(own_cache):
    parallel, sequential = tiny_model("gpt_neox"), tiny_model("gpt_neox_sequential")
    assert adapter_facts.module_paths(parallel)["parallel"] == "yes"
    assert adapter_facts.module_paths(sequential)["parallel"] == "no"


def test_a_damaged_file_is_made_anew(own_cache):
    model = tiny_model("llama")
    first = adapter_facts.module_paths(model)
    files = list((own_cache.parent / "adapters").iterdir())
    assert len(files) == 1
    files[0].write_text("{")
    assert adapter_facts.module_paths(model) == first
    assert files[0].read_text() != "{"


def test_a_second_load_does_not_import_transformer_lens(own_cache, tmp_path):
    folder = tiny_checkpoint_folder("llama", tmp_path / "tiny")
    code = f"import nmri3d, sys; nmri3d.load({str(folder)!r}); print('transformer_lens' in sys.modules)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert [run.stdout.split()[-1] for run in runs] == ["True", "False"]
