"""`template_of`: the shipped template, the one in the user's cache, or a new one. And where templates are kept.

A template belongs to a fingerprint of weights and to a version: of this package's arithmetic (VERSION) and of the
reference text. A file of another version, of other weights, or damaged is not used and is written anew.

The default model's template is shipped in `nmri3d/template/data`, in the float32 in which it was built: nothing is
rounded, and it equals a fresh build up to the rounding of another machine's arithmetic.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from nmri3d.errors import InputError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.results.storage import read_result, write_result
from nmri3d.template.build import build_template
from nmri3d.template.reference import passages, reference_of, text_digest
from nmri3d.template.template import ActivityReference, LensReference, Template

VERSION = 1
CACHE_VARIABLE = "NMRI3D_CACHE"

_PARTS = {"lens": LensReference, "activity": ActivityReference}
"""Parts of a template that not all networks have, and are kept under their names."""
_SCALARS = ("fingerprint", "model_id", "n_tokens", "embedding_std")
_ARRAYS = tuple(field.name for field in fields(Template) if field.name not in (*_SCALARS, *_PARTS, "components"))
_REMEMBERED = 2
_memory: OrderedDict[str, Template] = OrderedDict()
_lock = threading.Lock()
_elsewhere: ContextVar[Path | None] = ContextVar("_elsewhere", default=None)


def template_of(model: Backend, progress: Progress = no_progress) -> Template:
    """The template of a model; built and cached where there is none.

    Building takes about a minute for the default model (`progress` reports it, and may raise Cancelled: then nothing is
    kept). Warns where the cache cannot be written; the template is good then, and is built again in the next process.
    """
    found = _stored(model)
    if found is None:
        found = build_template(model, progress=progress)
        try:
            save_template(found, cache_folder() / _file_name(model), reference_of(model))
        except OSError as error:
            warnings.warn(
                f"the template cannot be kept in {cache_folder()} ({error.strerror or error}); make room, or set "
                f"{CACHE_VARIABLE} to a folder that can be written",
                stacklevel=2,
            )
        _remember(found)
    return found


def available(model: Backend) -> bool:
    """Whether `template_of` would answer at once: shipped, or in the user's cache and sound."""
    return _stored(model) is not None


@contextmanager
def templates_kept_in(folder: Path) -> Iterator[None]:
    """Within this, new templates are kept in `folder`: of networks that nobody will ask for again."""
    token = _elsewhere.set(folder)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def cache_folder() -> Path:
    """Where templates are kept: NMRI3D_CACHE/templates if that is set, else the user's cache folder."""
    from platformdirs import user_cache_path

    if (elsewhere := _elsewhere.get()) is not None:
        return elsewhere
    root = os.environ.get(CACHE_VARIABLE)
    return (Path(root).expanduser() if root else user_cache_path("nmri3d")) / "templates"


def save_template(template: Template, path: Path, texts: Sequence[str] | None = None) -> Path:
    """Write a template of the passages, or of `texts`, to one `.npz` file, whole or not at all. Raises OSError."""
    arrays = {name: getattr(template, name) for name in _ARRAYS}
    for part in _PARTS:
        if (own := getattr(template, part)) is not None:
            arrays |= {f"{part}/{field.name}": getattr(own, field.name) for field in fields(own)}
    meta = {name: getattr(template, name) for name in _SCALARS}
    return write_result(path, _form(texts), meta, arrays, template.components)


def open_template(path: Path, texts: Sequence[str] | None = None) -> Template:
    """Read a template of the passages, or of `texts`. Raises InputError for a file that is missing, damaged, or of others."""
    meta, arrays, components = read_result(path, _form(texts))
    try:
        held: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        for part, cls in _PARTS.items():
            own = {
                name.removeprefix(f"{part}/"): array for name, array in arrays.items() if name.startswith(f"{part}/")
            }
            held[part] = cls(**own) if own else None
        held |= {name: meta[name] for name in _SCALARS}
        if components is None:
            raise KeyError("components")
        return Template(components=components, **held)
    except (KeyError, TypeError, AttributeError, InputError, ValueError) as error:
        raise InputError(f"{path} is not a template, or it is damaged ({error}); delete it") from error


def shipped_path() -> Path | None:
    """Where the default model's template lies in the package; None in a zipped package, where it is not used."""
    with as_file(files("nmri3d.template").joinpath("data")) as folder:
        found = sorted(folder.glob("*.npz")) if folder.is_dir() else []
        return found[0] if found else None


def _form(texts: Sequence[str] | None) -> str:
    return f"nmri3d-template-{VERSION}-{text_digest(passages() if texts is None else texts)}"


def _file_name(model: Backend) -> str:
    return f"{model.info.fingerprint[:24]}-{VERSION}-{text_digest(reference_of(model))}.npz"


def _stored(model: Backend) -> Template | None:
    """The template in memory, in the package or in the cache, if it is one of these weights."""
    with _lock:
        if model.info.fingerprint in _memory:
            _memory.move_to_end(model.info.fingerprint)
            return _memory[model.info.fingerprint]
    texts = reference_of(model)
    shipped = None if model.reference() else shipped_path()
    for path in (shipped, cache_folder() / _file_name(model)):
        try:
            template = open_template(path, texts) if path is not None else None
        except InputError:
            continue
        if (
            template is not None
            and template.fingerprint == model.info.fingerprint
            and template.components == model.components
        ):
            _remember(template)
            return template
    return None


def _remember(template: Template) -> None:
    with _lock:
        _memory[template.fingerprint] = template
        while len(_memory) > _REMEMBERED:
            _memory.popitem(last=False)
