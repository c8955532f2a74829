"""The phantoms by name: where their module, their recipe and their weights are.

Convention. Weights lie in `assets/phantoms/<name>/weights.safetensors`, their figures and settings in `metrics.json` beside
them; in an installed package the same folder is `nmri3d/phantoms/assets`. Nothing heavy is imported before a phantom is
asked for.

Left out: how a phantom becomes a backend (`nmri3d.phantoms.backend`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmri3d.errors import ModelFormatError, ModelNotFoundError
from nmri3d.files import written_whole

if TYPE_CHECKING:
    from nmri3d.phantoms.phantom import Phantom
    from nmri3d.phantoms.training import Figures, Recipe


@dataclass(frozen=True)
class Entry:
    """A phantom's package, and the name of its module class in `model.py`; its recipe is `training.RECIPE`.

    title, about  as a menu shows them, before anything heavy is imported
    """

    package: str
    module: str
    title: str
    about: str


PHANTOMS = {
    "sprout": Entry(
        "nmri3d.phantoms.sprout",
        "Sprout",
        "SPROUT",
        "a sparse code of 4,096 neurons that refines what it read of a grammar",
    ),
    "biohama": Entry(
        "nmri3d.phantoms.biohama",
        "BioHama",
        "BioHama",
        "a router, memories and attention modules that solve composed tasks",
    ),
    "world-model": Entry(
        "nmri3d.phantoms.world_model",
        "WorldModel",
        "World model",
        "four levels, from token to discourse, that follow a story",
    ),
    "cerebellum": Entry(
        "nmri3d.phantoms.cerebellum",
        "Cerebellum",
        "Cerebellum",
        "a controller that learns to correct a plant, and its memory",
    ),
    "induction": Entry(
        "nmri3d.phantoms.induction", "Induction", "Induction", "two layers of attention that copy what followed before"
    ),
}

_HERE = Path(__file__).resolve().parent


def phantom_class(name: str) -> type[Phantom]:
    """The module class of a phantom; built as `cls(config)` with the defaults of its `Config`."""
    entry = _entry(name)
    return getattr(import_module(f"{entry.package}.model"), entry.module)


def shipped_names() -> tuple[str, ...]:
    """Names of the phantoms whose trained weights are here."""
    return tuple(name for name in PHANTOMS if (folder_of(name) / "weights.safetensors").is_file())


def recipe_of(name: str) -> Recipe:
    """How a phantom is trained. Raises ModelNotFoundError for a name that is none."""
    return import_module(f"{_entry(name).package}.training").RECIPE


def folder_of(name: str) -> Path:
    """Where the weights and figures of a phantom are kept."""
    _entry(name)
    installed = _HERE / "assets"
    assets = installed if installed.is_dir() else _HERE.parents[1] / "assets" / "phantoms"
    return assets / name


def shipped(name: str) -> Phantom:
    """The trained network, on the CPU.

    Raises ModelNotFoundError for a name that is none or has no weights, ModelFormatError for weights of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = folder_of(name)
    if not (folder / "weights.safetensors").is_file():
        raise ModelNotFoundError(
            f"phantom {name!r} has no trained weights in {folder}; train it with: nmri3d phantom train {name}"
        )
    try:
        phantom = untrained(name, json.loads((folder / "metrics.json").read_text())["settings"])
        phantom.load_state_dict(load_file(folder / "weights.safetensors"))
    except (RuntimeError, TypeError, KeyError, OSError, ValueError, SafetensorError) as error:
        raise ModelFormatError(
            f"the weights in {folder} are damaged or belong to another version of phantom {name!r}; train it again with: "
            f"nmri3d phantom train {name}"
        ) from error
    return phantom.eval().requires_grad_(False)


def untrained(name: str, settings: dict[str, Any] | None = None) -> Phantom:
    """A network with fresh weights from torch's random state; default configuration where no settings are given."""
    cls = phantom_class(name)
    config = import_module(cls.__module__).Config
    return cls(config(**(settings or {})))


def keep(name: str, phantom: Phantom, figures: Figures, folder: Path | None = None) -> Path:
    """Write weights, settings and figures; returns the folder, by default the one that `shipped` reads."""
    from safetensors.torch import save

    from nmri3d.phantoms.training import write_figures

    folder = folder_of(name) if folder is None else folder
    with written_whole(folder / "weights.safetensors") as file:
        file.write(save({key: value.contiguous() for key, value in phantom.state_dict().items()}))
    count = sum(parameter.numel() for parameter in phantom.parameters())
    write_figures(
        folder / "metrics.json", {"settings": phantom.settings(), "parameters": count, "figures": dict(figures)}
    )
    return folder


def load_phantom(name: str, *, device: str = "auto", progress: Any = None) -> Any:
    """The backend of a shipped phantom; see `nmri3d.phantoms.backend`."""
    from nmri3d.models.backend import no_progress
    from nmri3d.phantoms.backend import open_phantom

    return open_phantom(name, device=device, progress=progress or no_progress)


# what the entry points name: `nmri3d.load("phantom:…")` finds them there
sprout = partial(load_phantom, "sprout")
biohama = partial(load_phantom, "biohama")
world_model = partial(load_phantom, "world-model")
cerebellum = partial(load_phantom, "cerebellum")
induction = partial(load_phantom, "induction")


def _entry(name: str) -> Entry:
    if name not in PHANTOMS:
        raise ModelNotFoundError(f"there is no phantom {name!r}; choose one of {', '.join(PHANTOMS)}")
    return PHANTOMS[name]
