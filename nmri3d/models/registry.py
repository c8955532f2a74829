"""The models that a menu can offer: the embedded default, what the hub's cache holds, and well-known hub models.

Answers at once: it reads folders and never the network. Parameter counts are those of the published checkpoints (tied
weights once).

Left out: searching the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nmri3d.models.budget import bytes_needed
from nmri3d.models.known_models import WELL_KNOWN
from nmri3d.models.location import EMBEDDED


@dataclass(frozen=True)
class CatalogEntry:
    """One line of the model menu.

    model_id        what `nmri3d.load` takes
    title           for people
    family          architecture family, such as "Llama"; "" where unknown
    n_params        parameters; None where not known before loading
    download_bytes  what a first load fetches; None where not known, 0 where everything is here
    memory_bytes    what loading in float32 takes; None where n_params is None
    cached          complete on this disk
    gated           its owner asks for conditions to be accepted, and so for a token
    needs_network   a load would fetch something now
    note            what else to say
    """

    model_id: str
    title: str
    family: str
    n_params: int | None
    download_bytes: int | None
    cached: bool
    gated: bool = False
    note: str = ""

    @property
    def needs_network(self) -> bool:
        """Whether loading it now would fetch something."""
        return not self.cached

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of memory that loading it in float32 takes, None where its size is not known."""
        return None if self.n_params is None else bytes_needed(self.n_params, "float32")


def catalog() -> list[CatalogEntry]:
    """Models to offer: the embedded default first, then well-known ones, then others that the hub's cache holds."""
    cached = _cached_models()
    entries = [_embedded_entry()]
    for known in WELL_KNOWN:
        here = known.model_id in cached
        entries.append(
            CatalogEntry(
                known.model_id,
                known.title,
                known.family,
                known.n_params,
                download_bytes=0 if here else known.n_params * known.stored_bytes,
                cached=here,
                gated=known.gated,
            )
        )
    listed = {entry.model_id for entry in entries}
    entries += [_cached_entry(model_id, folder) for model_id, folder in cached.items() if model_id not in listed]
    return entries


def _embedded_entry() -> CatalogEntry:
    from nmri3d.models import embedded

    here = embedded.is_cached()
    return CatalogEntry(
        EMBEDDED,
        embedded.TITLE,
        "Llama",
        embedded.N_PARAMS,
        download_bytes=0 if here else embedded.WHEEL.size,
        cached=here,
        note="the default; works offline once prepared",
    )


def _cached_entry(model_id: str, folder: Path) -> CatalogEntry:
    from nmri3d.errors import ModelError
    from nmri3d.models import preflight

    try:
        config = preflight.read_config(folder)
        architecture = (config.get("architectures") or [""])[0]
        n_params: int | None = preflight.count_parameters(folder)
    except ModelError:  # a GGUF file: its size is known only after reading it
        architecture, n_params = "", None
    family = str(architecture).removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    return CatalogEntry(model_id, model_id.rpartition("/")[2], family, n_params, download_bytes=0, cached=True)


def _cached_models() -> dict[str, Path]:
    """Language models that are complete in the hub's cache: id -> folder of their newest revision."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from nmri3d.models.hub import is_complete

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):  # no cache, or a file where its folder should be
        return {}
    found = {}
    for repository in sorted(repositories, key=lambda each: each.repo_id):
        if repository.repo_type != "model":
            continue
        for revision in sorted(repository.revisions, key=lambda each: each.last_modified, reverse=True):
            if "main" in revision.refs and is_complete(Path(revision.snapshot_path)):
                found[repository.repo_id] = Path(revision.snapshot_path)
                break
    return found
