"""Models of the Hugging Face hub: from an id to a complete folder on this disk.

Convention. A complete copy in the hub's cache is used as it is, without asking the network, so that work offline and work
online see the same weights; a named branch or tag (`revision="main"`) asks the hub what it means now. Descriptions
come first and are checked; the weights are fetched only when the model can be used and fits. Only safetensors or GGUF
are fetched. A token is handed to huggingface_hub and kept nowhere; every message is scrubbed of it.

Left out: uploading, data sets, anything but the top folder of a model repository.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmri3d.errors import (
    InputError,
    MachineError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    Nmri3dError,
)
from nmri3d.models import budget, preflight
from nmri3d.models.backend import Progress
from nmri3d.models.hub_errors import explain, is_no_network, scrub
from nmri3d.models.location import Location, SizeCheck
from nmri3d.models.progress import ReportingBar

_log = logging.getLogger(__name__)

_DESCRIPTIONS = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template|tekken"
    r"|model\.safetensors\.index)\.json|(tokenizer|spiece)\.model|(vocab|merges)\.txt|chat_template\.jinja"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 20.0  # seconds to wait for the hub's first answer


def locate_hub(
    repo_id: str,
    *,
    revision: str | None,
    token: str | None,
    trust_remote_code: bool,
    check_size: SizeCheck,
    progress: Progress,
) -> Location:
    """A complete copy of a hub model, from the cache or fetched into it.

    Raises ModelNotFoundError (unknown, no network), ModelAccessError (gated, token refused), MachineError (disk full), and
    what `preflight` and `check_size` raise.
    """
    _require_id(repo_id)
    folder = cached_snapshot(repo_id, revision)
    asks_again = revision is not None and not _COMMIT.fullmatch(revision)
    if folder is not None and is_complete(folder) and not asks_again:
        return _location(repo_id, folder)
    try:
        fetched = _fetch(repo_id, revision, token, trust_remote_code, check_size, progress)
        return _location(repo_id, fetched)
    except Nmri3dError:
        raise
    except Exception as error:
        _log.debug("the hub failed: %s", scrub(repr(error), token))
        explained = explain(error, repo_id, revision, token)
        if is_no_network(error) and folder is not None:
            if is_complete(folder):
                warning = f"the hub could not be reached, so the cached copy of {repo_id} is used"
                return _location(repo_id, folder, warning)
            if (folder / "config.json").is_file():
                preflight.weight_files(folder)  # says what is wrong with what is there
    # outside of `except`: the original error may hold the token, so it must not be chained to this one
    raise explained


def _require_id(repo_id: str) -> None:
    """Refuse what huggingface_hub would not take for an id. Raises ModelNotFoundError."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # its __all__ is made at run time

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise ModelNotFoundError(
            f"{repo_id[:100]!r} can be no Hugging Face id: those have at most 96 letters, digits and single signs - _ . "
            "within; check the spelling"
        ) from None


