"""The cache of prepared models: made once, whole or not at all, whoever starts first and whatever interrupts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmri3d.errors import Cancelled, MachineError
from nmri3d.models.backend import Progress, no_progress
from nmri3d.models.weight_cache import damage, prepared

BUILDER = """
import sys, time
from pathlib import Path
from nmri3d.models.weight_cache import damage, prepared

def build(folder, progress):
    (folder / "weights").write_bytes(b"w" * 1000)
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[2]))
    (folder / "config").write_text("{}")

waits = []
folder = prepared("model", build, needs_bytes=1, progress=lambda share, what: waits.append(what))
assert damage(folder, every_byte=True) is None
print(len(waits))
"""


def build(folder: Path, progress: Progress) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"w" * 1000)
    (folder / "config").write_text("{}")


def start(log: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(log), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_of_several_first_starts_one_builds_and_the_others_wait(own_cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(log, 1.2) for _ in range(3)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert log.read_text() == "built\n"
    assert damage(own_cache / "model", every_byte=True) is None
    assert not list(own_cache.glob("*.part")) + list(own_cache.glob(".*.part"))


def test_a_killed_start_leaves_nothing_that_the_next_one_trusts(own_cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(log, 60)
    wait_for(log.exists)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert list(own_cache.glob(".model.*.part"))
    assert not (own_cache / "model").exists()
    folder = prepared("model", build, needs_bytes=1, progress=no_progress)
    assert damage(folder, every_byte=True) is None
    assert not list(own_cache.glob(".model.*.part"))


def test_a_build_that_fails_or_is_withdrawn_leaves_nothing(own_cache: Path) -> None:
    def cancelled(folder: Path, progress: Progress) -> None:
        build(folder, progress)
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        prepared("model", cancelled, needs_bytes=1, progress=no_progress)
    assert [path.name for path in own_cache.iterdir()] == ["model.lock"]
    assert prepared("model", build, needs_bytes=1, progress=no_progress) == own_cache / "model"


def test_waiting_can_be_withdrawn(own_cache: Path, tmp_path: Path) -> None:
    def cancel(share: float, what: str) -> None:
        assert "waiting for another process" in what
        raise Cancelled("enough")

    process = start(tmp_path / "log", 60)
    try:
        wait_for((tmp_path / "log").exists)
        with pytest.raises(Cancelled):
            prepared("model", build, needs_bytes=1, progress=cancel)
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_second_call_builds_nothing(own_cache: Path) -> None:
    def never(folder: Path, progress: Progress) -> None:
        pytest.fail("built twice")

    prepared("model", build, needs_bytes=1, progress=no_progress)
    prepared("model", never, needs_bytes=1, progress=no_progress)


@pytest.mark.parametrize("file", ["config", "inner/weights", "manifest.json"])
@pytest.mark.parametrize("how", ["removed", "cut", "emptied", "changed"])
def test_damage_is_found_and_mended(file: str, how: str, own_cache: Path) -> None:
    folder = prepared("model", build, needs_bytes=1, progress=no_progress)
    path = folder / file
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-1], "emptied": b"", "changed": b"#" + content[1:]}[how])
    assert damage(folder)
    assert prepared("model", build, needs_bytes=1, progress=no_progress) == folder
    assert damage(folder, every_byte=True) is None
    assert not list(own_cache.glob(".model.*.part"))


def test_a_large_file_is_checked_by_size_at_a_start_and_by_hash_on_demand(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nmri3d.models import weight_cache

    monkeypatch.setattr(weight_cache, "_HASHED_UP_TO", 100)
    folder = prepared("model", build, needs_bytes=1, progress=no_progress)
    (folder / "inner" / "weights").write_bytes(b"v" * 1000)
    assert damage(folder) is None
    assert damage(folder, every_byte=True) == "inner/weights has other contents"


@settings(max_examples=40, deadline=None)
@given(
    content=st.binary(max_size=80) | st.sampled_from([b"null", b"[]", b'{"format": 1}', b'{"format": 1, "files": []}'])
)
def test_any_manifest_that_is_none_is_damage(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "manifest.json").write_bytes(content)
    assert damage(folder)


def test_a_full_disk_is_said_before_the_work(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000))
    with pytest.raises(MachineError, match=r"takes 2\.0 kB of disk and .* has 1\.0 kB free.*NMRI3D_CACHE"):
        prepared("model", build, needs_bytes=2_000, progress=no_progress)


def test_a_cache_that_is_no_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NMRI3D_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match=r"cannot be written.*NMRI3D_CACHE"):
        prepared("model", build, needs_bytes=1, progress=no_progress)


def test_a_file_that_the_build_cannot_read_is_named_and_not_the_cache(own_cache: Path, tmp_path: Path) -> None:
    def read(folder: Path, progress: Progress) -> None:
        (tmp_path / "gone").read_bytes()

    with pytest.raises(MachineError, match=r"gone cannot be read \(No such file"):
        prepared("model", read, needs_bytes=1, progress=no_progress)


@pytest.mark.parametrize("before", ["nothing", "damaged"])
def test_nobody_ever_sees_a_part_of_it(before: str, own_cache: Path) -> None:
    """A reader that looks all the time sees no folder, or a whole one, or the damaged one that was there before."""

    def slow(folder: Path, progress: Progress) -> None:
        for number in range(20):
            (folder / f"part-{number}").write_bytes(b"w")
            time.sleep(0.005)

    folder = own_cache / "model"
    if before == "damaged":
        folder.mkdir(parents=True)
        (folder / "old").write_text("")
    seen: set[tuple[str, ...]] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add(tuple(sorted(path.name for path in folder.iterdir())))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        prepared("model", slow, needs_bytes=1, progress=no_progress)
        time.sleep(0.05)
    finally:
        done.set()
        reader.join()
    whole = tuple(sorted([*(f"part-{number}" for number in range(20)), "manifest.json"]))
    if before == "damaged":  # one who was listing the old folder while it was removed may see it emptied
        seen -= {(), ("old",)}
    assert seen == {whole}
