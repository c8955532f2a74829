"""One clean pass, kept: what a replay needs to start anywhere in the network instead of at its beginning.

Convention. The residual stream passes `2 * n_layers + 1` points: `2 l` enters block l, `2 l + 1` lies between its
attention and its MLP (absent in parallel blocks, where both read point `2 l`; the same as `2 l + 2` in a block without an
MLP), `2 n_layers` enters the final norm. A write joins the stream at one point; adding to the stream there is the same as
changing the write.

Left out: attention patterns and neuron activations, which are read by an ordinary pass when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nmri3d.models.passes import Act, Tap
from nmri3d.models.sites import Block, ModuleMap
from nmri3d.models.writes import OutputWeights, post_norm_scale


@dataclass(frozen=True, eq=False)
class Recording:
    """A clean pass over T steps.

    stream     the residual [T, d_model] at each of the 2 L + 1 points; None at the middle of a parallel block
    keys       post-rotary keys [kv_heads, T, d_head] of each layer; values likewise
    heads      input of each output projection, [T, heads, d_head]
    attention  what each attention writes, heads and bias together, [T, d_model]
    mlps       what each MLP writes, [T, d_model]; zeros in a block without one
    scales     frozen scale [T] of each attention post-norm, None where there is none
    arguments  keyword arguments that the model gave to each attention module
    """

    stream: list[torch.Tensor | None]
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    heads: list[torch.Tensor]
    attention: list[torch.Tensor]
    mlps: list[torch.Tensor]
    scales: list[torch.Tensor | None]
    arguments: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.at(0))

    def unbatched(self) -> Recording:
        """The same without its batch axis and without a graph."""

        def cut(tensors: list[Any]) -> list[Any]:
            return [None if tensor is None else tensor.detach()[0] for tensor in tensors]

        return Recording(
            stream=cut(self.stream),
            keys=cut(self.keys),
            values=cut(self.values),
            heads=cut(self.heads),
            attention=cut(self.attention),
            mlps=cut(self.mlps),
            scales=self.scales,
            arguments=self.arguments,
        )

    def at(self, point: int) -> torch.Tensor:
        """The residual [T, d_model] at a point."""
        residual = self.stream[point]
        assert residual is not None, f"a parallel block has no point {point}"
        return residual


def entry_point(kind: str, layer: int, n_layers: int, parallel: bool) -> int:
    """The point of the stream at which a component's write has joined it."""
    if kind == "embed":
        return 0
    if kind in ("head", "attn_bias") and not parallel:
        return 2 * layer + 1
    return min(2 * layer + 2, 2 * n_layers)


class KeptKeysValues:
    """Stands in for a Hugging Face cache, whose `update` every attention calls with its post-rotary keys and values."""

    def __init__(self) -> None:
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = keys, values
        return keys, values


class PrefixedKeysValues:
    """As above: puts the recorded keys and values of the steps before `start` in front of those of each row."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, start: int) -> None:
        self._prefix = keys[None, :, :start], values[None, :, :start]

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        keys_before, values_before = (part.expand(len(keys), -1, -1, -1) for part in self._prefix)
        return torch.cat([keys_before, keys], dim=2), torch.cat([values_before, values], dim=2)


def cache_argument(arguments: dict[str, Any]) -> str:
    """Under which name an attention module takes its cache."""
    return "layer_past" if "layer_past" in arguments else "past_key_values"


def recording_taps(modules: ModuleMap, outputs: list[OutputWeights]) -> tuple[Recording, list[Tap]]:
    """An empty Recording, and the taps that fill it during one forward pass of the body.

    Its tensors keep their batch axis of one, since a gradient belongs to the tensor that went on; see `unbatched`.
    """
    n_layers = len(modules.blocks)

    def empty(length: int) -> list[Any]:
        return [None] * length

    kept = Recording(
        stream=empty(2 * n_layers + 1),
        keys=empty(n_layers),
        values=empty(n_layers),
        heads=empty(n_layers),
        attention=empty(n_layers),
        mlps=empty(n_layers),
        scales=empty(n_layers),
        arguments=empty(n_layers),
    )
    taps = [Tap(modules.final_norm, "input", _keep(kept.stream, 2 * n_layers))]
    for layer, block in enumerate(modules.blocks):
        taps.append(Tap(block.block, "input", _keep(kept.stream, 2 * layer)))
        taps += _attention_taps(kept, layer, block, outputs[layer])
        taps.append(Tap(block.norm_after_attn or block.attn_out, "output", _keep(kept.attention, layer)))
        if block.mlp is None or block.mlp_out is None:
            after = modules.blocks[layer + 1].block if layer + 1 < n_layers else modules.final_norm
            taps.append(Tap(after, "input", _without_mlp(kept, layer)))
            continue
        if not modules.parallel:
            taps.append(Tap(block.norm_before_mlp or block.mlp, "input", _keep(kept.stream, 2 * layer + 1)))
        taps.append(Tap(block.norm_after_mlp or block.mlp_out, "output", _keep(kept.mlps, layer)))
    return kept, taps


def _without_mlp(kept: Recording, layer: int) -> Act:
    def keep(passing: torch.Tensor) -> None:
        kept.stream[2 * layer + 1] = passing
        kept.mlps[layer] = torch.zeros_like(passing)

    return keep


def _keep(place: list[Any], index: int) -> Act:
    def keep(passing: torch.Tensor) -> None:
        place[index] = passing

    return keep


def _attention_taps(kept: Recording, layer: int, block: Block, output: OutputWeights) -> list[Tap]:
    cache = KeptKeysValues()

    def arguments(others: dict[str, Any]) -> dict[str, Any]:
        kept.arguments[layer] = others
        return {cache_argument(others): cache}

    def computed(passing: Any) -> None:
        assert cache.keys is not None, "the attention module ignored its cache"
        assert cache.values is not None
        kept.keys[layer], kept.values[layer] = cache.keys, cache.values

    def heads(passing: torch.Tensor) -> None:
        kept.heads[layer] = passing.unflatten(-1, (len(output.w_o), -1))

    taps = [
        Tap(block.attn, "arguments", arguments),
        Tap(block.attn, "output", computed),
        Tap(block.attn_out, "input", heads),
    ]
    gain = output.gain
    if gain is not None:
        assert block.norm_after_attn is not None
        unnormed: list[torch.Tensor] = []

        def scale(passing: torch.Tensor) -> None:
            kept.scales[layer] = post_norm_scale(gain, unnormed.pop().detach()[0], passing.detach()[0])

        taps += [Tap(block.norm_after_attn, "input", unnormed.append), Tap(block.norm_after_attn, "output", scale)]
    return taps
