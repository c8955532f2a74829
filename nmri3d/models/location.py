"""Where a model lies: the type that finding a model ends with, what may stand in its name, and which places are allowed.

Convention. A name that says nothing of the disk (no drive, no backslash, no leading dot, no `..`, at most one slash) is a
Hugging Face id, unless a file or folder is called like it.

Left out: the finding (`locate`), the fetching (`hub`, `embedded`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nmri3d.errors import InputError, ModelAccessError

EMBEDDED = "smollm2-135m"

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_REVISION = re.compile(r"(?!.*(\.\.|//))[\w][\w./+-]{0,249}", re.ASCII)

SizeCheck = Callable[[str, int, str], object]
"""Called with title, number of parameters and stored dtype before weights are fetched; raises what refuses the model."""


def any_size(title: str, n_params: int, stored: str) -> None:
    """The SizeCheck that lets every model pass."""


@dataclass(frozen=True)
class Location:
    """Where a model's files are, and what to call it.

    folder    holds config.json, weights and tokenizer, or the .gguf file
    gguf      name of the .gguf file in the folder, or None for safetensors
    model_id  what finds it again; title, for people; source, in words
    """

    folder: Path
    model_id: str
    title: str
    source: str
    gguf: str | None = None
    warnings: tuple[str, ...] = ()


def local_path(name: str) -> Path:
    """A name as a path on this machine, `~` resolved. Raises InputError for one that can be no path."""
    if "\0" in name or not name.isprintable() or len(name) > 4096:
        raise InputError("a model's name has no control characters and at most 4,096 letters; check what was pasted")
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~somebody" who is not there
        raise InputError(f"nobody here has the home folder of {name!r}; give the whole path") from None


def exists(path: Path) -> bool:
    """Whether there is a file or folder that can be looked at; False also for names that a disk cannot hold."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def require_revision(revision: str | None) -> None:
    """Refuse what cannot be a branch, tag or commit: it becomes part of a path. Raises InputError."""
    if revision is not None and not (isinstance(revision, str) and _REVISION.fullmatch(revision)):
        raise InputError(f"{str(revision)[:100]!r} is no revision; give a branch, a tag or a commit, such as 'main'")


def require_allowed(name: str, folders: Iterable[Path] | None) -> None:
    """Refuse a local model that lies outside of all `folders` (or single files); None allows every place.

    Links are followed before anything is compared, and an answer does not depend on what is there, but for one case: a
    folder of the server's working directory that is called like a Hugging Face id hides that id, and is refused.

    Raises ModelAccessError for a place that is not allowed, InputError for a name that can be no path.
    """
    if folders is None or name == EMBEDDED or name.startswith("phantom:"):
        return
    path = local_path(name)
    if HUB_ID.fullmatch(name) and not name.endswith(".gguf") and not exists(path):
        return
    try:
        place = path.resolve()
        allowed = any(place.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, RuntimeError, ValueError):  # a circle of links, or a name that a disk cannot hold
        allowed = False
    if not allowed:
        raise ModelAccessError(
            "This server loads local models only from the folders that it was started with, and this one is in none of them; "
            "choose a Hugging Face id, or start it with `--models-from FOLDER`."
        )
