"""From what a person typed to the files of a model on this disk.

A name means, in this order: the embedded default ("smollm2-135m", always the same hash-pinned weights); a `.gguf` file; a
folder; a Hugging Face id. A folder that happens to be called like an id wins over the id, as in transformers.

Left out: looking into the files (`preflight`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nmri3d.errors import InputError, ModelFormatError, ModelNotFoundError
from nmri3d.models.backend import Progress, no_progress

EMBEDDED = "smollm2-135m"

SizeCheck = Callable[[str, int, str], object]
"""Called with title, number of parameters and stored dtype before weights are fetched; raises what refuses the model."""


def any_size(title: str, n_params: int, stored: str) -> None:
    """The SizeCheck that lets every model pass."""


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


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


def locate(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    check_size: SizeCheck = any_size,
    progress: Progress = no_progress,
) -> Location:
    """Find the files of a model, fetching them where needed.

    Raises InputError for a name that is no text or path, ModelNotFoundError, and what `hub` and `embedded` raise.
    """
    if not isinstance(name, (str, os.PathLike)) or not os.fspath(name):
        raise InputError(f"a model's name is a text or a path, not {name!r}; try {EMBEDDED!r}")
    if name == EMBEDDED:
        from nmri3d.models.embedded import locate_embedded

        return locate_embedded(progress)
    text = os.fspath(name)
    path = Path(text).expanduser()
    if path.is_file():
        return _local_file(path.resolve())
    if path.is_dir():
        return _local_folder(path.resolve())
    if isinstance(name, str) and _HUB_ID.fullmatch(text) and not text.endswith(".gguf"):
        from nmri3d.models.hub import locate_hub

        return locate_hub(
            text,
            revision=revision,
            token=token,
            trust_remote_code=trust_remote_code,
            check_size=check_size,
            progress=progress,
        )
    if isinstance(name, str) and not _looks_like_path(text):
        raise ModelNotFoundError(
            f"{text!r} is neither {EMBEDDED!r}, nor a file or folder, nor a Hugging Face id such as "
            f"'openai-community/gpt2'{did_you_mean(text)}"
        )
    raise ModelNotFoundError(f"there is no model file or folder {path}; check the path")


def did_you_mean(name: str) -> str:
    """Words that name the known models closest to a misspelled one; empty where none is close."""
    import difflib

    from nmri3d.models.registry import known_ids

    by_key: dict[str, str] = {}
    for known in known_ids():
        by_key.setdefault(known.lower(), known)
        by_key.setdefault(known.lower().rpartition("/")[2], known)
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, by_key, n=4, cutoff=0.6)
    close += difflib.get_close_matches(wanted.rpartition("/")[2], by_key, n=4, cutoff=0.6)
    found = list(dict.fromkeys(by_key[key] for key in close))[:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _local_file(path: Path) -> Location:
    if path.suffix == ".gguf":
        return Location(path.parent, str(path), path.stem, f"file {path}", gguf=path.name)
    if path.suffix == ".safetensors":
        raise ModelNotFoundError(
            f"{path} holds weights without configuration and tokenizer; give the folder that holds all three"
        )
    raise ModelFormatError(
        f"{path} is not a model that can be read safely; give a .gguf file, or a folder with safetensors"
    )


def _local_folder(path: Path) -> Location:
    gguf = None
    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        files = sorted(file.name for file in path.glob("*.gguf"))
        if len(files) > 1:
            raise InputError(
                f"{path} holds {len(files)} GGUF files; give the path of one of them, such as {path / files[0]}"
            )
        gguf = files[0] if files else None
    return Location(path, str(path), Path(gguf).stem if gguf else path.name, f"folder {path}", gguf=gguf)


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "~", "/", "\\")) or "\\" in text or text.count("/") > 1 or text.endswith(".gguf")
