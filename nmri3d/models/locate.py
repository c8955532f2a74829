"""From what a person typed to the files of a model on this disk.

A name means, in this order: the embedded default ("smollm2-135m", always the same hash-pinned weights); a `.gguf` file; a
folder; a Hugging Face id. A folder that happens to be called like an id wins over the id, as in transformers.

Left out: looking into the files (`preflight`).
"""

from __future__ import annotations

import os
from pathlib import Path

from nmri3d.errors import InputError, ModelFormatError, ModelNotFoundError
from nmri3d.models.backend import Progress, no_progress
from nmri3d.models.known_models import did_you_mean
from nmri3d.models.location import (
    EMBEDDED,
    HUB_ID,
    Location,
    SizeCheck,
    any_size,
    exists,
    local_path,
    require_revision,
)


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
    path = local_path(text)
    if exists(path) and path.is_file():
        return _local_file(path.resolve())
    if exists(path) and path.is_dir():
        return _local_folder(path.resolve())
    if isinstance(name, str) and HUB_ID.fullmatch(text) and not text.endswith(".gguf"):
        from nmri3d.models.hub import locate_hub

        require_revision(revision)
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
