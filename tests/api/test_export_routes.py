"""POST /api/export: files that other programs read, and that hold what was measured."""

from __future__ import annotations

import io
import json
import struct
import threading
import zipfile

import numpy as np
import pandas
import pytest
import pyvista
import xarray
from PIL import Image
from starlette.testclient import TestClient

import nmri3d
from nmri3d.api import Security, create_app
from nmri3d.api.picturing import ExportWish
from nmri3d.app.exporting import Exporter
from nmri3d.app.pictures import _DRAWING
from nmri3d.errors import AlignmentError, Cancelled, InputError
from nmri3d.models.backend import no_progress
from nmri3d.results import open_scan
from tests.api.tiny_app import ADDRESS, OTHER, PROMPT, tiny_app
from tests.service.fakes import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HOSTILE = "a\0b\x07 é東🧠\r\n</script> $x$ \u202e' \" & -- %s"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with tiny_app(tmp_path_factory.mktemp("exports")) as app:
        security = Security.for_address("127.0.0.1", 8765, token="")
        app.app = create_app(app.service, security=security, store=app.store, picturing=Exporter(app.service))
        app.client = TestClient(app.app, base_url=ADDRESS)
        yield app


def exported(tiny, form, /, **wish):
    """The file, its media type and its name."""
    answer = tiny.client.post("/api/export", json={"format": form, **wish})
    assert answer.status_code == 200, answer.text
    kind, name = answer.headers["content-disposition"].split("; ")
    assert kind == "attachment"
    return answer.content, answer.headers["content-type"], name.removeprefix("filename=").strip('"')


def measured(tiny, mode, prompt=None, **options):
    """The very scan that the pictures show, with its time of creation."""
    asked = {"format": "npz", "mode": mode, "prompt": prompt, "options": options}
    return open_scan(tiny.client.post("/api/export/data", json=asked).content)


def pixels(content):
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))


# -- pictures ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "prompt", "options", "step", "form", "view"),
    [
        ("fMRI", PROMPT, {"aggregation": "max"}, 2, "pial", "medial_left"),
        ("DTI", PROMPT, {"corrupt": OTHER}, -1, "inflated", "dorsal"),
        ("T2", None, {"statistic": "mean"}, 0, "network", "anterior"),
    ],
)
def test_a_picture_is_the_one_that_is_drawn_here(tiny, tmp_path, mode, prompt, options, step, form, view):
    wish = {"mode": mode, "prompt": prompt, "options": options, "step": step, "form": form, "view": view}
    content, kind, name = exported(tiny, "png", **wish, size=[480, 270])
    assert (kind, name) == ("image/png", f"llama-{mode}.png")
    with nmri3d.Brain(tiny.copy) as brain:
        brain.show_form(form).view(view).show(measured(tiny, mode, prompt, **options), step)
        here = brain.screenshot(tmp_path / "here.png", size=(480, 270)).read_bytes()
    assert pixels(content).shape == (270, 480, 3)
    np.testing.assert_array_equal(pixels(content), pixels(here))


def test_a_title_heads_the_picture_and_names_the_file(tiny):
    titled, _, name = exported(tiny, "png", mode="T1", size=[480, 270], title="../Where $x$ is 東 \0 large")
    plain, _, _ = exported(tiny, "png", mode="T1", size=[480, 270])
    differs = (pixels(titled) != pixels(plain)).any(axis=(1, 2))
    assert name == "Where-x-is-large.png"
    assert differs[:22].any()  # the first line
    assert not differs[22:].any()


def test_what_is_flat_is_seen_from_above(tiny):
    seen = [
        pixels(exported(tiny, "png", mode="T1", form="flat", view=view, size=[200, 120])[0])
        for view in ("dorsal", "anterior")
    ]
    np.testing.assert_array_equal(*seen)


def test_the_bare_brain_is_grey(tiny):
    content, _, name = exported(tiny, "png", size=[200, 120])
    shown = pixels(content).astype(int)
    assert name == "brain.png"
    assert (np.ptp(shown, axis=2) <= 12).all()  # the background is bluish
    assert shown.max() > 60


# -- 3D files ---------------------------------------------------------------------------------------------------------------


def test_a_glb_holds_the_values_of_the_step(tiny):
    content, kind, _ = exported(tiny, "glb", mode="fMRI", prompt=PROMPT, step=1)
    assert kind == "model/gltf-binary"
    magic, version, length, json_length, json_kind = struct.unpack_from("<4sII I4s", content)
    assert (magic, version, length, json_kind) == (b"glTF", 2, len(content), b"JSON")
    facts = json.loads(content[20 : 20 + json_length])["asset"]["extras"]
    expected = nmri3d.scan(tiny.copy, "fMRI", PROMPT).values[1]
    np.testing.assert_allclose(np.array(facts["values"], dtype=float), expected, rtol=1e-6)
    assert facts["components"] == list(tiny.copy.components.ids)


