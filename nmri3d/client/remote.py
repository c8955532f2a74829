"""A model on a server: the methods of `nmri3d.service.Service`, and results of the same classes, equal to the bit.

    with nmri3d.connect("http://127.0.0.1:8765/?token=…") as model:
        scan = model.scan("fMRI", "The capital of France is")
        comparison = model.perturb("The capital of France is", [nmri3d.Edit("blocks.3.attn.head_7", "zero")])

Convention. Scans, comparisons, heat maps and sweeps come as the files that `save` writes, other arrays by their links, as
bytes. Methods take `progress`, as the local functions do; what it raises withdraws the work on the server. Errors are those
of `nmri3d.errors`, with the server's sentence.

Left out: the page, and token streams as they are written (/ws/stream).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmri3d.client.transport import RESULT_FILE, Transport
from nmri3d.components import ComponentTable
from nmri3d.errors import InputError
from nmri3d.models.backend import ModelInfo, Progress
from nmri3d.results import (
    Comparison,
    Example,
    HeadKinds,
    Heatmap,
    LensTable,
    OwnEffect,
    Prediction,
    Provenance,
    Scan,
    Sweep,
    TopNeuron,
    open_scan,
)

if TYPE_CHECKING:
    from nmri3d.perturbation import Edit

SCAN_PATHS = {"t1": "structural", "t2": "weights", "fmri": "activation", "dti": "circuits", "flair": "anomaly"}


def connect(url: str, token: str | None = None, **options: Any) -> RemoteModel:
    """The model of a running server. `url` is the address that `nmri3d serve` printed; `options` are those of `Transport`.

    Raises InputError for an address that is none, MachineError when nobody answers there, ModelAccessError for a wrong token.
    """
    transport = Transport(url, token, **options)
    try:
        transport.json("GET", "api/model/status")
    except BaseException:
        transport.close()
        raise
    return RemoteModel(transport)


class RemoteModel:
    """What a server has loaded. Made by `connect`; as a context manager it closes its connections at the end."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._tables: dict[str, ComponentTable] = {}

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # -- the model -----------------------------------------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo:
        """What the server has loaded now. Raises ModelError where there is no model."""
        info = self._transport.json("GET", "api/model/info")["info"]
        return ModelInfo(**{**info, "warnings": tuple(info["warnings"])})

    @property
    def components(self) -> ComponentTable:
        """The component table of the loaded model."""
        fingerprint = self.info.fingerprint
        if fingerprint not in self._tables:
            columns = self._transport.json("GET", "api/model/components")
            self._tables = {fingerprint: _table(columns)}
        return self._tables[fingerprint]

    def load(self, name: str, *, progress: Progress | None = None, **options: Any) -> ModelInfo:
        """Let the server load another model; options are device, dtype, revision, backend and hf_token."""
        body = {"model_id": name, **options}
        self._transport.json("POST", "api/model/load", body, progress=progress)
        return self.info

    def unload(self) -> None:
        """Let the server drop its model."""
        self._transport.json("DELETE", "api/model/unload")

    # -- measurements --------------------------------------------------------------------------------------------------

    def scan(self, mode: str, prompt: str | None = None, *, progress: Progress | None = None, **options: Any) -> Scan:
        """One scan; arguments and errors as `nmri3d.scan`."""
        kind = mode.lower() if isinstance(mode, str) else ""
        if kind not in SCAN_PATHS:
            raise InputError(f"there is no scan {mode!r}; the scans are T1, T2, fMRI, DTI, FLAIR")
        if kind in ("fmri", "flair"):
            for ours, theirs in (("layers", "layers"), ("positions", "token_positions")):
                if (chosen := options.pop(ours, None)) is not None:
                    options[theirs] = _integers(chosen)
        body = {**options, **({} if prompt is None else {"prompt": prompt})}
        return open_scan(self._file(f"api/scan/{SCAN_PATHS[kind]}", body, progress))

    def scan_neurons(
        self, mode: str, prompt: str | None = None, *, progress: Progress | None = None, **options: Any
    ) -> Scan:
        """A scan of every MLP neuron, as `nmri3d.scan_neurons`."""
        return open_scan(self._file("api/measure/scan_neurons", {"mode": mode, "prompt": prompt, **options}, progress))

    def perturb(
        self, prompt: str, edits: Sequence[Edit] | Edit, *, k: int = 10, progress: Progress | None = None
    ) -> Comparison:
        """A prompt run with edits against the same prompt without, as `nmri3d.perturb`."""
        records = [edit.as_record() for edit in (edits if isinstance(edits, Sequence) else [edits])]
        return Comparison.open(self._file("api/perturb/stack", {"prompt": prompt, "edits": records, "k": k}, progress))

    def trace(
        self, clean: str, corrupt: str | None = None, *, progress: Progress | None = None, **options: Any
    ) -> Heatmap:
        """Causal tracing, as `nmri3d.trace`."""
        return Heatmap.open(self._file("api/measure/trace", _trace_body(clean, corrupt, options), progress))

    def estimate_trace(self, clean: str, corrupt: str | None = None, **options: Any) -> float:
        """Seconds that the same trace would take there."""
        body = _trace_body(clean, corrupt, options)
        return float(self._transport.json("POST", "api/measure/trace/estimate", body)["seconds"])

    def ablate_all(self, prompt: str, *, progress: Progress | None = None, **options: Any) -> Sweep:
        """Every component replaced by itself, as `nmri3d.ablate_all`."""
        return Sweep.open(self._file("api/measure/sweep", _lists({"prompt": prompt, **options}), progress))

    def estimate_ablate_all(self, prompt: str, **options: Any) -> float:
        """Seconds that the same sweep would take there."""
        body = _lists({"prompt": prompt, **options})
        return float(self._transport.json("POST", "api/measure/sweep/estimate", body)["seconds"])

    def verify_edge(
        self,
        prompt: str,
        source: str,
        target: str,
        slot: str,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> float:
        """What one edge carries, by path patching, as `nmri3d.verify_edge`."""
        body = {"prompt": prompt, "source": source, "target": target, "slot": slot, **options}
        return float(self._transport.json("POST", "api/measure/edge", body, progress=progress)["effect"])

    def predict(self, prompt: str, *, k: int = 5) -> list[Prediction]:
        """The k likeliest next tokens, likeliest first."""
        found = self._transport.json("POST", "api/measure/predict", {"prompt": prompt, "k": k})
        return [_prediction(one) for one in found["predictions"]]

    def top_neurons(self, prompt: str, layer: int, position: int = -1, k: int = 10) -> list[TopNeuron]:
        """The k neurons of one MLP with the largest |activation| at one position, largest first."""
        body = {"prompt": prompt, "layer": layer, "position": position, "k": k}
        found = self._transport.json("POST", "api/measure/neurons", body)
        return [TopNeuron(one["id"], one["idx"], one["activation"]) for one in found["neurons"]]

    def attention(self, prompt: str, layer: int) -> np.ndarray:
        """Attention pattern of every head of a layer, float32 [heads, query, key]."""
        found = self._transport.json("POST", "api/measure/attention", {"prompt": prompt, "layer": layer})
        return self._array(found["patterns"])

    def logit_lens(self, prompt: str, *, k: int = 5, progress: Progress | None = None) -> LensTable:
        """The likeliest tokens that each layer's residual stands for, at each position."""
        found = self._transport.json("POST", "api/measure/lens", {"prompt": prompt, "k": k}, progress=progress)
        ids = self._array(found["token_ids"])
        texts = np.array([found["texts"][str(token)] for token in ids.ravel().tolist()]).reshape(ids.shape)
        return LensTable(
            tokens=tuple(found["tokens"]),
            labels=tuple(found["labels"]),
            sites=tuple(found["sites"]),
            layers=np.array(found["layers"], dtype=np.int64),
            token_ids=ids,
            texts=texts,
            probabilities=self._array(found["probabilities"]),
            kl=self._array(found["kl"]),
            entropy=self._array(found["entropy"]),
        )

    def own_effect(self, prompt: str, component: str, *, progress: Progress | None = None) -> OwnEffect:
        """What one component by itself does to the logit lens at its point."""
        body = {"prompt": prompt, "component": component}
        found = self._transport.json("POST", "api/measure/own_effect", body, progress=progress)
        arrays = {name: self._array(found[name]) for name in ("change", "toward_final", "entropy_change")}
        return OwnEffect(found["component"], found["layer"], found["site"], tuple(found["tokens"]), **arrays)

    def head_kinds(self, *, progress: Progress | None = None) -> HeadKinds:
        """Previous-token, duplicate-token and induction scores of every head."""
        found = self._transport.json("GET", "api/measure/head_kinds", progress=progress)
        table, heads = self.components, found["heads"]
        scores = {
            name: np.array([head[name] for head in heads], dtype=np.float32)
            for name in ("previous", "duplicate", "induction")
        }
        rows = np.array([table.row(head["id"]) for head in heads], dtype=np.int64)
        return HeadKinds(rows, **scores, components=table, seed=found["seed"], length=found["length"])

    def moving_passages(self, component: str, *, k: int = 5, progress: Progress | None = None) -> list[Example]:
        """The passages of the reference text that move a component most."""
        body = {"component": component, "k": k}
        found = self._transport.json("POST", "api/measure/passages", body, progress=progress)
        return [
            Example(**{**one, "ratio": float("nan") if one["ratio"] is None else one["ratio"]})
            for one in found["passages"]
        ]

    def generate(
        self,
        prompt: str,
        n_tokens: int = 20,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> tuple[list[Prediction], Scan]:
        """Let the model write: the new tokens, and the fMRI scan of the whole text (its values; no details)."""
        body = {"prompt": prompt, "n_tokens": n_tokens, "temperature": float(temperature), "seed": seed}
        found = self._transport.json("POST", "api/generate", body, progress=progress)
        scan = Scan(
            mode="fMRI",
            values=self._array(found["values"]),
            units=found["units"],
            components=self.components,
            tokens=tuple(found["tokens"]),
            provenance=Provenance(**found["metadata"]["provenance"]),
        )
        return [_prediction(one) for one in found["written"]], scan

    # -- maps and files ------------------------------------------------------------------------------------------------

    def map(
        self, *, progress: Progress | None = None, **choices: str
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """The model on the cortex: arrays by name (vertices, faces, face_component, …) and quality figures by name.

        choices  layout, area, features, surface, as `nmri3d.Atlas.build` has them
        """
        found = self._transport.json("GET", "api/map", query=choices, progress=progress)
        links = {name: value for name, value in found.items() if isinstance(value, dict) and "data_url" in value}
        quality = {name: float("nan") if value is None else value for name, value in found["quality"].items()}
        return {name: self._array(link) for name, link in links.items()}, quality

    def export(self, path: str | Path, *, progress: Progress | None = None, **wish: Any) -> Path:
        """Write a picture, movie or 3D file that the server makes; returns the path.

        path  its suffix says what: .png, .mp4, .gif, .glb, .html, or .zip for a .vtm with its folder
        wish  mode, prompt, options, step, layout, area, features, form, view, size, title
        """
        target = Path(path)
        suffix = {".zip": "vtm"}.get(target.suffix.lower(), target.suffix.lower().lstrip("."))
        answer = self._transport.request(
            "POST", "api/export", _lists({**wish, "format": suffix}), accept="*/*", progress=progress
        )
        target.write_bytes(answer.content)
        return target

    # -- sessions ------------------------------------------------------------------------------------------------------

    @contextmanager
    def session(self, title: str = "", session_id: str | None = None) -> Iterator[str]:
        """Record what is asked meanwhile, in a new session or in one that is there; gives its id."""
        if session_id is None:
            session_id = str(self._transport.json("POST", "api/sessions", {"title": title})["id"])
        before, self._transport.session = self._transport.session, session_id
        try:
            yield session_id
        finally:
            self._transport.session = before

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions of the server, the last changed first."""
        found: list[dict[str, Any]] = self._transport.json("GET", "api/sessions")["sessions"]
        return found

    def export_session(self, session_id: str, path: str | Path) -> Path:
        """Write a session to one zip file; returns the path."""
        answer = self._transport.request("GET", f"api/sessions/{session_id}/export", accept="*/*")
        Path(path).write_bytes(answer.content)
        return Path(path)

    def import_session(self, path: str | Path) -> str:
        """Give the server a session that was exported; returns its new id."""
        return str(self._transport.json("POST", "api/sessions/import", content=Path(path).read_bytes())["id"])

    # -- how answers are read ------------------------------------------------------------------------------------------

    def _file(self, path: str, body: Mapping[str, Any], progress: Progress | None) -> bytes:
        """A result as the file that `save` writes."""
        return self._transport.request("POST", path, _lists(body), accept=RESULT_FILE, progress=progress).content

    def _array(self, link: Mapping[str, Any]) -> np.ndarray:
        """The array behind a link."""
        answer = self._transport.request("GET", link["data_url"], query={"format": "npy"}, accept="*/*")
        return np.load(io.BytesIO(answer.content), allow_pickle=False)


def _table(columns: Mapping[str, Any]) -> ComponentTable:
    return ComponentTable(
        kind=np.array(columns["kind"]),
        layer=np.array(columns["layer"], dtype=np.int32),
        index=np.array(columns["index"], dtype=np.int32),
        n_params=np.array(columns["n_params"], dtype=np.int64),
    )


def _prediction(one: Mapping[str, Any]) -> Prediction:
    return Prediction(one["token"], one["token_id"], one["prob"], one["logit"])


def _trace_body(clean: str, corrupt: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    return _lists({"clean": clean, "corrupt": corrupt, **options})


def _lists(body: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON has them: tuples, ranges and arrays as lists, numpy's numbers as Python's."""
    return {name: _plain(value) for name, value in body.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _lists(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    return value


def _integers(chosen: Any) -> list[int]:
    """Layers or positions as a list. Raises InputError for anything else."""
    if isinstance(chosen, str | bytes) or not hasattr(chosen, "__iter__"):
        raise InputError(f"layers and positions are lists of whole numbers, or None for all; got {chosen!r}")
    return [_plain(one) for one in chosen]
