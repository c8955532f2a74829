"""Models that run on NDIF, the National Deep Inference Fabric (https://ndif.us): too large for this machine, or not ours.

Only the configuration and the tokenizer are fetched; the model is built here without weights, and its passes are requests
(`nmri3d.models.remote_passes`). What can be measured then:

    T1, fMRI (components and neurons), attention patterns, perturbations: by passes; the first that needs the writes of heads
    fetches the attention output projections and checks completeness, as a load does elsewhere
    FLAIR and the logit lens: the final norm and the unembedding are fetched at the first use, and the lens is checked

What needs all weights or gradients here is refused in words: T2, layouts by weights, DTI, sweeps and causal traces (one
request a component or cell would be thousands).

The fingerprint names model and revision: the weights cannot be hashed from here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

import torch

from nmri3d.errors import InputError, ModelError, ModelNotFoundError
from nmri3d.models import huggingface, preflight
from nmri3d.models.backend import Progress, Reducer, Reduction, Run, SiteEdit, Stimulus, no_progress
from nmri3d.models.discovery import module_paths
from nmri3d.models.hub_errors import explain
from nmri3d.models.load_checks import require_complete, require_lens
from nmri3d.models.loading import Checkpoint
from nmri3d.models.location import Location
from nmri3d.models.nnsight_passes import import_nnsight
from nmri3d.models.remote_passes import RemotePasses, api_key
from nmri3d.models.transformer import Transformer
from nmri3d.models.writes import TransformerWritePlan, output_weights

_DESCRIPTIONS = ("*.json", "tokenizer.model", "spiece.model", "vocab.txt", "merges.txt", "chat_template.jinja")


def load_remote(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: Progress = no_progress,
) -> RemoteBackend:
    """A model of the Hugging Face hub, run by NDIF. No request is sent yet, but the key is looked for.

    Raises InputError for what is no hub id, ModelAccessError without a key, and what loading raises for a model that is not
    found or whose architecture is not known.
    """
    if not isinstance(name, str) or name.count("/") != 1 or os.path.exists(name):
        raise InputError(
            f"NDIF runs models of the Hugging Face hub, named like 'meta-llama/Llama-3.1-8B'; got {name!r}"
        )
    api_key()
    import_nnsight()
    from nnsight.modeling.transformers import TransformersModel
    from transformers import AutoConfig

    progress(0.0, f"asking the hub for {name}")
    location = _described(name, revision, token)
    preflight.check_description(location.folder, trust_remote_code=False)
    explained = None
    with huggingface.quiet(progress, f"building {name} without weights"):
        tokenizer = huggingface.load_tokenizer(location, trust_remote_code=False)
        config = AutoConfig.from_pretrained(location.folder, local_files_only=True)
        model = TransformersModel(
            name,
            revision=revision,
            task="text-generation",
            config=config,
            tokenizer=tokenizer,
            attn_implementation="eager",
        )
        try:
            key = model.to_model_key()  # asks the hub how the id is spelled
        except Exception as error:
            explained = explain(error, name, revision, token)
    if explained is not None:  # outside of `except`: the original may hold the token
        raise explained
    checkpoint = Checkpoint(
        hf_model=model._module.requires_grad_(False).eval(),
        tokenizer=tokenizer,
        model_id=name,
        title=location.title,
        source=location.source,
        warnings=(
            "this model runs on NDIF: T1, fMRI, FLAIR, attention and perturbations only; its completeness is checked at the "
            "first scan of writes, and its weights are not hashed",
        ),
        device="ndif",
        dtype=str(model._module.dtype).removeprefix("torch."),
    )
    return RemoteBackend(checkpoint, RemotePasses(model, key), progress=progress)


def _described(name: str, revision: str | None, token: str | None) -> Location:
    """Configuration and tokenizer of a hub model, in the hub's cache; no weights."""
    from huggingface_hub import HfApi, hf_hub_download

    explained, path = None, ""
    try:
        files = HfApi(token=token).model_info(name, revision=revision).siblings or ()
        for file in files:
            if "/" not in file.rfilename and any(fnmatch(file.rfilename, pattern) for pattern in _DESCRIPTIONS):
                path = hf_hub_download(name, file.rfilename, revision=revision, token=token)
    except Exception as error:
        explained = explain(error, name, revision, token)
    if explained is not None:
        raise explained
    if not path:
        raise ModelNotFoundError(f"the repository {name} holds no language model (no config.json); check the name")
    return Location(Path(path).parent, name, name.rpartition("/")[2], f"NDIF, {name}, revision {revision or 'main'}")


