"""Weights of single components, the spectra of head circuits, and the features by which components are laid out.

A head's undivided slice is its rows of W_Q, the K/V head that it reads, and its columns of W_O (shared K/V heads are part
of every head that reads them, so slices of grouped-query heads overlap). Circuits of a head (Elhage et al. 2021): OV is
W_V W_O, what is moved; QK is W_Q W_K^T, where it is looked for (rotary positions left out). Their singular values come
from d_head x d_head matrices through QR factorisations, never from d_model x d_model ones.

Layout features: log spectra of OV and QK, plus the circuit seen through one fixed random projection (Johnson-
Lindenstrauss: inner products of these sketches approximate the Frobenius inner products of the circuits, seed 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nmri3d.components import ComponentTable
from nmri3d.errors import UnsupportedModelError
from nmri3d.models.projections import ProjectionRows, by_input, is_projection
from nmri3d.models.sites import Block, ModuleMap, bias_of, weight_of
from nmri3d.models.writes import OutputWeights

SKETCH = 12
"""Directions of the random projection; a sketch has SKETCH^2 entries."""

GATES = frozenset({"gate_proj", "w1", "linear_gate", "c_gate", "gate"})
"""Names of the matrix whose product with the residual passes the nonlinearity and gates the other."""


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """One layer's projections: w_q [heads, d_model, d_head], w_k and w_v [kv_heads, d_model, d_head], w_o [heads,
    d_head, d_model]."""

    w_q: torch.Tensor
    w_k: torch.Tensor
    w_v: torch.Tensor
    w_o: torch.Tensor

    def kv_head(self, head: int) -> int:
        """The K/V head that a query head reads."""
        return head * self.w_k.shape[0] // self.w_q.shape[0]


AttentionWeightsOf = Callable[[int], AttentionWeights]
MlpWeightsOf = Callable[[int], dict[str, torch.Tensor]]
"""The weights of a layer's attention or MLP, by its number."""


def attention_weights(parts: Sequence[ProjectionRows], output: OutputWeights) -> AttentionWeights:
    """A layer's projections, as views, whatever the family keeps joined or transposed."""
    q, k, v = (part.weight.mT for part in parts)
    return AttentionWeights(q, k, v, output.w_o)


def bridge_attention_weights(bridge: Any, layer: int) -> AttentionWeights:
    """The same as TransformerLens gives them."""
    attn = bridge.blocks[layer].attn
    return AttentionWeights(*(getattr(attn, name).detach() for name in ("W_Q", "W_K", "W_V", "W_O")))


def mlp_weights(block: Block, d_model: int) -> dict[str, torch.Tensor]:
    """A layer's MLP: W_in [d_model, d_mlp], W_gate likewise where there is one, W_out [d_mlp, d_model], as views.

    Raises UnsupportedModelError for an MLP that is not one matrix in, or two of which one gates, and one out.
    """
    assert block.mlp is not None
    assert block.mlp_out is not None
    w_out = by_input(block.mlp_out)
    d_mlp = w_out.shape[0]
    reading = {
        name: by_input(module)
        for name, module in block.mlp.named_modules()
        if is_projection(module) and module is not block.mlp_out
    }
    shapes = [tuple(weight.shape) for weight in reading.values()]
    if shapes == [(d_model, d_mlp)]:
        return {"W_in": next(iter(reading.values())), "W_out": w_out}
    if shapes == [(d_model, 2 * d_mlp)]:  # gate and up side by side, the gate first in every family that joins them
        gate, up = next(iter(reading.values())).split(d_mlp, dim=1)
        return {"W_in": up, "W_gate": gate, "W_out": w_out}
    gates = [name for name in reading if name in GATES]
    if shapes == [(d_model, d_mlp)] * 2 and len(gates) == 1:
        gate = reading.pop(gates[0])
        return {"W_in": next(iter(reading.values())), "W_gate": gate, "W_out": w_out}
    raise UnsupportedModelError(
        f"{type(block.mlp).__name__} keeps its weights in a way that nmri3d does not know ({', '.join(reading)}), so "
        "its weights cannot be shown; scans of activations can"
    )


def bridge_mlp_weights(bridge: Any, layer: int) -> dict[str, torch.Tensor]:
    """The same as TransformerLens gives them."""
    mlp = bridge.blocks[layer].mlp
    named = {name: getattr(mlp, name, None) for name in ("W_in", "W_gate", "W_out")}
    return {name: weight.detach() for name, weight in named.items() if weight is not None}


