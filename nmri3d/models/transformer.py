"""A decoder-only transformer, run by Hugging Face's own forward pass with taps on its own modules.

Numbers are Hugging Face's. When a model is loaded two things are checked: the writes of all components add up to the
residual before the final norm, and the logit lens of that residual is the model's own output.

Left out: which module is which (`adapter_facts`, `discovery`) and how a pass is watched (`passes`); a backend is this class
given both.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from nmri3d.errors import InputError
from nmri3d.models.backend import (
    DirectReadout,
    EditTarget,
    Metric,
    Progress,
    Readout,
    Reducer,
    Reduction,
    Run,
    SiteEdit,
    Stimulus,
    no_progress,
)
from nmri3d.models.blocks import mlp_write
from nmri3d.models.checks import require_indices
from nmri3d.models.circuit_features import circuit_features
from nmri3d.models.composition import Composition, composition_scores
from nmri3d.models.edit_targets import transformer_target
from nmri3d.models.fingerprint import fingerprint
from nmri3d.models.gradients import (
    GRAPH_BYTES,
    ReaderGradients,
    graph_bytes,
    reader_gradients,
    stream_gradients_by_block,
    stream_gradients_of_graph,
)
from nmri3d.models.load_checks import TEST_PROMPT, require_complete, require_known_blocks, require_lens
from nmri3d.models.model_info import model_info
from nmri3d.models.neuron_features import neuron_features
from nmri3d.models.parameters import component_table, neuron_table
from nmri3d.models.passes import Passes, Tap
from nmri3d.models.progress import part
from nmri3d.models.projections import ProjectionRows, projections
from nmri3d.models.prompts import end_tokens, single_token, tokenized
from nmri3d.models.readers import Attention, Readers, attention_moved, reread
from nmri3d.models.readout import Readout as LogitReadout
from nmri3d.models.recording import Recording, entry_point, recording_taps
from nmri3d.models.replay import StreamEdit, replay
from nmri3d.models.site_taps import site_taps
from nmri3d.models.sites import module_map, sites, wide
from nmri3d.models.token_labels import token_label
from nmri3d.models.weights import (
    AttentionWeights,
    attention_weights,
    circuit_spectra,
    component_weights,
    layout_features,
    mlp_weights,
)
from nmri3d.models.writes import OutputWeights, TransformerWritePlan, output_weights, write_plan

if TYPE_CHECKING:
    from nmri3d.models.loading import Checkpoint


class Transformer:
    """A loaded language model. See `Backend` and `ResidualBackend` for what each member means."""

    name: str
    step_axis = "token"
    outputs: Literal["logits", "signal"] = "logits"
    examples: tuple[str, ...] = ("The capital of France is",)
    metric = "logit of the target token minus logit of the foil"
    abilities = frozenset({"residual", "lens", "gradient"})
    test_prompt = TEST_PROMPT
    """What a model is checked with when it is loaded."""

    def __init__(
        self, checkpoint: Checkpoint, paths: Mapping[str, str], passes: Passes, *, progress: Progress = no_progress
    ) -> None:
        """Map the architecture, build the tables and check completeness.

        paths   where the parts of the Hugging Face model lie, by TransformerLens' names for them
        passes  how the model is run

        Raises UnsupportedModelError for an architecture that cannot be mapped or whose writes do not add up.
        """
        progress(0.0, "mapping the architecture")
        self.hf_model = checkpoint.hf_model
        self.tokenizer = checkpoint.tokenizer
        self._passes = passes
        self._blocks_known = False
        self._modules = module_map(self.hf_model, paths)
        config = self.hf_model.config.get_text_config()
        self._n_heads = int(config.num_attention_heads)
        self._sites = sites(self._modules, self._n_heads)
        self._readout = LogitReadout(self._modules, config)
        self.components = component_table(self.hf_model, self._modules, self._n_heads)
        self.neurons = neuron_table(self._modules, config.hidden_size)
        self.end_tokens = end_tokens(self.hf_model, self.tokenizer)
        self.kinds = tuple(dict.fromkeys(self.components.kind.tolist()))
        self.structures = ("cortex",) * len(self.components)
        progress(0.3, "checking that the components add up")
        error = self._check()
        progress(0.7, "taking the fingerprint of the weights")
        self.info = model_info(
            checkpoint, self._modules, self.neurons, completeness=error, fingerprint=self.fingerprint()
        )
        progress(1.0, "ready")

    # -- running -----------------------------------------------------------------------------------------------------

    def stimulus(self, text: str) -> Stimulus:
        """Tokenize a prompt, with the special tokens that the model's tokenizer adds; see `nmri3d.models.prompts`."""
        return tokenized(self.tokenizer, text, self.info)

    def reference(self) -> Sequence[str]:
        """None of its own: the shipped English text."""
        return ()

    def token_text(self, token: int) -> str:
        """Text of one token id; see `nmri3d.models.token_labels`."""
        return token_label(self.tokenizer, token)

    def token_id(self, text: str) -> int:
        """Id of a text that is exactly one token. Raises InputError, naming the pieces, for any other."""
        return single_token(self.tokenizer, text)

    def run(
        self,
        stimulus: Stimulus,
        reads: Mapping[str, Reducer],
        *,
        edits: Sequence[SiteEdit] = (),
        logits: Sequence[int] | None = None,
        progress: Progress = no_progress,
    ) -> Run:
        """One forward pass under inference mode. Nothing of it stays on the model, whatever happens."""
        self._require_sites(*reads, *(edit.site for edit in edits))
        kept: dict[str, Any] = {}
        taps = self._taps(reads, edits, kept, progress)
        with torch.inference_mode():
            if logits is None:
                self._body(stimulus, taps)
                return Run(kept)
            positions = torch.tensor([range(len(stimulus))[p] for p in logits], device=self._input_device)
            found: list[torch.Tensor] = []
            taps.append(Tap(self.hf_model, "output", lambda output: found.append(output.logits[0].float())))
            arguments = {"input_ids": self._ids(stimulus), "use_cache": False, "logits_to_keep": positions}
            self._passes.run(self.hf_model, arguments, taps)
            return Run(kept, found[0])

    def target(self, component: str) -> EditTarget:
        """Where an edit acts; see `nmri3d.models.edit_targets`."""
        return transformer_target(self, component)

    def _require_sites(self, *names: str) -> None:
        for name in names:
            if name not in self._sites:
                raise InputError(f"{self.info.title} has no site {name!r}; see backend.site_names for those it has")

    @property
    def site_names(self) -> tuple[str, ...]:
        """Every site that `run` can read."""
        return tuple(self._sites)

    def _taps(
        self, reads: Mapping[str, Reducer], edits: Sequence[SiteEdit], kept: dict[str, Any], progress: Progress
    ) -> list[Tap]:
        return site_taps(self._modules, self._outputs, self._sites, reads, edits, kept, progress)

    @property
    def _input_device(self) -> torch.device:
        return self.hf_model.get_input_embeddings().weight.device

    def _ids(self, stimulus: Stimulus) -> torch.Tensor:
        return torch.from_numpy(stimulus.ids)[None].to(self._input_device)

    def _body(self, stimulus: Stimulus, taps: Sequence[Tap]) -> None:
        """A pass up to the final norm."""
        self._passes.run(self.hf_model.base_model, {"input_ids": self._ids(stimulus), "use_cache": False}, taps)

    def attention(self, stimulus: Stimulus, layer: int) -> np.ndarray:
        """Attention pattern of every head of a layer, float32 [heads, query, key]; rows sum to 1."""
        site = f"blocks.{layer}.attn.hook_pattern"
        return self.run(stimulus, {site: lambda pattern: pattern.float().cpu().numpy()}).reads[site]

    # -- recording, replaying, gradients -----------------------------------------------------------------------------

    def record(self, stimulus: Stimulus, *, embedding: torch.Tensor | None = None) -> Recording:
        """One forward pass, kept whole."""
        recording, taps = recording_taps(self._modules, self._outputs)
        with torch.no_grad():
            self._body(stimulus, [*self._embedding_taps(embedding), *taps])
        return recording.unbatched()

    def _embedding_taps(self, embedding: torch.Tensor | None) -> list[Tap]:
        """Put another embedding in the place of what embed writes."""
        if embedding is None:
            return []
        return self._taps({}, [SiteEdit("hook_embed", lambda _: embedding)], {}, no_progress)

    def writes(self, recording: Recording, row: int) -> torch.Tensor:
        """What a component wrote in a recorded pass, float32 [steps, d_model]."""
        kind, layer = str(self.components.kind[row]), int(self.components.layer[row])
        if kind == "unembed":
            raise InputError("unembed writes nothing to the residual stream; choose another component")
        if kind == "embed":
            return wide(recording.at(0))
        if kind == "mlp":
            return wide(recording.mlps[layer])
        rows, writes = self.layer_writes(recording, layer)
        return writes[:, int(np.flatnonzero(rows == row)[0])]

    def layer_writes(self, recording: Recording, layer: int) -> tuple[np.ndarray, torch.Tensor]:
        """Rows of a layer and what each wrote, float32 [steps, rows, d_model]."""
        with torch.no_grad():
            attention = self._outputs[layer].rows(recording.heads[layer], recording.scales[layer])
        if self._modules.blocks[layer].mlp is None:
            return self.components.rows(layer=layer), attention
        writes = torch.cat([attention, wide(recording.mlps[layer])[:, None]], dim=1)
        return self.components.rows(layer=layer), writes

    def entry_point(self, row: int) -> int:
        """The point of the stream at which a component's write joins it."""
        kind, layer = str(self.components.kind[row]), int(self.components.layer[row])
        return entry_point(kind, layer, len(self._modules.blocks), self._modules.parallel)

    def replay(
        self,
        recording: Recording,
        edits: Sequence[StreamEdit],
        readout: Readout,
        *,
        step: int = -1,
        progress: Progress = no_progress,
    ) -> torch.Tensor:
        """Each edit of a recorded pass by itself; see `nmri3d.models.replay`."""
        if not self._blocks_known:
            require_known_blocks(self._modules, recording)
            self._blocks_known = True
        with torch.inference_mode():
            return replay(self._modules, recording, edits, readout, step=step, progress=progress)

    def gradients(
        self, stimulus: Stimulus, metric: Metric, *, embedding: torch.Tensor | None = None
    ) -> tuple[Recording, list[torch.Tensor | None]]:
        """A recorded pass and the gradients along its stream; see `nmri3d.models.gradients`."""
        info = self.info
        if graph_bytes(len(stimulus), self._modules, info.n_heads, info.d_model, info.d_mlp) > GRAPH_BYTES:
            recording = self.record(stimulus, embedding=embedding)
            return recording, stream_gradients_by_block(self._modules, recording, metric)
        # a graph begins at the first block; what records must see the leaf
        leaf = Tap(self._modules.blocks[0].block, "input", lambda residual: residual.detach().requires_grad_())
        recording, taps = recording_taps(self._modules, self._outputs)
        with torch.enable_grad():
            self._body(stimulus, [*self._embedding_taps(embedding), leaf, *taps])
            gradients = stream_gradients_of_graph(self._passes, recording.stream, metric)
        return recording.unbatched(), gradients

    def reader_gradients(
        self, recording: Recording, gradients: Sequence[torch.Tensor | None], layer: int
    ) -> ReaderGradients:
        """The gradients of a pass split into the inputs of a block's readers; see `nmri3d.models.gradients`."""
        block, parts = self._modules.blocks[layer], self._projections[layer]
        before, middle, after = gradients[2 * layer : 2 * layer + 3]
        assert before is not None
        assert after is not None
        return reader_gradients(
            block,
            recording.at(2 * layer),
            recording.arguments[layer],
            self._outputs[layer],
            parts,
            before,
            middle,
            after,
        )

    def reread(self, recording: Recording, layer: int, inputs: Readers, heads: Sequence[int]) -> torch.Tensor:
        """What some heads write when their inputs read other residuals; see `ResidualBackend.reread`."""
        return reread(self._attention_of(layer), recording, layer, inputs, heads)

    def attention_moved(self, recording: Recording, layer: int, inputs: Readers, head: int) -> torch.Tensor:
        """Change of an attention's write; see `ResidualBackend.attention_moved`."""
        return attention_moved(self._attention_of(layer), recording, layer, inputs, head)

    def _attention_of(self, layer: int) -> Attention:
        return Attention(self._modules.blocks[layer], self._projections[layer], self._outputs[layer])

    def mlp_of(self, layer: int, residual: torch.Tensor) -> torch.Tensor:
        """What the MLP of a layer writes when it reads a residual [steps, d_model]."""
        with torch.no_grad():
            return wide(mlp_write(self._modules.blocks[layer], residual[None])[0])

    @cached_property
    def _projections(self) -> list[tuple[ProjectionRows, ...]]:
        info = self.info
        return [projections(block.attn, info.n_heads, info.n_kv_heads, info.d_head) for block in self._modules.blocks]

    def write_plan(self, reduction: Reduction, layers: frozenset[int]) -> TransformerWritePlan:
        """What to read so that every component's write is known, reduced; see `nmri3d.models.writes`."""
        return write_plan(self._modules, self.components, self._outputs, reduction, layers)

    def lens(self, residual: torch.Tensor) -> torch.Tensor:
        """The logit lens, float32 [..., d_vocab]; see `nmri3d.models.readout`."""
        with torch.inference_mode():
            return self._readout.lens(residual)

    def token_logits(self, residual: torch.Tensor, tokens: torch.Tensor, *, capped: bool = True) -> torch.Tensor:
        """The logit lens of a few tokens, float32 [..., k]; differentiable."""
        return self._readout.token_logits(residual, tokens, capped=capped)

    def direct_logits(self, recording: Recording, tokens: torch.Tensor, step: int) -> DirectReadout:
        """The readout as a linear map at one step, the scale of the final norm frozen."""
        with torch.no_grad():
            return self._readout.direct(recording.at(-1)[step], tokens)

    # -- weights -----------------------------------------------------------------------------------------------------

    def weights(self, row: int) -> dict[str, torch.Tensor]:
        """Weight matrices of a component row, by name; views of the live weights, not to be written to."""
        return component_weights(self._modules, self.components, row, self._attention_weights, self._mlp_weights)

    def circuit_spectra(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Singular values of every head's OV and QK circuit, each [heads, d_head]."""
        return circuit_spectra(self._attention_weights(layer))

    def layout_features(self) -> np.ndarray:
        """float32 [components, features]; see `nmri3d.models.weights.layout_features`."""
        return layout_features(self.components, self.info.d_model, self._attention_weights, self._mlp_weights)

    def composition(self, progress: Progress = no_progress) -> Composition:
        """Which components read what others write; see `nmri3d.models.composition`."""
        weights_of = self._attention_weights, self._mlp_weights
        return composition_scores(self._modules, self.components, self.info.d_model, *weights_of, progress=progress)

    def circuit_features(self, progress: Progress = no_progress) -> np.ndarray:
        """float32 [components, features]; see `nmri3d.models.circuit_features`."""
        composition = self.composition(part(progress, 0.0, 0.9))
        progress(0.9, "spectra of the circuits")
        return circuit_features(self.components, self.layout_features(), composition)

    def neuron_features(self, layer: int) -> np.ndarray:
        """float32 [d_mlp, features]; see `nmri3d.models.neuron_features`."""
        [layer] = require_indices("layer", [layer], self.info.n_layers, "this model")
        if self._modules.blocks[layer].mlp is None:
            raise InputError(f"{self.info.title} has no MLP in block {layer}, so there are no neurons to lay out")
        return neuron_features(self._mlp_weights(layer))

    def _attention_weights(self, layer: int) -> AttentionWeights:
        return attention_weights(self._projections[layer], self._outputs[layer])

    def _mlp_weights(self, layer: int) -> dict[str, torch.Tensor]:
        return mlp_weights(self._modules.blocks[layer], self.info.d_model)

    def fingerprint(self) -> str:
        """sha256 over names, shapes, dtypes and bytes of the live weights."""
        return fingerprint(self.hf_model)

    def close(self) -> None:
        """Drop the model. Memory is free once nobody else holds the Hugging Face model."""
        self.__dict__.pop("_projections", None)
        self._outputs: list[OutputWeights] = []
        self._sites, self.hf_model = {}, None
        del self._modules, self._readout, self._passes
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # -- checks when a model is loaded -------------------------------------------------------------------------------

    def _check(self) -> float:
        """Check writes and lens on the test prompt; the error of completeness."""
        self._outputs = [output_weights(block, self._n_heads) for block in self._modules.blocks]
        plan = self.write_plan("whole", frozenset(range(len(self._modules.blocks))))
        run = self._test_run(plan.reads, logits=[-1])
        require_lens(self.hf_model, self._readout, run)
        return require_complete(self.hf_model, plan, run)

    def _test_run(self, reads: Mapping[str, Reducer], *, logits: Sequence[int] | None) -> Run:
        """A pass of the test prompt that reads the last residual, and what else is wanted."""
        ids = np.asarray(self.tokenizer(self.test_prompt)["input_ids"], dtype=np.int64)
        stimulus = Stimulus(self.test_prompt, ids, tuple(map(str, ids)), np.zeros(len(ids), bool))
        return self.run(stimulus, {**reads, "hook_resid_final": lambda residual: residual}, logits=logits)