def _refused(what: str) -> Callable[..., NoReturn]:
    """A member that needs the weights on this machine."""

    def refuse(self: RemoteBackend, *arguments: Any, **options: Any) -> NoReturn:
        raise InputError(
            f"{what} needs the weights on this machine, and {self.info.title} runs on NDIF; load it without remote=True, "
            "or a smaller model of its family"
        )

    return refuse


class RemoteBackend(Transformer):
    """A language model that NDIF runs."""

    name = "ndif"
    abilities = frozenset({"residual", "lens"})
    _passes: RemotePasses

    def __init__(self, checkpoint: Checkpoint, passes: RemotePasses, *, progress: Progress = no_progress) -> None:
        """Map the architecture by its configuration; checks come with the first requests."""
        self._model_key = passes.model_key
        self._lens_checked = False
        super().__init__(checkpoint, module_paths(checkpoint.hf_model), passes, progress=progress)
        self.info = replace(self.info, device="ndif")

    @property
    def _input_device(self) -> torch.device:
        return torch.device("cpu")  # NDIF moves tokens to where the model is

    def _check(self) -> float:
        self._outputs = []
        return float("nan")

    def run(
        self,
        stimulus: Stimulus,
        reads: Mapping[str, Reducer],
        *,
        edits: Sequence[SiteEdit] = (),
        logits: Sequence[int] | None = None,
        progress: Progress = no_progress,
    ) -> Run:
        """One pass, in one request and one more for each place that is edited."""
        if any(name.endswith((".attn.writes", ".post_norm_scale")) for name in (*reads, *(e.site for e in edits))):
            self._fetch_outputs(progress)
        self._passes.progress = progress
        try:  # taps that report layers would read every layer
            return super().run(stimulus, reads, edits=edits, logits=logits)
        finally:
            self._passes.progress = no_progress

    def write_plan(self, reduction: Reduction, layers: frozenset[int]) -> TransformerWritePlan:
        """As elsewhere; the first one fetches the attention output projections and checks completeness."""
        self._fetch_outputs(no_progress)
        return super().write_plan(reduction, layers)

    def _fetch_outputs(self, progress: Progress) -> None:
        if self._outputs:
            return
        blocks = self._modules.blocks
        norms = [block.norm_after_attn for block in blocks if block.norm_after_attn is not None]
        self._passes.progress = progress
        try:
            self._passes.fetch([block.attn_out for block in blocks] + norms)
        finally:
            self._passes.progress = no_progress
        self._outputs = [output_weights(block, self._n_heads) for block in blocks]
        try:
            plan = super().write_plan("whole", frozenset(range(len(blocks))))
            error = require_complete(self.hf_model, plan, self._test_run(plan.reads, logits=None))
        except ModelError:
            self._outputs = []
            raise
        self.info = replace(self.info, completeness=error)

    def lens(self, residual: torch.Tensor) -> torch.Tensor:
        """As elsewhere; the first use fetches final norm and unembedding and checks them."""
        self._fetch_readout()
        return super().lens(residual)

    def token_logits(self, residual: torch.Tensor, tokens: torch.Tensor, *, capped: bool = True) -> torch.Tensor:
        """As elsewhere; see `lens`."""
        self._fetch_readout()
        return super().token_logits(residual, tokens, capped=capped)

    def _fetch_readout(self) -> None:
        if self._lens_checked:
            return
        self._passes.fetch([self._modules.final_norm, self._modules.unembed])
        require_lens(self.hf_model, self._readout, self._test_run({}, logits=[-1]))
        self._lens_checked = True

    def fingerprint(self) -> str:
        """sha256 over the name that NDIF knows the model by: its id and revision, not its weights."""
        return hashlib.sha256(f"ndif {self._model_key}".encode()).hexdigest()

    record = _refused("recording a pass (for DTI, sweeps and causal traces)")
    gradients = _refused("a gradient")
    weights = _refused("a look at weights (T2)")
    circuit_spectra = _refused("a look at weights (T2)")
    layout_features = _refused("a layout by weights")
    composition = _refused("a look at weights (composition scores)")
    circuit_features = _refused("a layout by weights")
    neuron_features = _refused("a layout of neurons by weights")
    mlp_of = _refused("a path through an MLP")