def component_weights(
    modules: ModuleMap,
    components: ComponentTable,
    row: int,
    attention_of: AttentionWeightsOf,
    mlp_of: MlpWeightsOf,
) -> dict[str, torch.Tensor]:
    """Weight matrices of a component by name, as views of the live weights where the family allows."""
    kind, layer, index = str(components.kind[row]), int(components.layer[row]), int(components.index[row])
    match kind:
        case "head":
            attention = attention_of(layer)
            kv = attention.kv_head(index)
            return {
                "W_Q": attention.w_q[index],
                "W_K": attention.w_k[kv],
                "W_V": attention.w_v[kv],
                "W_O": attention.w_o[index],
            }
        case "mlp":
            return mlp_of(layer)
        case "attn_bias":
            bias = bias_of(modules.blocks[layer].attn_out)
            return {} if bias is None else {"b_O": bias}
        case "embed":
            positions = {"W_pos": weight_of(modules.pos_embed)} if modules.pos_embed is not None else {}
            return {"W_E": weight_of(modules.embed)} | positions
        case _:
            return {"W_U": weight_of(modules.unembed)}


def circuit_spectra(attention: AttentionWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular values of OV and QK of every head of a layer, each float32 [heads, d_head], descending."""
    n_heads, kv_of_head = attention.w_q.shape[0], [attention.kv_head(h) for h in range(attention.w_q.shape[0])]
    r_q, r_k, r_v = (
        torch.linalg.qr(w.float(), mode="r").R for w in (attention.w_q, attention.w_k, attention.w_v)
    )  # fmt: skip
    r_o = torch.linalg.qr(attention.w_o.float().mT, mode="r").R
    assert len(r_o) == n_heads
    ov = torch.linalg.svdvals(r_v[kv_of_head] @ r_o.mT)
    qk = torch.linalg.svdvals(r_q @ r_k[kv_of_head].mT)
    return ov, qk


def layout_features(
    components: ComponentTable, d_model: int, attention_of: AttentionWeightsOf, mlp_of: MlpWeightsOf
) -> np.ndarray:
    """float32 [components, 2 * SKETCH**2 + 2 * n]: spectra and sketches of every head and MLP; zeros for other rows.

    Heads compare by OV and QK, MLPs by the Gram matrices of what they read (W_in) and write (W_out). Sketches have unit
    norm, log spectra are centred and scaled to the same total variance within each kind.
    """
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(d_model, SKETCH, generator=generator) / SKETCH**0.5
    sketches = np.zeros((len(components), 2 * SKETCH**2), dtype=np.float32)
    spectra: dict[int, np.ndarray] = {}
    for layer in np.unique(components.layer[components.layer >= 0]).tolist():
        attention = attention_of(layer)
        heads = components.rows("head", layer)
        kv = [attention.kv_head(head) for head in range(len(heads))]
        q, k, v, o = (w.float().cpu() for w in (attention.w_q, attention.w_k, attention.w_v, attention.w_o))
        ov = (projection.T @ v)[kv] @ (o @ projection)
        qk = (projection.T @ q) @ (projection.T @ k)[kv].mT
        sketches[heads] = _unit(ov, qk)
        for row, *values in zip(heads.tolist(), *circuit_spectra(attention), strict=True):
            spectra[row] = torch.cat([(value + 1e-12).log().cpu() for value in values]).numpy()
        for row in components.rows("mlp", layer).tolist():
            mlp = mlp_of(layer)
            read, write = projection.T @ mlp["W_in"].float().cpu(), mlp["W_out"].float().cpu() @ projection
            sketches[row] = _unit((read @ read.T)[None], (write.T @ write)[None])[0]
    if not spectra:
        return sketches
    rows = np.fromiter(spectra, dtype=np.int64)
    logs = np.stack(list(spectra.values()))
    logs = (logs - logs.mean(axis=0)) / max(float(np.linalg.norm(logs - logs.mean(axis=0), axis=1).mean()), 1e-12)
    table = np.zeros((len(components), logs.shape[1]), dtype=np.float32)
    table[rows] = logs
    return np.concatenate([sketches, table], axis=1)


def _unit(*circuits: torch.Tensor) -> np.ndarray:
    """Flatten each [rows, SKETCH, SKETCH] circuit to unit norm and put them side by side."""
    flat = [circuit.flatten(1) / circuit.flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-12) for circuit in circuits]
    return torch.cat(flat, dim=1).numpy()
