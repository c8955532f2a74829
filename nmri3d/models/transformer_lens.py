"""The TransformerLens backend: a Hugging Face decoder, read through hooks under TransformerLens' canonical names.

The forward pass is Hugging Face's own, with hooks on its own modules; TransformerLens' architecture adapter says which
module is which site. `backend.bridge` is a `TransformerBridge` over a structural copy that shares every weight: it gives
per-head weights in one shape for all families, and is there for a user's own TransformerLens analyses. Its passes
equal ours, since the weights are the same tensors.

At load the decomposition is checked: the writes of all components must add up to the residual before the final norm.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nmri3d.errors import InputError, UnsupportedModelError
from nmri3d.models.adapter_facts import adapter_of, module_paths
from nmri3d.models.backend import ModelInfo, Progress, Reducer, Reduction, Run, Stimulus, no_progress
from nmri3d.models.fingerprint import fingerprint
from nmri3d.models.parameters import component_table, neuron_table
from nmri3d.models.sites import Site, module_map, sites
from nmri3d.models.token_labels import token_label
from nmri3d.models.weights import attention_weights, circuit_spectra, component_weights, layout_features
from nmri3d.models.writes import OutputWeights, TransformerWritePlan, output_weights, post_norm_scale, write_plan

if TYPE_CHECKING:
    from nmri3d.models.loading import Checkpoint

COMPLETENESS_TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 5e-2}
"""Worst relative error allowed, by dtype of the weights (measured on SmolLM2: 1e-7, 1e-3, 3e-2)."""

COMPLETENESS_PROMPT = "The quick brown fox jumps over the lazy dog, and the dog sleeps."


class TransformerLensBackend:
    """A loaded language model. See `nmri3d.models.backend.Backend` for what each member means."""

    step_axis = "token"
    metric = "logit of the target token minus logit of the foil"
    abilities = frozenset({"residual", "lens", "gradient"})

    def __init__(self, checkpoint: Checkpoint, *, progress: Progress = no_progress) -> None:
        """Map the architecture, build the tables and check completeness.

        Raises UnsupportedModelError for an architecture that cannot be mapped or whose writes do not add up.
        """
        progress(0.0, "mapping the architecture")
        self.hf_model = checkpoint.hf_model
        self.tokenizer = checkpoint.tokenizer
        self._modules = module_map(self.hf_model, module_paths(self.hf_model))
        self._sites = sites(self._modules)
        config = self.hf_model.config.get_text_config()
        self.components = component_table(self.hf_model, self._modules, config.num_attention_heads)
        self.neurons = neuron_table(self._modules, config.hidden_size)
        self.kinds = tuple(dict.fromkeys(self.components.kind.tolist()))
        progress(0.3, "checking that the components add up")
        error = self._completeness(config.num_attention_heads)
        progress(0.7, "taking the fingerprint of the weights")
        parameters = list(self.hf_model.parameters())
        self.info = ModelInfo(
            model_id=checkpoint.model_id,
            title=checkpoint.title,
            architecture=type(self.hf_model).__name__,
            n_layers=len(self._modules.blocks),
            n_heads=config.num_attention_heads,
            n_kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            d_model=config.hidden_size,
            d_head=self._outputs[0].w_o.shape[1],
            d_mlp=int((self.neurons.layer == 0).sum()),
            d_vocab=config.vocab_size,
            n_context=int(config.max_position_embeddings),
            n_params=sum(parameter.numel() for parameter in parameters),
            dtype=str(self.hf_model.dtype).removeprefix("torch."),
            device=str(self.hf_model.device),
            memory_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
            completeness=error,
            source=checkpoint.source,
            fingerprint=self.fingerprint(),
            parallel_blocks=self._modules.parallel,
            post_norm=self._modules.has_post_norm,
            tied_unembedding=self._modules.embed.weight is self._modules.unembed.weight,
            warnings=checkpoint.warnings,
        )
        progress(1.0, "ready")

    # -- running -----------------------------------------------------------------------------------------------------

    def stimulus(self, text: str) -> Stimulus:
        """Tokenize a prompt, with the special tokens that the model's tokenizer adds."""
        if not isinstance(text, str):
            raise InputError(f"a prompt is text, got {type(text).__name__}; pass the sentence itself")
        if not text:
            raise InputError("the prompt is empty; write at least one word")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the prompt holds half of a character (a lone surrogate) at place {error.start}; delete it and type it again"
            ) from None
        encoded = self.tokenizer(text, return_special_tokens_mask=True)
        ids = np.asarray(encoded["input_ids"], dtype=np.int64)
        if len(ids) == 0:
            raise InputError("the tokenizer makes no token of this prompt; write at least one word")
        if len(ids) > self.info.n_context:
            raise InputError(
                f"the prompt has {len(ids):,} tokens, and {self.info.title} reads at most {self.info.n_context:,}; shorten it"
            )
        labels = tuple(self.token_text(token) for token in ids.tolist())
        return Stimulus(text, ids, labels, np.asarray(encoded["special_tokens_mask"], dtype=bool))

    def token_text(self, token: int) -> str:
        """Text of one token id; see `nmri3d.models.token_labels`."""
        return token_label(self.tokenizer, token)

    def run(
        self,
        stimulus: Stimulus,
        reads: Mapping[str, Reducer],
        *,
        logits: Sequence[int] | None = None,
        progress: Progress = no_progress,
    ) -> Run:
        """One forward pass under inference mode. Hooks are removed whatever happens."""
        unknown = [name for name in reads if name not in self._sites]
        if unknown:
            raise InputError(f"{self.info.title} has no site {unknown[0]!r}; see backend.site_names for those it has")
        kept: dict[str, Any] = {}
        ids = torch.from_numpy(stimulus.ids)[None].to(self.hf_model.get_input_embeddings().weight.device)
        with torch.inference_mode(), self._hooks(reads, kept, progress):
            if logits is None:
                self.hf_model.base_model(input_ids=ids, use_cache=False)
                return Run(kept)
            positions = torch.tensor([range(len(stimulus))[p] for p in logits], device=ids.device)
            output = self.hf_model(input_ids=ids, use_cache=False, logits_to_keep=positions)
            return Run(kept, output.logits[0].float())

    @property
    def site_names(self) -> tuple[str, ...]:
        """Every site that `run` can read."""
        return tuple(self._sites)

    @contextmanager
    def _hooks(self, reads: Mapping[str, Reducer], kept: dict[str, Any], progress: Progress) -> Iterator[None]:
        handles = [
            _hook(self._sites[name], partial(_keep, kept, name, reduce), self.components)
            for name, reduce in reads.items()
        ]
        if progress is not no_progress:
            n_layers = len(self._modules.blocks)
            for layer, block in enumerate(self._modules.blocks):
                report = partial(_report, progress, layer / n_layers, f"layer {layer + 1} of {n_layers}")
                handles.append(block.block.register_forward_pre_hook(report))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def write_plan(self, reduction: Reduction, layers: frozenset[int]) -> TransformerWritePlan:
        """What to read so that every component's write is known, reduced; see `nmri3d.models.writes`."""
        return write_plan(self._modules, self.components, self._outputs, reduction, layers)

    # -- weights -----------------------------------------------------------------------------------------------------

    @cached_property
    def bridge(self) -> Any:
        """TransformerLens' own `TransformerBridge` over the same weights (built at first use).

        Made without its boot function, which would look for another tokenizer on the hub; ours is taken as it is.
        """
        from transformer_lens.model_bridge import TransformerBridge
        from transformer_lens.model_bridge.sources._bridge_builder import detect_tokenizer_bos_eos

        shared = {id(tensor): tensor for tensor in (*self.hf_model.parameters(), *self.hf_model.buffers())}
        twin = copy.deepcopy(self.hf_model, shared)
        adapter = adapter_of(twin)
        adapter.cfg.device = self.info.device
        adapter.cfg.tokenizer_prepends_bos, adapter.cfg.tokenizer_appends_eos = detect_tokenizer_bos_eos(self.tokenizer)
        adapter.prepare_model(twin)
        return TransformerBridge(twin, adapter, self.tokenizer)

    def weights(self, row: int) -> dict[str, torch.Tensor]:
        """Weight matrices of a component row, by name; views of the live weights, not to be written to."""
        return component_weights(self.bridge, self._modules, self.components, row)

    def circuit_spectra(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Singular values of every head's OV and QK circuit, each [heads, d_head]."""
        return circuit_spectra(attention_weights(self.bridge, layer))

    def layout_features(self) -> np.ndarray:
        """float32 [components, features]; see `nmri3d.models.weights.layout_features`."""
        return layout_features(self.bridge, self.components, self.info.d_model)

    def fingerprint(self) -> str:
        """sha256 over names, shapes, dtypes and bytes of the live weights."""
        return fingerprint(self.hf_model)

    def close(self) -> None:
        """Drop the model. Memory is free once nobody else holds the Hugging Face model."""
        self.__dict__.pop("bridge", None)
        self._outputs: list[OutputWeights] = []
        self._sites, self.hf_model = {}, None
        del self._modules
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # -- completeness --------------------------------------------------------------------------------------------------

    def _completeness(self, n_heads: int) -> float:
        """Worst relative error, over positions, of the sum of all writes against the residual before the final norm."""
        ids = self.tokenizer(COMPLETENESS_PROMPT)["input_ids"]
        stimulus = Stimulus(
            COMPLETENESS_PROMPT, np.asarray(ids, dtype=np.int64), tuple(map(str, ids)), np.zeros(len(ids), bool)
        )
        with torch.inference_mode():
            self._outputs = output_weights(self._modules, n_heads)
            plan = self.write_plan("whole", frozenset(range(len(self._modules.blocks))))
            run = self.run(stimulus, {**plan.reads, "hook_resid_final": lambda residual: residual.float()})
        residual = run.reads["hook_resid_final"].cpu().numpy()
        total = np.nansum(plan.collect(run), axis=1, dtype=np.float32)
        error = float((np.linalg.norm(total - residual, axis=-1) / np.linalg.norm(residual, axis=-1)).max())
        tolerance = COMPLETENESS_TOLERANCE.get(self.hf_model.dtype, 1e-4)
        if not error <= tolerance:
            raise UnsupportedModelError(
                f"the components of {type(self.hf_model).__name__} do not add up to its residual stream (relative error "
                f"{error:.1e}, allowed {tolerance:.0e} in {self.hf_model.dtype}); its blocks write in a way that nmri3d "
                "does not know, so its scans would be wrong"
            )
        return error


def _keep(kept: dict[str, Any], name: str, reduce: Reducer, tensor: torch.Tensor) -> None:
    kept[name] = reduce(tensor)


def _report(progress: Progress, share: float, what: str, *_: Any) -> None:
    progress(share, what)


def _hook(site: Site, keep: Any, components: Any) -> Any:
    """Register the hook that hands a site's tensor, batch dropped, to `keep`."""
    if site.reads == "input":
        n_heads = len(components.rows("head", 0)) if site.is_heads else 0

        def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = (args[0] if args else kwargs["hidden_states"])[0]
            keep(value.unflatten(-1, (n_heads, -1)) if n_heads else value)

        return site.module.register_forward_pre_hook(before, with_kwargs=True)
    if site.reads == "output":
        return site.module.register_forward_hook(lambda module, args, output: keep(output[0]))
    return site.module.register_forward_hook(
        lambda module, args, output: keep(post_norm_scale(module, args[0][0], output[0]))
    )