def test_a_vtm_is_a_zip_of_the_file_and_its_folder(tiny, tmp_path):
    content, kind, name = exported(tiny, "vtm", mode="fMRI", prompt=HOSTILE, title="Ein Name")
    assert (kind, name) == ("application/zip", "Ein-Name.zip")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert all(entry.startswith("Ein-Name") for entry in archive.namelist())
        archive.extractall(tmp_path)
    cortex = pyvista.read(tmp_path / "Ein-Name.vtm")["cortex"]
    scan = nmri3d.scan(tiny.copy, "fMRI", HOSTILE)
    rows = cortex.cell_data["component"]
    np.testing.assert_array_equal(cortex.cell_data["values"][rows >= 0], scan.values.T[rows[rows >= 0]])
    assert cortex.field_data["tokens"].tolist() == [token.replace("\0", "\\x00") for token in scan.tokens]
    assert json.loads(cortex.field_data["provenance"][0])["prompt"] == HOSTILE
    values = cortex.GetCellData().GetArray("values")
    quoted = scan.tokens.index('"')
    assert values.GetComponentName(quoted) == f'{quoted} "'


def test_a_web_page_holds_all_steps_and_no_prompt_breaks_it(tiny):
    content, kind, _ = exported(tiny, "html", mode="fMRI", prompt=HOSTILE, form="inflated")
    assert kind == "text/html; charset=utf-8"
    page = content.decode()
    assert "<title>fMRI scan of llama" in page
    assert page.count("</script>") == page.count("<script")


# -- movies -----------------------------------------------------------------------------------------------------------------


def test_a_movie_plays_the_tokens(tiny, tmp_path):
    import imageio_ffmpeg

    content, kind, _ = exported(tiny, "mp4", mode="fMRI", prompt="a\0b\" '-- é", size=[64, 36])
    assert kind == "video/mp4"
    path = tmp_path / "movie.mp4"
    path.write_bytes(content)
    n_frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    steps = len(tiny.copy.stimulus("a\0b\" '-- é"))
    assert seconds == pytest.approx(0.5 * steps + 1, abs=0.1)
    assert n_frames == round(30 * (0.5 * steps + 1))


def test_a_gif_of_one_step_turns_the_brain(tiny, monkeypatch):
    from nmri3d.export import movie as module

    monkeypatch.setattr(module, "TURN_SECONDS", 2.0)
    content, kind, name = exported(tiny, "gif", mode="T1", size=[64, 36])
    movie = Image.open(io.BytesIO(content))
    assert (kind, name, movie.size, movie.n_frames) == ("image/gif", "llama-T1.gif", (64, 36), 2 * 15)
    first, quarter = (np.array([movie.seek(frame), movie.convert("RGB")][1]) for frame in (0, 8))
    assert (first != quarter).any()


def test_other_pictures_are_drawn_between_the_frames_of_a_movie(tiny):
    exporter, scan = Exporter(tiny.service), nmri3d.scan(tiny.copy, "T1")
    waits, done, frames = threading.Event(), threading.Event(), []

    def picture():
        exporter.export(ExportWish("png", scan, size=(64, 36)), lambda share, what: "waiting" in what and waits.set())
        done.set()

    other = threading.Thread(target=picture)

    def watch(share, what):
        if "frame" in what:
            frames.append(what)
            if len(frames) == 3:
                other.start()
                assert waits.wait(PATIENCE), "the picture did not wait for the movie"
                assert not done.is_set()
            if len(frames) == 12:
                raise Cancelled("seen enough")

    with pytest.raises(Cancelled):
        exporter.export(ExportWish("gif", scan, size=(64, 36)), watch)
    drawn_meanwhile = done.is_set()
    other.join(PATIENCE)
    assert drawn_meanwhile
    assert not _DRAWING.locked()


def test_an_export_is_withdrawn_while_it_waits(tiny):
    def withdraw(share, what):
        if "waiting" in what:
            raise Cancelled("enough")

    with _DRAWING, pytest.raises(Cancelled):
        Exporter(tiny.service).export(ExportWish("png", nmri3d.scan(tiny.copy, "T1")), withdraw)
    assert not _DRAWING.locked()


def test_a_scan_of_another_model_is_not_drawn(tiny):
    from tests.models.backends import tiny_backend

    foreign = nmri3d.scan(tiny_backend("gpt_neox"), "T1")
    with pytest.raises(AlignmentError, match="model was changed"):
        Exporter(tiny.service).export(ExportWish("png", foreign), no_progress)
    with pytest.raises(InputError, match="no export as 'exe'"):
        Exporter(tiny.service).export(ExportWish("exe"), no_progress)


