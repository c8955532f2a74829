"""The same measurements written out plainly: Hugging Face's own model, one hook at a time, one whole pass an intervention.

Nothing here uses nmri3d. Writes are computed from the definitions of DESIGN section 4, modules are named as each family's
own code names them, and no batch, cache, recording or restart is used. Slow, and meant to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

NAMES = {
    "gpt2": ("transformer.h", "attn.c_proj", "mlp", "ln_1", "ln_2", "transformer.ln_f"),
    "gpt_neox": (
        "gpt_neox.layers", "attention.dense", "mlp", "input_layernorm", "post_attention_layernorm",
        "gpt_neox.final_layer_norm",
    ),
    "gemma2": (
        "model.layers", "self_attn.o_proj", "mlp", "input_layernorm", "pre_feedforward_layernorm", "model.norm",
    ),
    "llama": (
        "model.layers", "self_attn.o_proj", "mlp", "input_layernorm", "post_attention_layernorm", "model.norm",
    ),
}  # fmt: skip
"""blocks, output projection, MLP, norm before attention, norm before the MLP, final norm."""

Hook = tuple[Any, str, Callable[[torch.Tensor], torch.Tensor]]
"""A module, "in" or "out", and what becomes of its first input or its output."""


class Plain:
    """A Hugging Face model and its hooks."""

    def __init__(self, model: Any, family: str) -> None:
        base = {"gpt_neox_sequential": "gpt_neox"}.get(family, family)
        blocks, self._o, self._mlp, self._norm1, self._norm2, final = NAMES.get(base, NAMES["llama"])
        self.model, self.family, self.base = model, family, base
        self.blocks = list(model.get_submodule(blocks))
        self.final_norm = model.get_submodule(final)
        self.n_layers, self.n_heads = len(self.blocks), model.config.num_attention_heads
        self.n_kv = getattr(model.config, "num_key_value_heads", None) or self.n_heads
        self.parallel = family == "gpt_neox"

    # -- modules -----------------------------------------------------------------------------------------------------

    def o(self, layer: int) -> Any:
        return self.blocks[layer].get_submodule(self._o)

    def attention_out(self, layer: int) -> Any:
        """The module whose output attention adds to the residual."""
        return self.blocks[layer].post_attention_layernorm if self.base == "gemma2" else self.o(layer)

    def mlp(self, layer: int) -> Any:
        return self.blocks[layer].get_submodule(self._mlp)

    def mlp_out(self, layer: int) -> Any:
        return self.blocks[layer].post_feedforward_layernorm if self.base == "gemma2" else self.mlp(layer)

    def norm_before_attention(self, layer: int) -> Any:
        return self.blocks[layer].get_submodule(self._norm1)

    def norm_before_mlp(self, layer: int) -> Any:
        return self.blocks[layer].get_submodule(self._norm2)

    def w_o(self, layer: int) -> torch.Tensor:
        """[heads * d_head, d_model]."""
        weight = self.o(layer).weight
        return weight if self.base == "gpt2" else weight.T

    def has_bias(self, layer: int) -> bool:
        return getattr(self.o(layer), "bias", None) is not None

    # -- passes ------------------------------------------------------------------------------------------------------

    @contextmanager
    def hooked(self, hooks: Sequence[Hook]) -> Iterator[None]:
        handles = []
        for module, side, change in hooks:
            if side == "out":
                handles.append(module.register_forward_hook(lambda m, a, out, f=change: _on_output(f, out)))
            else:
                handles.append(
                    module.register_forward_pre_hook(lambda m, a, k, f=change: _on_input(f, a, k), with_kwargs=True)
                )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def logits(self, ids: Any, hooks: Sequence[Hook] = (), *, before_softcap: bool = False) -> torch.Tensor:
        """[T, vocabulary] of one whole pass."""
        seen: list[torch.Tensor] = []
        last: list[Hook] = [(self.model.get_output_embeddings(), "out", lambda out: seen.append(out))]  # type: ignore[list-item]
        with self.hooked([*hooks, *last]):
            out = self.model(input_ids=torch.as_tensor(ids)[None], use_cache=False).logits
        return (seen[0] if before_softcap else out)[0]

    def metric(self, ids: Any, tokens: tuple[int, int], hooks: Sequence[Hook] = (), position: int = -1) -> torch.Tensor:
        logits = self.logits(ids, hooks)[position]
        return logits[tokens[0]] - logits[tokens[1]]

    def seen(self, ids: Any) -> dict[Any, torch.Tensor]:
        """("resid", l) entering block l (l = n_layers: the final norm), ("mid", l), ("z", l), ("attn", l), ("mlp", l)."""
        found: dict[Any, torch.Tensor] = {}

        def keep(key: Any) -> Callable[[torch.Tensor], None]:
            return lambda value: found.__setitem__(key, value[0].detach().clone())

        hooks: list[Any] = [(self.final_norm, "in", keep(("resid", self.n_layers)))]
        for layer, block in enumerate(self.blocks):
            hooks += [
                (block, "in", keep(("resid", layer))),
                (self.o(layer), "in", keep(("z", layer))),
                (self.o(layer), "out", keep(("projected", layer))),
                (self.attention_out(layer), "out", keep(("attn", layer))),
                (self.norm_before_mlp(layer), "in", keep(("mid", layer))),
                (self.mlp_out(layer), "out", keep(("mlp", layer))),
            ]
        with torch.no_grad():
            self.logits(ids, hooks)
        return found

    def writes(self, ids: Any) -> dict[str, torch.Tensor]:
        """What every component writes, by id, [T, d_model]."""
        seen = self.seen(ids)
        found = {"embed": seen["resid", 0]}
        with torch.no_grad():
            for layer in range(self.n_layers):
                factor: Any = 1.0
                if self.base == "gemma2":
                    norm, projected = self.attention_out(layer), seen["projected", layer]
                    factor = (1 + norm.weight) * torch.rsqrt(projected.pow(2).mean(-1, keepdim=True) + norm.eps)
                z, w_o = seen["z", layer], self.w_o(layer)
                width = z.shape[-1] // self.n_heads
                for head in range(self.n_heads):
                    part = slice(head * width, (head + 1) * width)
                    found[f"blocks.{layer}.attn.head_{head}"] = (z[:, part] @ w_o[part]) * factor
                if self.has_bias(layer):
                    found[f"blocks.{layer}.attn.b_O"] = (self.o(layer).bias * factor).expand_as(found["embed"]).clone()
                found[f"blocks.{layer}.mlp"] = seen["mlp", layer]
        return found

    def place(self, name: str) -> tuple[Any, str]:
        """The module, and which side of it, at which a component's write joins the stream."""
        if name == "embed":
            return self.blocks[0], "in"
        layer = int(name.split(".")[1])
        return (self.mlp_out(layer) if name.endswith(".mlp") else self.attention_out(layer)), "out"

    def adding(self, name: str, delta: torch.Tensor) -> Hook:
        """The hook that changes a component's write by delta [T, d_model]."""
        module, side = self.place(name)
        return module, side, lambda value: value + delta[None]

    def restoring(self, site: str, layer: int, position: int, value: torch.Tensor) -> Hook:
        """The hook that sets a site of the residual stream at one position to value [d_model]."""

        def put(tensor: torch.Tensor) -> torch.Tensor:
            changed = tensor.clone()
            changed[0, position] = value
            return changed

        if site == "resid":
            return (self.final_norm if layer == self.n_layers else self.blocks[layer]), "in", put
        return (self.attention_out(layer) if site == "attn" else self.mlp_out(layer)), "out", put

    # -- path patching ---------------------------------------------------------------------------------------------------

    def patched_edge(
        self, ids: Any, tokens: tuple[int, int], reader: str, slot: str, delta: torch.Tensor, position: int = -1
    ) -> torch.Tensor:
        """The metric when one input of one reader reads the clean residual plus delta [T, d_model], all else as it is.

        Two passes: the first has the reader read the changed residual and keeps what it then writes, the second puts
        that into the clean run.
        """
        seen = self.seen(ids)
        if slot == "logits":
            return self.metric(ids, tokens, [(self.final_norm, "in", lambda x: x + delta[None])], position)
        layer = int(reader.split(".")[1])
        if slot == "mlp":
            kept: list[torch.Tensor] = []
            hooks: list[Any] = [
                (self.norm_before_mlp(layer), "in", lambda x: x + delta[None]),
                (self.mlp_out(layer), "out", lambda out: kept.append(out.clone())),
            ]
            self.logits(ids, hooks)
            return self.metric(ids, tokens, [(self.mlp_out(layer), "out", lambda out: kept[0])], position)
        head = int(reader.rsplit("_", 1)[1])
        with torch.no_grad():
            normed = self.norm_before_attention(layer)((seen["resid", layer] + delta)[None])
        module, columns = self._features(layer, head, slot)
        with torch.no_grad():
            features = module(normed)

        def swap(out: torch.Tensor) -> torch.Tensor:
            changed = out.clone()
            changed[..., columns] = features[..., columns]
            return changed

        z: list[torch.Tensor] = []
        self.logits(ids, [(module, "out", swap), (self.o(layer), "in", lambda x: z.append(x.clone()))])  # type: ignore[list-item]
        width = z[0].shape[-1] // self.n_heads
        part = slice(head * width, (head + 1) * width)

        def own(x: torch.Tensor) -> torch.Tensor:
            changed = x.clone()
            changed[..., part] = z[0][..., part]
            return changed

        return self.metric(ids, tokens, [(self.o(layer), "in", own)], position)

    def _features(self, layer: int, head: int, slot: str) -> tuple[Any, slice]:
        """The projection that makes a head's queries, keys or values, and which of its outputs."""
        attn = (
            self.blocks[layer].attention if self.base == "gpt_neox" else getattr(self.blocks[layer], "self_attn", None)
        )
        kv = head // (self.n_heads // self.n_kv)
        place = "qkv".index(slot)
        if self.base == "gpt2":
            width = 32 // self.n_heads
            start = place * 32 + head * width
            return self.blocks[layer].attn.c_attn, slice(start, start + width)
        if self.base == "gpt_neox":
            width = attn.query_key_value.out_features // (3 * self.n_heads)
            start = (3 * head + place) * width
            return attn.query_key_value, slice(start, start + width)
        if self.base == "phi3":
            width = attn.qkv_proj.out_features // (self.n_heads + 2 * self.n_kv)
            start = (head if slot == "q" else self.n_heads + (slot == "v") * self.n_kv + kv) * width
            return attn.qkv_proj, slice(start, start + width)
        module = getattr(attn, f"{slot}_proj")
        width = module.out_features // (self.n_heads if slot == "q" else self.n_kv)
        start = (head if slot == "q" else kv) * width
        return module, slice(start, start + width)


def _on_output(change: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        changed = change(output[0])
        return None if changed is None else (changed, *output[1:])
    return change(output)


def _on_input(change: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    changed = change(args[0] if args else kwargs["hidden_states"])
    if changed is None:
        return None
    return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})