def cached_snapshot(repo_id: str, revision: str | None) -> Path | None:
    """Folder of a revision in the hub's cache, complete or not; None where there is none."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model")
    commit = revision or "main"
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (storage / "refs" / commit).read_text().strip()
        except OSError:
            return None
    folder = storage / "snapshots" / commit
    return folder if folder.is_dir() else None


def is_complete(folder: Path) -> bool:
    """Whether a folder holds configuration, tokenizer and all weights, or one GGUF file."""
    if len(list(folder.glob("*.gguf"))) == 1:
        return True
    try:
        preflight.check_tokenizer(folder)
        return (folder / "config.json").is_file() and bool(preflight.weight_files(folder))
    except ModelError:
        return False


def _location(repo_id: str, folder: Path, *warnings: str) -> Location:
    files = sorted(file.name for file in folder.glob("*.gguf"))
    gguf = files[0] if files and not any(folder.glob("*.safetensors")) else None
    return Location(
        folder,
        model_id=repo_id,
        title=repo_id.rpartition("/")[2],
        source=f"Hugging Face hub, {repo_id}, revision {folder.name[:12]}",
        gguf=gguf,
        warnings=warnings,
    )


def _fetch(
    repo_id: str,
    revision: str | None,
    token: str | None,
    trust_remote_code: bool,
    check_size: SizeCheck,
    progress: Progress,
) -> Path:
    from huggingface_hub import HfApi

    progress(0.0, f"asking the hub for {repo_id}")
    info = HfApi(token=token).model_info(repo_id, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
    weights = _choose_weights(repo_id, sizes)
    small = [name for name in sizes if _DESCRIPTIONS.fullmatch(name) or (trust_remote_code and name.endswith(".py"))]

    def download(names: list[str], start: float, stop: float) -> Path | None:
        return _download(repo_id, names, sizes, revision, token, lambda s, w: progress(start + (stop - start) * s, w))

    folder = download(small, 0.0, 0.05)
    if weights[0].endswith(".gguf"):
        check_size(repo_id, _count(info, sum(sizes[name] for name in weights), "int8"), "float32")
    else:
        assert folder is not None  # safetensors repositories have a config.json, see _choose_weights
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            weights = list(dict.fromkeys(json.loads(index.read_bytes())["weight_map"].values()))
        config, _, _ = preflight.check_description(folder, trust_remote_code=trust_remote_code)
        stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
        check_size(repo_id, _count(info, sum(sizes.get(name, 0) for name in weights), stored), stored)
    fetched = download(weights, 0.05, 1.0)
    assert fetched is not None
    return fetched


def _choose_weights(repo_id: str, sizes: dict[str, int]) -> list[str]:
    """Weight files to fetch; for a sharded model its shards by name, corrected later from the index."""
    if "config.json" in sizes:
        if "model.safetensors" in sizes:
            return ["model.safetensors"]
        if "model.safetensors.index.json" in sizes:
            return sorted(name for name in sizes if name.endswith(".safetensors") and "/" not in name)
    ggufs = sorted(name for name in sizes if name.endswith(".gguf") and "/" not in name)
    if len(ggufs) == 1:
        return ggufs
    if ggufs:
        raise InputError(
            f"{repo_id} offers {len(ggufs)} GGUF files; download one of them, such as {ggufs[0]}, and give its path"
        )
    pickles = sorted(name for name in sizes if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickles:
        raise ModelFormatError(
            f"{repo_id} offers its weights only as pickle ({pickles[0]}), which can run any code when it is read; "
            "look for a safetensors version of it on the hub"
        )
    raise ModelNotFoundError(
        f"the repository {repo_id} holds no language model (no config.json with model.safetensors)"
    )


def _count(info: Any, n_bytes: int, stored: str) -> int:
    """Number of parameters as the hub counts them, or as the files' sizes tell."""
    counted = getattr(getattr(info, "safetensors", None), "total", None)
    width = {"float64": 8, "float32": 4, "int8": 1}.get(stored, 2)
    return int(counted or n_bytes // width)


def _download(
    repo_id: str, names: list[str], sizes: dict[str, int], revision: str | None, token: str | None, progress: Progress
) -> Path | None:
    """Fetch files one after the other into the hub's cache; returns their folder. Interrupted ones are resumed."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    total = sum(sizes.get(name, 0) for name in names) or 1
    have = [name for name in names if isinstance(try_to_load_from_cache(repo_id, name, revision=revision), str)]
    missing = total - sum(sizes.get(name, 0) for name in have)
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if missing > free:
        raise MachineError(
            f"{repo_id} needs {budget.human_bytes(missing)} of disk and {cache} has {budget.human_bytes(free)} free; "
            "free some, or set HF_HOME to a larger disk"
        )
    folder, before = None, 0
    for name in names:
        done = before

        def report(step: float, start: int = before, name: str = name) -> None:
            nonlocal done
            done = min(done + int(step), start + sizes.get(name, total))
            progress(done / total, f"downloading {repo_id}, {budget.human_bytes(done)} of {budget.human_bytes(total)}")

        path = hf_hub_download(repo_id, name, revision=revision, token=token, tqdm_class=_bar_class(report))
        folder = Path(path).parent
        before += sizes.get(name, 0)
        progress(before / total, f"downloaded {name}")
    return folder


def _bar_class(report: Callable[[float], None]) -> Any:
    """A class that huggingface_hub can use for its bars and that only reports bytes."""

    class Bytes(ReportingBar):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(lambda share, what: None, "")
            report(options.get("initial") or 0)

        def update(self, step: float | None = 1) -> None:
            report(step or 0)

    return Bytes