# -- refusals ---------------------------------------------------------------------------------------------------------------

REFUSED = {
    "format": ({"format": "svg"}, "format: "),
    "prompt": ({"mode": "fMRI"}, "needs a prompt"),
    "no prompt": ({"mode": "T1", "prompt": PROMPT}, "takes no prompt"),
    "option": ({"mode": "T1", "options": {"corrupt": OTHER}}, "no option 'corrupt'"),
    "unknown option": ({"mode": "fMRI", "prompt": PROMPT, "options": {"progress": 1}}, "options.progress: "),
    "no mode": ({"prompt": PROMPT}, "name its mode"),
    "step": ({"mode": "fMRI", "prompt": PROMPT, "step": 99}, "steps 0 to 6"),
    "form": ({"mode": "T1", "form": "cube"}, "form"),
    "view": ({"mode": "T1", "view": "overview"}, "view: "),
    "size": ({"mode": "T1", "size": [4096, 4096]}, "16,777,216 pixels"),
    "sides": ({"mode": "T1", "size": [640]}, "size: "),
    "odd": ({"format": "mp4", "mode": "T1", "size": [65, 36]}, "even numbers"),
    "bare movie": ({"format": "gif"}, "A movie shows a scan"),
    "title": ({"mode": "T1", "title": "x" * 201}, "title: "),
}


@pytest.mark.parametrize(("wish", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_is_refused_in_words(tiny, wish, words):
    assert words in tiny.refused("POST", "/api/export", {"format": "png", **wish})


def test_a_movie_of_hundreds_of_tokens_is_left_to_the_command_line(tiny, monkeypatch):
    from nmri3d.app import exporting

    monkeypatch.setattr(exporting, "MOST_MOVIE_SECONDS", 4.0)
    words = tiny.refused("POST", "/api/export", {"format": "gif", "mode": "fMRI", "prompt": PROMPT})
    assert "7 tokens is longer than the 4 seconds" in words
    assert not _DRAWING.locked()


# -- tables -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "prompt"), [("T1", None), ("fMRI", 'Grüße aus 東京 🧠, "a"\n'), ("DTI", PROMPT)])
def test_tables_hold_the_values_of_the_scan(tiny, mode, prompt):
    local = nmri3d.scan(tiny.copy, mode, prompt)

    def table(form):
        asked = {"format": form, "mode": mode, "prompt": prompt}
        answer = tiny.client.post("/api/export/data", json=asked)
        assert answer.status_code == 200, answer.text
        suffix = {"netcdf": "nc"}.get(form, form)
        assert answer.headers["content-disposition"] == f'attachment; filename="llama-{mode}.{suffix}"'
        return answer.content

    whole = open_scan(table("npz"))
    np.testing.assert_array_equal(whole.values, local.values)
    assert (whole.tokens, whole.details.keys()) == (local.tokens, local.details.keys())
    for form, read in (("csv", pandas.read_csv), ("parquet", pandas.read_parquet)):
        found = read(io.BytesIO(table(form)))
        # a number in a text is as exact as float32 is
        np.testing.assert_array_equal(found["value"].to_numpy().astype(local.values.dtype), local.values.ravel())
        assert found["component"].tolist() == list(local.components.ids) * local.n_steps
        if prompt and local.tokens:
            assert found["token"].tolist() == [token for token in local.tokens for _ in local.components.ids]
    found = xarray.load_dataset(io.BytesIO(table("netcdf")))
    np.testing.assert_array_equal(found["values"].values, local.values)
    assert found["component"].values.tolist() == list(local.components.ids)
    assert found["values"].attrs["fingerprint"] == tiny.copy.fingerprint()
    assert found["values"].attrs["units"] == local.units


def test_counts_that_32_bits_cannot_hold_are_exact_in_netcdf():
    from dataclasses import replace

    from nmri3d.api.routes.exports import table_bytes
    from nmri3d.components import ComponentTable
    from tests.models.backends import tiny_backend

    scan = nmri3d.scan(tiny_backend("llama"), "T1")
    table = scan.components
    large = ComponentTable(table.kind, table.layer, table.index, table.n_params + 2**40)
    scan = replace(scan, components=large, values=large.n_params[None])
    found = xarray.load_dataset(io.BytesIO(table_bytes(scan, "netcdf")))
    np.testing.assert_array_equal(found["values"].values, scan.values)
    np.testing.assert_array_equal(found["n_params"].values, large.n_params)
