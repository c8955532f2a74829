"""Where models may come from: names, links, `..` and revisions that would lead out of the allowed folders."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.errors import InputError, ModelAccessError, Nmri3dError
from nmri3d.models.locate import locate
from nmri3d.models.location import local_path, require_allowed, require_revision


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """allowed/ (with a model, and links out) and outside/."""
    top = tmp_path_factory.mktemp("disk")
    for name in ("allowed/model", "outside/model"):
        (top / name).mkdir(parents=True)
    (top / "allowed/link").symlink_to(top / "outside")
    (top / "allowed/circle").symlink_to(top / "allowed/circle")
    return top


@pytest.mark.parametrize("name", ["allowed/model", "allowed", "allowed/../allowed/model", "allowed/missing"])
def test_a_model_in_an_allowed_folder_is_let_through(folders, name):
    require_allowed(f"{folders}/{name}", [folders / "allowed"])
    require_allowed(f"{folders}/outside/model", None)
    require_allowed(f"{folders}/outside/model", [folders / "outside/model"])


@pytest.mark.parametrize("name", ["smollm2-135m", "openai-community/gpt2", "gpt2", "phantom:sprout"])
def test_models_that_are_not_of_this_disk_are_let_through(name):
    require_allowed(name, [])


def test_a_folder_that_is_called_like_an_id_hides_it_and_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai-community/gpt2").mkdir(parents=True)
    with pytest.raises(ModelAccessError):
        require_allowed("openai-community/gpt2", [tmp_path / "allowed"])
    require_allowed("openai-community/gpt2", [tmp_path])


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["..", ".", "", "allowed", "outside", "link", "model", "circle", "ALLOWED", "x"]), max_size=7
    ),
    rooted=st.booleans(),
)
def test_what_is_let_through_lies_inside(folders, parts, rooted):
    """By another way to the truth: the operating system's own resolution of the name."""
    name = os.path.join(f"{folders}" if rooted else f"{folders}/allowed", *[part or "." for part in parts])
    try:
        require_allowed(name, [folders / "allowed"])
    except ModelAccessError:
        return
    real = os.path.realpath(name)
    assert os.path.commonpath([real, os.path.realpath(folders / "allowed")]) == os.path.realpath(folders / "allowed")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_name_that_is_answered_in_words(name):
    for check in (lambda: require_allowed(name, []), lambda: local_path(name), lambda: require_revision(name)):
        with contextlib.suppress(Nmri3dError):
            check()


@pytest.mark.parametrize(
    "revision", ["../x", "a/../../b", "/etc/hostname", "..", "a\\b", "", " ", "a\n", "é", "a//b", "x" * 300]
)
def test_a_revision_that_leads_out_is_refused_before_anything_is_looked_for(revision):
    with pytest.raises(InputError, match="is no revision"):
        locate("openai-community/gpt2", revision=revision)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "refs/pr/1", "607a30d783dfa663caf39e06633721c8d4cfcd7e"])
def test_revisions_of_the_hub_are_let_through(revision):
    require_revision(revision)
