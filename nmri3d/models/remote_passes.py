"""Passes that run on NDIF: what is tapped is read there, acted on here, and what was edited is sent back.

Convention. A request names the model and the places to read; it carries tokens and tensors, and none of our code. Taps act
on this machine on what came back, in the order in which the model passed their places. An edit needs the value that passes
its place, and what comes after depends on it, so each place that is edited costs one more request, in which the edited
values are put in as they are. A pass without edits is one request.

The key is the environment variable NDIF_API_KEY, or what nnsight's own configuration holds; it is looked up for each request
and kept nowhere. The host is nnsight's (NDIF_HOST). nnsight reads an answer with `torch.load`, which is pickle: whoever
answers at that host is trusted.

Left out: taps of arguments (they hold objects of this machine) and gradients.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from torch import nn

from nmri3d.errors import InputError, MachineError, ModelAccessError, ModelError, Nmri3dError
from nmri3d.models.backend import Progress, no_progress
from nmri3d.models.nnsight_passes import import_nnsight
from nmri3d.models.passes import Tap

Place = tuple[str, str]
"""Path of a module in the Hugging Face model ("" for the whole), and "input" or "output"."""

KEY_PAGE = "https://login.ndif.us"


class RemotePasses:
    """Passes of a model that NDIF holds. `progress` is told what NDIF says while a request is under way."""

    def __init__(self, model: Any, model_key: str) -> None:
        self.model = model
        self.model_key = model_key
        self.progress: Progress = no_progress
        self._paths = {module: name for name, module in model._module.named_modules()}

    def run(self, module: nn.Module, arguments: Mapping[str, Any], taps: Sequence[Tap]) -> None:
        """A pass of the whole model; `module` need not be all of it, since logits that nobody reads stay there."""
        waiting: dict[Place, list[Tap]] = {}
        for tap in taps:
            if tap.place == "arguments":
                raise InputError(
                    "what a module is given besides hidden states stays on NDIF; load the model here instead"
                )
            waiting.setdefault((self._paths[tap.module], tap.place), []).append(tap)
        arguments = {"logits_to_keep": 1, **arguments}
        edited: dict[Place, torch.Tensor] = {}
        while waiting:
            for place, value in self._read(arguments, list(waiting), edited):
                result = _acted(place, value, waiting.pop(place))
                if result is not None:
                    edited[place] = result
                    break  # what came after was read without this edit
            else:
                if waiting:
                    missing = ", ".join(f"{path} ({side})" for path, side in waiting)
                    raise ModelError(
                        f"NDIF's model did not pass {missing}; its transformers may differ from the one here"
                    )

    def _read(
        self, arguments: Mapping[str, Any], wanted: list[Place], edited: Mapping[Place, torch.Tensor]
    ) -> list[tuple[Place, Any]]:
        """What passes the wanted places, in the order of the pass, with edited values put in."""
        nnsight = import_nnsight()
        save, model = nnsight.save, self.model
        places = list(dict.fromkeys([*edited, *wanted]))
        backend = self._backend()
        passed: list[tuple[Place, Any]] = []
        try:
            with model.trace(backend=backend) as tracer:
                passed = save([])
                with tracer.invoke(**arguments):
                    pass
                for place in places:
                    with tracer.invoke():
                        path, side = place
                        envoy = model.get(path) if path else model
                        if side == "input":
                            args, kwargs = envoy.inputs
                            value = args[0] if args else kwargs["hidden_states"]
                        else:
                            value = envoy.output
                        if place in edited:
                            value = edited[place].to(value)
                            if side == "output":
                                envoy.output = value
                            elif args:
                                envoy.inputs = ((value, *args[1:]), kwargs)
                            else:
                                envoy.inputs = (args, {**kwargs, "hidden_states": value})
                        else:
                            value = value.logits if path == "" else value
                            parts = value if isinstance(value, tuple) else (value,)
                            kept = tuple(None if part is None else part.detach().cpu() for part in parts[:2])
                            passed.append((place, kept if isinstance(value, tuple) else kept[0]))
        except Exception as error:
            _explain(error, backend)
        return [(tuple(place), value) for place, value in passed]  # type: ignore[misc]

    def fetch(self, modules: Sequence[nn.Module]) -> None:
        """Give modules that have no weights here (on the meta device) theirs."""
        paths = [self._paths[module] for module in modules if any(weight.is_meta for weight in module.parameters())]
        if not paths:
            return
        nnsight = import_nnsight()
        save, model = nnsight.save, self.model
        backend = self._backend()
        weights: dict[str, dict[str, torch.Tensor]] = {}
        try:
            with model.session(backend=backend):
                weights = save({})
                for path in paths:
                    named = model.get(path).named_parameters()
                    weights[path] = {name: weight.detach().cpu() for name, weight in named}
        except Exception as error:
            _explain(error, backend)
        for path, named in weights.items():
            for name, weight in named.items():
                owner, _, leaf = name.rpartition(".")
                module = self.model._module.get_submodule(f"{path}.{owner}".rstrip("."))
                module.register_parameter(leaf, nn.Parameter(weight, requires_grad=False))

    def gradients(self, value: torch.Tensor, tensors: Sequence[torch.Tensor]) -> NoReturn:
        """Refused: a metric of ours cannot run there."""
        raise InputError("gradients need the model on this machine; load it without remote=True")

    def _backend(self) -> Any:
        from nnsight.intervention.backends.remote import RemoteBackend

        environment = {"attn_implementation": self.model.attn_implementation}
        backend = RemoteBackend(self.model_key, api_key=api_key(), env=environment)
        backend.display, backend.verbose = _Reported(self.progress), False  # nothing is printed
        return backend


def api_key() -> str:
    """The key for NDIF. Raises ModelAccessError where there is none."""
    import_nnsight()
    from nnsight.schema.config import CONFIG

    key = os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY
    if not key:
        raise ModelAccessError(
            f"NDIF runs models for accounts only; get a key at {KEY_PAGE} and set the environment variable NDIF_API_KEY"
        )
    return key


def _acted(place: Place, value: Any, taps: list[Tap]) -> torch.Tensor | None:
    """What taps of one place make of a value that came back; None where none changed it."""
    passing = SimpleNamespace(logits=value) if place[0] == "" else value
    changed = None
    for tap in taps:
        result = tap.act(passing if changed is None else changed)
        changed = changed if result is None else result
    return changed


class _Reported:
    """Stands in for nnsight's status line: what NDIF says goes to our progress, which may withdraw the request."""

    enabled = True

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._said = "waiting for NDIF"

    def update(self, response: Any) -> None:
        self._said = f"NDIF: {response.status.value.lower()} {response.description}".strip()
        self.refresh()

    def refresh(self) -> None:
        """Called ten times a second while an answer is awaited."""
        self._progress(0.5, self._said)


def _explain(error: Exception, backend: Any) -> NoReturn:
    """Raise what a person is told, without the key."""
    if isinstance(error, Nmri3dError):
        raise error
    import httpx
    import websocket
    from nnsight.intervention.backends.remote import RemoteError

    said = " ".join(str(error).split()).replace(backend.api_key, "***")[:300]
    cause = error.__cause__
    status = getattr(error, "status_code", None) or getattr(getattr(cause, "response", None), "status_code", None)
    if status in (401, 403):
        explained: Nmri3dError = ModelAccessError(
            f"NDIF refused the key (HTTP {status}: {said}); get a valid one at {KEY_PAGE} and set NDIF_API_KEY"
        )
    elif isinstance(error, OSError | websocket.WebSocketException) or isinstance(cause, httpx.TransportError):
        explained = MachineError(f"NDIF at {backend.host} cannot be reached ({said}); check the network, or NDIF_HOST")
    elif isinstance(error, RemoteError):
        explained = ModelError(f"NDIF did not run the request: {said}; `nnsight.status()` lists the models that are up")
    else:
        raise error
    # the original may hold the key among its request headers
    raise explained from None
