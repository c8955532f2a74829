"""Prepared models in the user's cache: made once, whole or not at all, whoever starts first.

Convention. A folder `<cache>/models/<name>` holds the model and `manifest.json` (size and sha256 of every file). It is
made in a temporary folder beside it and renamed when it is complete, under a file lock, so that of several first starts
one does the work and the others wait for it. What an interrupted start left behind is removed by the next one that holds
the lock.

Left out: what is in the folder (`embedded`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmri3d.errors import MachineError
from nmri3d.models.backend import Progress
from nmri3d.models.budget import human_bytes
from nmri3d.models.wheel import sha256_of

if TYPE_CHECKING:
    import filelock

CACHE_VARIABLE = "NMRI3D_CACHE"
MANIFEST = "manifest.json"
FORMAT = 1

_HASHED_UP_TO = 16_000_000  # bytes; larger files are checked by size at a start, by hash on demand
_LOCK_SECONDS = 0.5


def cache_folder() -> Path:
    """Where prepared models are kept: NMRI3D_CACHE/models if that is set, else the user's cache folder."""
    root = os.environ.get(CACHE_VARIABLE)
    if root:
        return Path(root).expanduser() / "models"
    import platformdirs

    return platformdirs.user_cache_path("nmri3d") / "models"


def damage(folder: Path, *, every_byte: bool = False) -> str | None:
    """What is wrong with a prepared folder, in words; None where it is as it was made. `every_byte` hashes all of it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            return f"it has format {manifest['format']}"
        for name, file in manifest["files"].items():
            path = folder / name
            if path.stat().st_size != file["size"]:
                return f"{name} has another size"
            if (every_byte or file["size"] <= _HASHED_UP_TO) and sha256_of(path) != file["sha256"]:
                return f"{name} has other contents"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be read ({error})"
    return None


def prepared(name: str, build: Callable[[Path, Progress], None], *, needs_bytes: int, progress: Progress) -> Path:
    """The folder of a prepared model, made by `build(temporary_folder, progress)` unless it is there already.

    needs_bytes is the disk that making it takes. Raises MachineError where the cache cannot be written, and whatever `build`
    and `progress` raise; then nothing is left behind.
    """
    import filelock

    root = cache_folder()
    folder = root / name
    if damage(folder) is None:
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / f"{name}.lock")
        _wait_for(lock, name, progress)
    except OSError as error:
        raise MachineError(_cannot_write(root, error)) from error
    try:
        if damage(folder) is not None:
            _make(root, folder, build, needs_bytes, progress)
    except OSError as error:
        if error.filename and not Path(error.filename).is_relative_to(root):
            raise MachineError(f"{error.filename} cannot be read ({error.strerror}); check its permissions") from error
        raise MachineError(_cannot_write(root, error)) from error
    finally:
        lock.release()
    return folder


def _wait_for(lock: filelock.BaseFileLock, name: str, progress: Progress) -> None:
    """Take the lock; while another process holds it, `progress` is called, so that waiting can be withdrawn."""
    import filelock

    waited = 0.0
    while True:
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
            return
        except filelock.Timeout:
            waited += _LOCK_SECONDS
            progress(0.0, f"waiting for another process that prepares {name}, {waited:.0f} s")


def _cannot_write(root: Path, error: OSError) -> str:
    return (
        f"the model cache {root} cannot be written ({error.strerror or error}); make room, or set {CACHE_VARIABLE} "
        "to a folder that can be written"
    )


def _make(
    root: Path, folder: Path, build: Callable[[Path, Progress], None], needs_bytes: int, progress: Progress
) -> None:
    """Build and rename; the lock is held, so that whatever temporary folder there is belongs to nobody."""
    for stale in root.glob(f".{folder.name}.*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    free = shutil.disk_usage(root).free
    if free < needs_bytes:
        raise MachineError(
            f"preparing {folder.name} takes {human_bytes(needs_bytes)} of disk and {root} has {human_bytes(free)} free; "
            f"make room, or set {CACHE_VARIABLE} to a folder on a larger disk"
        )
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=f".{folder.name}.", suffix=".part"))
    try:
        build(temporary, progress)
        files = {
            path.relative_to(temporary).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        (temporary / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
        temporary.chmod(0o755)  # mkdtemp makes it private, but a shared cache is meant to be read
        if folder.exists():  # damaged; it goes away in one step too
            old = Path(tempfile.mkdtemp(dir=root, prefix=f".{folder.name}.", suffix=".part"))
            os.replace(folder, old / "damaged")
            shutil.rmtree(old, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
