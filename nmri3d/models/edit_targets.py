"""Where edits of a decoder-only transformer act: a component's write, a neuron's activation, or the residual stream.

Residual sites are named as in TransformerLens: `blocks.5.hook_resid_pre`, `blocks.5.hook_resid_mid`, `hook_resid_final`.
"""

from __future__ import annotations

import re

from nmri3d.components import parse_component_id
from nmri3d.errors import InputError
from nmri3d.models.backend import EditTarget
from nmri3d.models.residual_backend import ResidualBackend

_RESIDUAL_SITE = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|mid)|hook_resid_final")


def transformer_target(model: ResidualBackend, component: str) -> EditTarget:
    """The site of a component, neuron or residual. Raises InputError for one that the model does not have."""
    d_model = model.info.d_model
    if isinstance(component, str) and _RESIDUAL_SITE.fullmatch(component):
        _require_residual_site(model, component)
        return EditTarget(component, None, d_model)
    key = parse_component_id(component) if isinstance(component, str) else None
    if key is not None and key.kind == "neuron":
        neuron = model.neurons.row(component)
        return EditTarget(f"blocks.{key.layer}.mlp.hook_post", key.index, None, neuron=neuron)
    row = model.components.row(component)
    kind, layer = str(model.components.kind[row]), int(model.components.layer[row])
    if kind == "unembed":
        raise InputError("unembed writes nothing to the residual stream, so there is nothing to edit; choose another")
    if kind == "embed":
        return EditTarget("hook_embed", None, d_model, row)
    if kind == "mlp":
        return EditTarget(f"blocks.{layer}.hook_mlp_out", None, d_model, row)
    column = row - int(model.components.rows(layer=layer)[0])
    return EditTarget(f"blocks.{layer}.attn.writes", column, d_model, row)


def stream_point(model: ResidualBackend, site: str) -> int:
    """The point of the stream (`nmri3d.models.recording`) that a residual site is."""
    match = _RESIDUAL_SITE.fullmatch(site)
    assert match is not None
    return 2 * model.info.n_layers if match[1] is None else 2 * int(match[1]) + (match[2] == "mid")


def _require_residual_site(model: ResidualBackend, site: str) -> None:
    layer, place = _RESIDUAL_SITE.fullmatch(site).groups()  # type: ignore[union-attr]  # the caller matched it
    n_layers, parallel = model.info.n_layers, model.info.parallel_blocks
    if layer is not None and (int(layer) >= n_layers or str(int(layer)) != layer or (place == "mid" and parallel)):
        places = "hook_resid_pre" if parallel else "hook_resid_pre and hook_resid_mid"
        raise InputError(
            f"{model.info.title} has no site {site!r}; it has blocks 0 to {n_layers - 1} with {places}, and hook_resid_final"
        )
