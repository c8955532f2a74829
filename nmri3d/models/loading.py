"""Loading a checkpoint: from a name to a Hugging Face model in memory, ready to be read.

Convention. Weights are loaded as they are (no folding, no centering), in eval mode, without gradients on parameters,
with eager attention (so that patterns can be read). On the CPU the default is float32 whatever the file holds, because
half precision is slow there and rounds; on a GPU the default is the checkpoint's own type. Weights come from safetensors
or GGUF, never from pickle. Everything that can be refused without reading weights is refused first (`preflight`).

Left out: running the model and checking that its components add up (`transformer`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

from nmri3d.errors import InputError, ModelNotFoundError, ModelTooLargeError, UnsupportedModelError
from nmri3d.models import budget, devices, huggingface, preflight
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.devices import DTYPES
from nmri3d.models.locate import locate
from nmri3d.models.progress import part

BACKENDS = ("auto", "transformer_lens", "nnsight")
PHANTOM_GROUP = "nmri3d.phantoms"
"""Entry points of this group are callables `(*, device, progress) -> Backend`, named as what stands after "phantom:"."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A Hugging Face model in memory, in eval mode, with eager attention and no gradients on its parameters.

    model_id  what `load` takes to get it again: "smollm2-135m", a hub id, or an absolute path
    title     a short name for people
    source    where the weights came from, in words
    warnings  what a user should know
    device    torch device, such as "cpu" or "cuda"
    dtype     "float32", "float16" or "bfloat16"
    """

    hf_model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    model_id: str
    title: str
    source: str
    warnings: tuple[str, ...]
    device: str
    dtype: str


def load(
    name: str | os.PathLike[str] = "smollm2-135m",
    *,
    backend: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    remote: bool = False,
    progress: Progress = no_progress,
) -> Backend:
    """Load a model, check it, and return what the scans run on.

    name     "smollm2-135m" (always the same hash-pinned weights, never asked from the hub), a Hugging Face id, a folder,
             a .gguf file, or "phantom:<name>"
    backend  "auto" (TransformerLens, and nnsight for an architecture that it has no adapter for), "transformer_lens" or
             "nnsight"
    remote   run the passes on NDIF (https://ndif.us) and load no weights, with backend "nnsight" or "auto"; the key is the
             environment variable NDIF_API_KEY, or nnsight's own configuration. What then can be measured is told in
             `nmri3d.models.remote`
    device   "auto" (cuda, else mps, else cpu), or a torch device; a GPU without room falls back to the CPU with a warning
    dtype    "auto" (float32 on the CPU, the checkpoint's own on a GPU), "float32", "float16" or "bfloat16"
    token    Hugging Face token for gated models; by default HF_TOKEN, or the one that `hf auth login` stored

    Raises InputError for an argument that cannot be, and the subclasses of ModelError for a model that cannot be used.
    """
    if backend not in BACKENDS:
        raise InputError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if remote:
        from nmri3d.models.remote import load_remote

        if backend == "transformer_lens" or (device, dtype) != ("auto", "auto") or trust_remote_code:
            raise InputError(
                "a remote model runs through nnsight, where and as NDIF keeps it; leave out backend, device, dtype and "
                "trust_remote_code, or load it here without remote=True"
            )
        return load_remote(name, revision=revision, token=token, progress=progress)
    if isinstance(name, str) and name.startswith("phantom:"):
        return _load_phantom(name.removeprefix("phantom:"), device=device, progress=progress)
    checkpoint = load_checkpoint(
        name,
        backend=backend,
        device=device,
        dtype=dtype,
        revision=revision,
        token=token,
        trust_remote_code=trust_remote_code,
        progress=part(progress, 0.0, 0.8),
    )
    return open_checkpoint(checkpoint, backend, progress=part(progress, 0.8, 1.0))


def open_checkpoint(checkpoint: Checkpoint, backend: str = "auto", *, progress: Progress = no_progress) -> Backend:
    """The backend for a loaded checkpoint; a model that does not pass its checks is refused (UnsupportedModelError)."""
    from nmri3d.models.adapter_facts import module_paths

    if backend != "nnsight":
        try:
            module_paths(checkpoint.hf_model)
        except UnsupportedModelError:
            if backend == "transformer_lens":
                raise
            note = (
                f"TransformerLens has no adapter for {type(checkpoint.hf_model).__name__}, so nnsight runs it; its parts were "
                "found by watching a pass, and checked"
            )
            checkpoint = replace(checkpoint, warnings=(*checkpoint.warnings, note))
            backend = "nnsight"
    if backend == "nnsight":
        from nmri3d.models.nnsight_backend import NnsightBackend

        return NnsightBackend(checkpoint, progress=progress)
    from nmri3d.models.transformer_lens import TransformerLensBackend

    return TransformerLensBackend(checkpoint, progress=progress)


def load_checkpoint(
    name: str | os.PathLike[str],
    *,
    backend: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress = no_progress,
) -> Checkpoint:
    """Load model and tokenizer into memory; arguments and errors as in `load`."""
    if dtype != "auto" and dtype not in DTYPES:
        raise InputError(f"there is no dtype {dtype!r}; choose auto, {', '.join(DTYPES)}")
    progress(0.0, "starting torch")  # an import of seconds, the first time
    wanted = devices.choose(device)

    def place(title: str, n_params: int, stored: str) -> _Place:
        return _choose_place(title, n_params, stored, wanted, dtype)

    location = locate(
        name,
        revision=revision,
        token=token,
        trust_remote_code=trust_remote_code,
        check_size=place,
        progress=part(progress, 0.0, 0.6),
    )
    progress(0.6, f"starting transformers and checking {location.title}")
    facts = preflight.inspect(location.folder, location.gguf, trust_remote_code=trust_remote_code)
    if backend == "transformer_lens":
        preflight.require_adapter(facts.architecture)
    size = (location.title, facts.n_params, facts.dtype)
    chosen = place(*size)

    with huggingface.quiet(part(progress, 0.65, 0.95), f"loading {location.title}", bars=2 if location.gguf else 1):
        tokenizer = huggingface.load_tokenizer(location, trust_remote_code=trust_remote_code)
        model = None
        try:
            model = huggingface.load_model(location, chosen.device, chosen.dtype, trust_remote_code=trust_remote_code)
        except devices.OutOfMemory as error:
            if chosen.device == "cpu":
                raise ModelTooLargeError(
                    budget.too_large(location.title, facts.n_params, chosen.dtype, "cpu")
                ) from error
        # outside of `except`, because the traceback would keep the half-loaded model alive
        if model is None:
            devices.empty_cache()
            chosen = _fall_back(*size, dtype, f"{chosen.device} ran out of memory")
            model = huggingface.load_model(location, chosen.device, chosen.dtype, trust_remote_code=trust_remote_code)
    progress(0.96, f"checking the weights of {location.title}")
    huggingface.check_finite(model, location.title)
    warnings = [*location.warnings, *([chosen.warning] if chosen.warning else [])]
    if facts.quantized:
        warnings.append(f"the weights were quantized ({facts.quantized}); what is scanned are the de-quantized weights")
    progress(1.0, f"{location.title} is loaded")
    return Checkpoint(
        hf_model=model.requires_grad_(False),
        tokenizer=tokenizer,
        model_id=location.model_id,
        title=location.title,
        source=location.source,
        warnings=tuple(warnings),
        device=chosen.device,
        dtype=chosen.dtype,
    )


@dataclass(frozen=True)
class _Place:
    """Device and dtype in which a model fits, and a warning where that is not the device that was wanted."""

    device: str
    dtype: str
    warning: str = ""


def _choose_place(title: str, n_params: int, stored: str, device: str, dtype: str) -> _Place:
    """Where a model goes. Raises ModelTooLargeError where it fits nowhere."""
    target = devices.choose_dtype(device, dtype, stored)
    if device != "cpu":
        needed, free = budget.bytes_needed(n_params, target), budget.free_bytes(device)
        if needed > free:
            sizes = f"{device} has {budget.human_bytes(free)} free of the {budget.human_bytes(needed)} needed"
            return _fall_back(title, n_params, stored, dtype, sizes)
    budget.check_fits(title, n_params, target, device)
    return _Place(device, target)


def _fall_back(title: str, n_params: int, stored: str, dtype: str, reason: str) -> _Place:
    """The CPU, with the warning that says so."""
    target = devices.choose_dtype("cpu", dtype, stored)
    budget.check_fits(title, n_params, target, "cpu")
    return _Place("cpu", target, f"{title} runs on the CPU, which is slower: {reason}")


def _load_phantom(name: str, *, device: str, progress: Progress) -> Backend:
    """A network that a package registered under the entry point group; never part of `nmri3d.models` itself."""
    from importlib.metadata import entry_points

    known = {point.name: point for point in entry_points(group=PHANTOM_GROUP)}
    if name not in known:
        have = f"choose one of {', '.join(sorted(known))}" if known else "no phantoms are installed"
        raise ModelNotFoundError(f"there is no phantom {name!r}; {have}")
    return known[name].load()(device=device, progress=progress)
