"""Recording a session in the page, and replaying it: driven as a person would, compared with what is on the disk."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmri3d.app.page import Page
from nmri3d.app.parts import sessions as sessions_part
from nmri3d.errors import MachineError
from nmri3d.perturbation import Edit
from nmri3d.results import Comparison, Scan
from nmri3d.service import Service
from nmri3d.service.sessions import Session, SessionStore
from nmri3d.service.sessions import session as session_module
from tests.app.conftest import PROMPT, by, opened, scan, serving
from tests.models.tiny import tiny_checkpoint_folder

pytestmark = pytest.mark.browser

OTHER = "The quick brown fox"
NOTE = "The last token lights up, <b>look</b> at head 2"
CAMERA = "Object.values(nmri3d.painter.camera.get('position', 'focalPoint', 'viewUp')).map((xyz) => Array.from(xyz))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def store(folder: Path) -> SessionStore:
    return SessionStore(folder)


@pytest.fixture(scope="module")
def server(service: Any, folder: Path) -> Iterator[Any]:
    with serving(service, sessions=folder) as running:
        yield running


def record(page: Any, on: bool = True) -> None:
    page.click(by("record-button"))
    page.wait_for_selector(f'{by("record-button")}[aria-pressed="{str(on).lower()}"]')


def written(page: Any, count: int) -> None:
    """Wait until that many events are on the disk."""
    page.wait_for_function(f"Number(document.querySelector('{by('record-count')}').innerText) >= {count}")


def newest(folder: Path) -> Session:
    """The session that changed last, as another process would find it on the disk."""
    fresh = SessionStore(folder)
    return fresh.open(fresh.list()[0].id)


def kinds(session: Session) -> list[str]:
    return [event.kind for event in session.events]


def values(page: Any) -> np.ndarray:
    return np.array(page.evaluate("Array.from(nmri3d.values(), String)"), dtype=np.float32)


def edit(page: Any, component: str, kind: str = "zero") -> None:
    page.evaluate(f"nmri3d.select(nmri3d.geometry().rowOfId.get('{component}'))")
    count = page.locator(f"{by('edits')} .edit").count()
    page.click(by(f"perturb-{kind}"))
    page.wait_for_function(f"document.querySelectorAll('{by('edits')} .edit').length === {count + 1}")


def remove_edits(page: Any, click: str, left: int) -> None:
    page.click(click)
    page.wait_for_function(f"document.querySelectorAll('{by('edits')} .edit').length === {left}")


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def replay(page: Any, session_id: str, number: int | None = None) -> None:
    """Open a session, and go to one of its events."""
    page.click(by("sessions-button"))
    page.click(f"{by(f'session-{session_id}')} {by('session-replay')}")
    page.wait_for_selector(by("replay-event-0") + '[aria-current="step"]')
    if number is not None:
        go(page, number)


def go(page: Any, number: int) -> None:
    page.click(by(f"replay-event-{number}"))
    page.wait_for_function(f"trame.state.get('replayed') && trame.state.get('replayed').number === {number}")
    page.wait_for_function("!nmri3d.painter || !nmri3d.painter.moving")
    page.wait_for_timeout(100)


def turn(page: Any) -> None:
    """Drag the brain, and let it come to rest."""
    box = page.locator(by("brain-view")).bounding_box()
    x, y = box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 40, steps=5)
    page.mouse.up()


def test_what_was_scanned_edited_noted_and_seen_is_on_the_disk(page: Any, folder: Path, service: Any) -> None:
    record(page)
    written(page, 2)  # the model, and T1, which stands there
    scan(page)
    edit(page, "blocks.1.attn.head_2")
    page.fill(by("note-input"), NOTE)
    page.press(by("note-input"), "Enter")
    page.click(by("token-2"))
    turn(page)
    until(lambda: seen_at(newest(folder)) == page.evaluate(CAMERA))
    page.wait_for_timeout(1500)  # nothing moves any more: nothing is added
    session = newest(folder)
    assert str(len(session.events)) == page.inner_text(by("record-count"))
    assert set(kinds(session)) == {"model", "scan", "edit", "note", "view"}
    by_kind = {event.kind: event for event in session.events}

    assert session.events[0].data["fingerprint"] == service.require_backend().info.fingerprint
    event = by_kind["scan"]
    assert (event.data["mode"], event.data["prompt"]) == ("fMRI", PROMPT)
    found = session.result(event)
    assert isinstance(found, Scan)
    np.testing.assert_array_equal(found.values, service.scan("fMRI", PROMPT, **event.data["options"]).values)

    event = by_kind["edit"]
    wanted = Edit("blocks.1.attn.head_2", "zero")
    assert event.data == {"prompt": PROMPT, "edit": wanted.as_record()}
    compared = session.result(event)
    assert isinstance(compared, Comparison)
    np.testing.assert_array_equal(compared.values_after, service.perturb(PROMPT, [wanted]).values_after)
    assert session.edits == (wanted.as_record(),)
    assert by_kind["note"].data == {"text": NOTE}

    view = session.events[-1]
    assert view.kind == "view"
    assert (view.data["mode"], view.data["step"], view.data["painting"]) == ("fMRI", 2, "change")
    assert view.data["selected"] == "blocks.1.attn.head_2"
    record(page, on=False)


def seen_at(session: Session) -> Any:
    """Camera of the last view."""
    views = [event.data["camera"] for event in session.events if event.kind == "view"]
    return [views[-1][name] for name in ("position", "focalPoint", "viewUp")] if views else None


def test_the_stack_by_events_is_the_stack_of_the_page(page: Any, folder: Path) -> None:
    scan(page)
    edit(page, "blocks.0.mlp")  # before the recording: it begins with what stands
    record(page)
    edit(page, "blocks.1.attn.head_0", "invert")
    edit(page, "blocks.2.mlp", "amplify")
    numbers = page.evaluate("trame.state.get('edits').map((one) => one.number)")
    told = {"blocks.0.mlp": "zero", "blocks.1.attn.head_0": "invert", "blocks.2.mlp": "amplify"}

    def on_disk() -> dict[str, str]:
        return {one["component"]: one["kind"] for one in newest(folder).edits}

    until(lambda: on_disk() == told)
    remove_edits(page, by(f"edit-remove-{numbers[1]}"), 2)
    until(lambda: on_disk() == {"blocks.0.mlp": "zero", "blocks.2.mlp": "amplify"})
    page.fill(by("prompt-input"), OTHER)  # measured again on another prompt, the stack stays
    page.press(by("prompt-input"), "Enter")
    until(lambda: [event.data["prompt"] for event in newest(folder).events if event.kind == "edit"][-2:] == [OTHER] * 2)
    until(lambda: on_disk() == {"blocks.0.mlp": "zero", "blocks.2.mlp": "amplify"})
    remove_edits(page, by("edit-undo"), 1)
    until(lambda: on_disk() == {"blocks.0.mlp": "zero"})
    session = newest(folder)
    last = session.result(session.events[-1]) or session.result(session.events[-2])
    assert isinstance(last, Comparison)
    assert [one["component"] for one in last.edits] == ["blocks.0.mlp"]
    page.click(by("reset-button"))
    until(lambda: on_disk() == {})

    count = sum(kind == "scan" for kind in kinds(newest(folder)))
    page.fill(by("prompt-input"), "")  # what fails is not recorded
    page.click(by("scan-button"))
    page.wait_for_selector(by("prompt-error"))
    page.fill(by("note-input"), "after the failure")
    page.press(by("note-input"), "Enter")
    until(lambda: "note" in kinds(newest(folder)))
    assert sum(kind == "scan" for kind in kinds(newest(folder))) == count
    record(page, on=False)


def test_long_runs_and_generations_are_recorded_with_their_results(page: Any, folder: Path, service: Any) -> None:
    record(page)
    scan(page)
    page.fill(by("generate-count"), "3")
    page.click(by("generate-button"))
    until(lambda: "generate" in kinds(newest(folder)))
    page.click(by("tool-sweep"))
    page.click(by("sweep-button"))
    until(lambda: "sweep" in kinds(newest(folder)))
    page.click(by("tool-trace"))
    page.select_option(f"{by('panel-trace')} select >> nth=0", "noise")
    page.click(by("trace-button"))
    until(lambda: "trace" in kinds(newest(folder)))
    record(page, on=False)
    session = newest(folder)
    by_kind = {event.kind: event for event in session.events}
    data = by_kind["generate"].data
    assert (data["prompt"], data["n_tokens"], len(data["tokens"])) == (PROMPT, 3, 3)
    steps: list[Any] = []
    service.generate(PROMPT, 3, steps.append)
    assert data["tokens"] == [step.token.token_id for step in steps]
    np.testing.assert_array_equal(session.result(by_kind["generate"]).values, steps[-1].scan.values)
    data = by_kind["sweep"].data
    again = service.sweep(data["prompt"], **data["options"])
    np.testing.assert_array_equal(session.result(by_kind["sweep"]).values, again.values)
    data = by_kind["trace"].data
    trace = service.trace(data["clean"], data["corrupt"], **data["options"])
    np.testing.assert_array_equal(session.result(by_kind["trace"]).values, trace.values)

    # Their replay opens the tools with the same figures, and nothing is measured for it.
    asked = len(service.asked)
    numbers = {event.kind: event.number for event in session.events}
    replay(page, session.id, numbers["generate"])
    assert page.locator(".chip.generated").count() == 3
    go(page, numbers["sweep"])
    assert page.get_attribute(by("tool-sweep"), "aria-selected") == "true"
    np.testing.assert_array_equal(values(page), again.values)
    go(page, numbers["trace"])
    assert page.locator(f"{by('panel-trace')} canvas").count() == len(trace.sites)
    assert len(service.asked) == asked


def test_a_replay_shows_the_recorded_values_and_camera_and_then_gives_back(
    page: Any, folder: Path, service: Any
) -> None:
    record(page)
    scan(page)
    edit(page, "blocks.1.attn.head_2")
    page.click(by("token-1"))
    page.select_option(by("surface-menu"), "inflated")
    page.wait_for_function("nmri3d.painter.form.name === 'inflated'")
    turn(page)
    page.fill(by("note-input"), NOTE)
    page.press(by("note-input"), "Enter")
    until(lambda: seen_at(newest(folder)) == page.evaluate(CAMERA))
    recorded_values, camera = values(page), page.evaluate(CAMERA)
    record(page, on=False)
    session = newest(folder)

    page.click(by("reset-button"))
    page.select_option(by("surface-menu"), "pial")
    page.fill(by("prompt-input"), OTHER)
    page.press(by("prompt-input"), "Enter")
    page.wait_for_function(f"nmri3d.scan() && nmri3d.scan().prompt === '{OTHER}'")
    page.click(by("token-3"))
    edit(page, "blocks.2.mlp", "invert")
    page.wait_for_function("!nmri3d.painter.moving")
    page.wait_for_timeout(500)
    mine, mine_camera = values(page), page.evaluate(CAMERA)
    asked = len(service.asked)

    last = len(session.events) - 1
    replay(page, session.id, last)
    np.testing.assert_array_equal(values(page), recorded_values)
    assert page.evaluate(CAMERA) == camera
    assert page.evaluate("[nmri3d.store.surface, nmri3d.store.mode, nmri3d.store.step]") == ["inflated", "fMRI", 1]
    assert page.inner_text(by("replay-title")).startswith("REPLAY 20")
    assert page.inner_text(f"{by('edits')} .edit").strip().startswith("zero blocks.1.attn.head_2")
    assert page.is_disabled(by("perturb-zero"))
    page.click(by("paint-before"))
    event = next(one for one in session.events if one.kind == "edit")
    compared = session.result(event)
    page.wait_for_function("nmri3d.store.painting === 'before'")
    np.testing.assert_array_equal(values(page), compared.values_before[page.evaluate("nmri3d.currentStep()")])

    noted = next(one.number for one in session.events if one.kind == "note")
    go(page, noted)
    assert page.inner_text(by("replay-note")) == NOTE  # as text: no markup of it is run
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(by(f"replay-event-{noted - 1}") + '[aria-current="step"]')
    assert len(service.asked) == asked  # nothing was measured

    page.keyboard.press("Escape")
    page.wait_for_selector(by("replay-panel"), state="detached")
    page.wait_for_function("nmri3d.painter.form.name === 'pial' && !nmri3d.painter.moving")
    page.wait_for_timeout(500)
    np.testing.assert_array_equal(values(page), mine)
    np.testing.assert_allclose(page.evaluate(CAMERA), mine_camera, rtol=0, atol=1e-9)
    assert "invert" in page.inner_text(f"{by('edits')} .edit")
    assert page.evaluate("nmri3d.store.painting") == "change"


def test_what_ends_during_a_replay_is_there_after_it(
    page: Any, folder: Path, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(page)
    scan(page)
    record(page, on=False)
    session = newest(folder)
    replay(page, session.id, 0)
    page.fill(by("prompt-input"), OTHER)
    page.press(by("prompt-input"), "Enter")  # a measurement of one's own ends the replay
    page.wait_for_selector(by("replay-panel"), state="detached")
    page.wait_for_function(f"nmri3d.scan() && nmri3d.scan().prompt === '{OTHER}'")
    page.wait_for_selector(by("predictions"))

    go_on, measure = threading.Event(), service.scan

    def held(mode: str, *arguments: Any, **options: Any) -> Any:
        assert mode != "T2" or go_on.wait(60)
        return measure(mode, *arguments, **options)

    monkeypatch.setattr(service, "scan", held)
    page.click(by("tab-T2"))
    page.wait_for_selector(by("job"))
    replay(page, session.id)
    go_on.set()
    page.wait_for_selector(by("job"), state="detached")
    assert page.evaluate("Object.keys(nmri3d.data.scans)") == []  # the first event is the model's
    page.keyboard.press("Escape")
    page.wait_for_function("nmri3d.store.mode === 'T2' && nmri3d.scan()")
    np.testing.assert_array_equal(values(page), measure("T2").values[0])
    page.click(by("tab-fMRI"))
    page.wait_for_function(f"nmri3d.scan().prompt === '{OTHER}'")


def test_playing_keeps_the_pace_and_shortens_long_pauses(
    page: Any, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        minutes = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.minutes += 1
            return datetime(2026, 1, 1, 12, cls.minutes)

    session = store.create("an hour")
    with monkeypatch.context() as patch:
        patch.setattr(session_module, "datetime", Clock)
        for number in range(3):
            session.record("note", {"text": f"note {number}"})
    assert [event.at[11:16] for event in session.events] == ["12:01", "12:02", "12:03"]
    replay(page, session.id)
    began = time.monotonic()
    page.click(by("replay-play"))
    page.wait_for_selector(by("replay-event-2") + '[aria-current="step"]')
    assert 3.5 < time.monotonic() - began < 8  # two pauses of a minute, each as two seconds
    page.wait_for_selector(by("replay-play") + '[aria-pressed="false"]')
    assert page.inner_text(by("replay-note")) == "note 2"


def test_the_list_renames_deletes_exports_and_imports(
    page: Any, store: SessionStore, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record(page)
    scan(page)
    until(lambda: kinds(newest(folder)).count("scan") == 2)
    record(page, on=False)
    session = newest(folder)
    page.click(by("sessions-button"))
    row = by(f"session-{session.id}")
    page.click(f"{row} {by('session-rename')}")
    page.fill(by("session-title"), "What <i>France</i> lights up")
    page.press(by("session-title"), "Enter")
    page.wait_for_selector(f"{row} .session-title:text-is('What <i>France</i> lights up')")

    with page.expect_download() as download:
        page.click(f"{row} {by('session-export')}")
    assert download.value.suggested_filename == f"nmri3d-session-{session.id}.zip"
    before = {one.id for one in store.list()}
    page.set_input_files(by("session-import"), download.value.path())
    until(lambda: len(store.list()) == len(before) + 1)
    (copy_id,) = {one.id for one in store.list()} - before
    page.wait_for_selector(by(f"session-{copy_id}"))
    again = SessionStore(folder).open(copy_id)
    assert again.events == newest_of(folder, session.id).events
    assert again.title == "What <i>France</i> lights up"
    for event in again.events:
        one, other = again.result(event), session.result(event)
        if isinstance(one, Scan) and isinstance(other, Scan):
            np.testing.assert_array_equal(one.values, other.values)

    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no zip")
    page.set_input_files(by("session-import"), bad)
    page.wait_for_selector(by("sessions-error"))
    assert "not a session" in page.inner_text(by("sessions-error"))
    with monkeypatch.context() as patch:
        patch.setattr(sessions_part, "FILE_LIMIT", 2**20)
        bad.write_bytes(bytes(2**20 + 1))
        page.set_input_files(by("session-import"), bad)
        page.wait_for_selector(f"{by('sessions-error')}:has-text('more than 1 MB')")

    page.click(f"{by(f'session-{copy_id}')} {by('session-delete')}")
    page.click(by("session-delete-no"))
    assert copy_id in {one.id for one in store.list()}
    page.click(f"{by(f'session-{copy_id}')} {by('session-delete')}")
    page.click(by("session-delete-yes"))
    page.wait_for_selector(by(f"session-{copy_id}"), state="detached")
    assert {one.id for one in store.list()} == before
    page.keyboard.press("Escape")
    assert page.locator(by("sessions-panel")).count() == 0


def newest_of(folder: Path, session_id: str) -> Session:
    return SessionStore(folder).open(session_id)


def test_a_disk_that_fails_ends_the_recording_in_words_and_the_work_goes_on(
    page: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    record(page)
    written(page, 2)
    before = len(newest(folder).events)

    def full(*_: Any, **__: Any) -> None:
        raise MachineError("The disk is full; free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", full)
        scan(page)
        page.wait_for_selector(by("record-error"))
    assert "The disk is full" in page.inner_text(by("record-error"))
    assert page.get_attribute(by("record-button"), "aria-pressed") == "false"
    assert len(values(page)) > 0
    assert len(newest(folder).events) <= before + 1  # a view may have been written before the scan
    edit(page, "blocks.0.mlp")
    page.click(f"{by('record-error')} button")
    page.wait_for_selector(by("record-error"), state="detached")
    record(page)  # and it can be recorded again
    until(lambda: "edit" in kinds(newest(folder)))
    record(page, on=False)


def test_with_recording_off_stepping_and_turning_send_nothing(page: Any, settled: Any) -> None:
    record(page)
    record(page, on=False)
    scan(page)
    page.keyboard.press("Tab")
    settled(page)
    page.traffic.clear()
    page.keyboard.press("ArrowLeft")
    page.click(by("token-1"))
    turn(page)
    page.wait_for_timeout(1800)
    assert page.traffic.n_bytes == 0


def test_nonsense_about_sessions_is_refused(page: Any, settled: Any) -> None:
    before = page.locator(".log .error").count()
    for name, arguments in (
        ("record_view", [{"mode": "T1"}]),
        ("record_note", ["no recording is on"]),
        ("session_rename", ["../../etc", "x"]),
        ("session_rename", [7, "x"]),
        ("session_delete", ["../../etc"]),
        ("session_export", ["20260101-000000-00000000"]),
        ("session_import", [[1, 2]]),
        ("replay", ["../../etc"]),
        ("replay_event", [0]),
    ):
        page.evaluate("([name, args]) => window.trame.trigger(name, args)", [name, arguments])
    settled(page)
    assert page.locator(".log .error").count() >= before + 8  # a view is only not taken
    assert page.evaluate("trame.state.get('replay')") is None
    scan(page)


def test_without_a_store_no_recording_is_offered(browser: Any, service: Any) -> None:
    with serving(service, make_page=lambda trame, shared: Page(trame, shared)) as running:
        page = opened(browser, running.address)
        for name in ("record-button", "sessions-button", "note-input"):
            assert page.locator(by(name)).count() == 0
        page.close()


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
def test_nothing_overlaps_while_recording_and_replaying(
    browser: Any, server: Any, folder: Path, size: tuple[int, int]
) -> None:
    page = opened(browser, server.address, size)
    record(page)
    written(page, 2)
    replay(page, newest(folder).id, 1)
    names = (
        ".top-bar",
        ".mode-tabs",
        ".canvas",
        ".prompt-bar",
        ".tools",
        ".stimulation",
        ".comparison",
        ".replay-panel",
    )
    boxes = [page.locator(name).bounding_box() for name in names]
    assert page.locator(".log-panel").bounding_box() is None
    for at, one in enumerate(boxes):
        assert min(one["x"], one["y"]) >= 0
        assert one["x"] + one["width"] <= size[0] + 0.5
        assert one["y"] + one["height"] <= size[1] + 0.5
        for other in boxes[at + 1 :]:
            assert (
                one["x"] + one["width"] <= other["x"] + 0.5
                or other["x"] + other["width"] <= one["x"] + 0.5
                or one["y"] + one["height"] <= other["y"] + 0.5
                or other["y"] + other["height"] <= one["y"] + 0.5
            )
    bar = page.locator(".top-bar")
    assert bar.evaluate("(bar) => bar.scrollWidth - bar.clientWidth") <= 0
    assert bar.locator(".spacer").bounding_box()["width"] > 0
    assert page.evaluate("document.documentElement.scrollHeight - window.innerHeight") <= 0
    page.keyboard.press("Escape")
    record(page, on=False)
    assert page.complaints == []
    page.close()


def test_another_model_is_named_and_loaded_when_it_is_asked_for(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "cache"))
    recorded = tiny_checkpoint_folder("gpt2", tmp_path / "recorded")
    shared, store = Service(), SessionStore(tmp_path / "sessions")
    info = shared.load(str(recorded))
    session = store.create("of gpt2")
    session.record("model", {"model_id": str(recorded), "fingerprint": info.fingerprint, "title": "tiny gpt2"})
    found = shared.scan("fMRI", PROMPT)
    session.record("scan", {"mode": "fMRI", "prompt": PROMPT, "options": {}}, found)
    shared.load(str(tiny_checkpoint_folder("llama", tmp_path / "loaded")))
    with serving(shared, sessions=tmp_path / "sessions") as running:
        page = opened(browser, running.address)
        replay(page, session.id, 1)
        assert "tiny gpt2" in page.inner_text(by("replay-model"))
        assert page.evaluate("nmri3d.scan()") is None
        page.click(by("replay-load"))
        page.wait_for_selector(by("replay-model"), state="detached")
        page.wait_for_function("nmri3d.store.epoch > 1 && nmri3d.store.painted && nmri3d.scan()")
        np.testing.assert_array_equal(values(page), found.values[-1])
        page.keyboard.press("Escape")
        page.wait_for_function("nmri3d.scan() && nmri3d.scan().mode === 'T1'")
        assert page.complaints == []
        page.close()
    shared.close()


def test_with_remote_rendering_the_servers_camera_is_recorded_and_replayed(
    browser: Any, service: Any, tmp_path: Path
) -> None:
    with serving(service, render="remote", sessions=tmp_path) as running:
        page = opened(browser, running.address)
        record(page)
        scan(page)
        until(lambda: kinds(newest(tmp_path)).count("scan") == 2)
        page.select_option(by("view-menu"), "dorsal")
        until(lambda: any(event.data.get("view") == "dorsal" for event in newest(tmp_path).events))
        record(page, on=False)
        session = newest(tmp_path)
        assert seen_at(session)[0][2] > 200  # mm above the brain
        page.wait_for_timeout(1500)
        recorded = picture(page)
        page.select_option(by("view-menu"), "lateral_left")
        page.fill(by("prompt-input"), OTHER)
        page.press(by("prompt-input"), "Enter")
        page.wait_for_function(f"nmri3d.scan() && nmri3d.scan().prompt === '{OTHER}'")
        page.wait_for_timeout(1500)
        mine = picture(page)
        assert np.abs(mine - recorded).mean() > 2
        replay(page, session.id, len(session.events) - 1)
        page.wait_for_timeout(1500)
        again = picture(page)
        height = min(len(again), len(recorded))
        assert again[: height // 2].mean() > 0
        np.testing.assert_array_equal(values(page), service.scan("fMRI", PROMPT).values[-1])
        assert np.abs(again[:height] - mine[:height]).mean() > 2
        page.keyboard.press("Escape")
        end = time.monotonic() + 20
        now = picture(page)
        while now.shape != mine.shape or np.abs(now - mine).mean() > 1:  # the server draws again, in the old size
            assert time.monotonic() < end
            page.wait_for_timeout(300)
            now = picture(page)
        assert page.complaints == []
        page.close()


def picture(page: Any) -> np.ndarray:
    """The brain's picture, int [height, width, 3]."""
    from PIL import Image

    shot = page.locator(by("brain-view")).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
