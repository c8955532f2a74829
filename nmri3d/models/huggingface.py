"""transformers, as this package uses it: quietly, offline, from a folder, without pickle, and with clear errors.

Convention. Nothing here touches the network: files are on disk when these functions are called. Weights that a checkpoint
lacks are an error (transformers would draw them at random), and so are NaN and infinite ones.

Left out: finding the files (`locate`), refusing a checkpoint early (`preflight`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nmri3d.errors import ModelFormatError, Nmri3dError, UnsupportedModelError
from nmri3d.models.backend import Progress
from nmri3d.models.devices import OutOfMemory, is_out_of_memory
from nmri3d.models.progress import ReportingBar, part

if TYPE_CHECKING:
    from nmri3d.models.location import Location

_LOCK = threading.RLock()
"""transformers keeps bars and verbosity in module globals, so that only one thread may load at a time."""


@contextmanager
def quiet(progress: Progress, what: str, *, bars: int = 1) -> Iterator[None]:
    """Silence transformers while the body runs; its loading bars drive `progress` with the words `what`.

    bars is how many of them follow each other (a GGUF file has two: unpacking, and loading). A `progress` that raises ends
    the loading with what it raised.
    """
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    seen = 0

    def reporting(factory: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> ReportingBar:
        nonlocal seen
        start, stop = min(seen, bars - 1) / bars, min(seen + 1, bars) / bars
        seen += 1
        iterable = arguments[0] if arguments else options.get("iterable", ())
        return ReportingBar(part(progress, start, stop), what, iterable, options.get("total"))

    with _LOCK:
        verbosity = logging.get_verbosity()
        hook = logging.set_tqdm_hook(reporting)
        # the GGUF reader for older architectures uses tqdm itself, past the hook
        bar = getattr(modeling_gguf_pytorch_utils, "tqdm", None)
        if bar is not None:
            modeling_gguf_pytorch_utils.tqdm = lambda *a, **k: reporting(None, a, k)
        logging.set_verbosity(logging.CRITICAL)
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            logging.set_tqdm_hook(hook)
            if bar is not None:
                modeling_gguf_pytorch_utils.tqdm = bar


def load_tokenizer(location: Location, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a checkpoint. Raises ModelFormatError where it cannot be built."""
    from transformers import AutoTokenizer

    options = {"gguf_file": location.gguf} if location.gguf else {}
    try:
        return AutoTokenizer.from_pretrained(
            location.folder, local_files_only=True, trust_remote_code=trust_remote_code, **options
        )
    except Exception as error:
        if "trust_remote_code" in str(error) and not trust_remote_code:
            raise UnsupportedModelError(
                f"the tokenizer in {location.folder} runs only with Python code that comes with it; read that code, and if "
                "you trust it, load with trust_remote_code=True"
            ) from error
        raise ModelFormatError(
            f"the tokenizer in {location.folder} cannot be read ({_first_line(error)}); save it again with "
            "tokenizer.save_pretrained, or download the model again"
        ) from error


def load_model(location: Location, device: str, dtype: str, *, trust_remote_code: bool) -> Any:
    """The model of a checkpoint on `device`, in eval mode, with eager attention.

    Raises OutOfMemory, and ModelFormatError where the files do not hold what the configuration asks for.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    options: dict[str, Any] = {}
    if location.gguf:
        # without this, transformers may keep the blocks packed, in layers that no scan could read
        options = {"gguf_file": location.gguf, "quantization_config": GgufConfig(dequantize=True)}
    if device != "cpu":
        options["device_map"] = {"": device}
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            location.folder,
            dtype=getattr(torch, dtype),
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **options,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(str(error)) from error
        if isinstance(error, Nmri3dError):  # a progress that withdraws the load
            raise
        raise ModelFormatError(
            f"{location.title} cannot be loaded from {location.folder}: {_first_line(error)}; download or save it again"
        ) from error
    for key, words in (
        ("missing_keys", "are missing"),
        ("mismatched_keys", "have another shape than config.json says"),
    ):
        names = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in found.get(key) or ())
        if names:
            raise ModelFormatError(
                f"the weights of {location.title} do not fit its config.json: {len(names)} {words}, first {names[0]}; "
                "download or save the model again"
            )
    return model.eval()


def check_finite(model: Any, title: str) -> None:
    """Raise ModelFormatError, naming the tensor, where a weight is NaN or infinite."""
    import torch

    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        # one quick pass: a sum is finite unless a term is not, or unless it overflows; only then look closely
        if torch.isfinite(tensor.sum(dtype=torch.float32)):
            continue
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise ModelFormatError(
                f"{title} holds {bad:,} NaN or infinite weights in {name}, so no scan of it would mean anything; "
                "download or save the model again"
            )


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text[:240] + " …") if len(text) > 240 else text or type(error).__name__
