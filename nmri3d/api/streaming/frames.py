"""A scan as frames: its values layer by layer, at one token or at all.

Convention. Values are the scan's own, in its units; NaN becomes null. DTI's node scores belong to the whole prompt, so they
stand in every token's frame, and what changes from token to token there is where the heads look.

Left out: numbers and texts around the frames (server_messages.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmri3d.api.layers import layers_of
from nmri3d.api.streaming.server_messages import LayerFrame, ScanLayer
from nmri3d.results import Scan

MOST_PATTERN_NUMBERS = 2**15
"""Numbers of attention patterns in one frame; more are to be had by link."""

MOST_FRAME_NUMBERS = 2**18
"""Values in one `scan_frame`."""

FIGURES = ("summary", "final_entropy", "one_minus_max_probability", "rarity")
"""Details of a FLAIR scan that are one number a token."""


class Frames:
    """The frames of one scan.

    tokens    labels of the prompt's tokens; empty for a scan of the weights
    patterns  attention patterns [heads, query, key] by block, or None to leave them out
    """

    def __init__(self, scan: Scan, tokens: tuple[str, ...], patterns: Mapping[int, np.ndarray] | None = None) -> None:
        self.scan, self.tokens = scan, tokens
        self._patterns = patterns or {}
        self._layers = layers_of(scan.components)

    def layers(self, token: int) -> list[LayerFrame]:
        """Every layer at one token, negative ones from the end."""
        values = self.scan.values[token if self.scan.tokens else 0]
        return [
            LayerFrame.model_construct(
                layer_id=layer.id,
                type=layer.type,
                activations=values[layer.rows].tolist(),
                attention_pattern=self._patterns[layer.block][:, token].tolist()
                if layer.type == "attention" and self._patterns
                else None,
            )
            for layer in self._layers
        ]

    def all_layers(self) -> list[ScanLayer]:
        """Every layer at all tokens."""
        return [
            ScanLayer.model_construct(
                layer_id=layer.id,
                type=layer.type,
                activations=self.scan.values[:, layer.rows].tolist(),
                attention_pattern=self._patterns[layer.block].tolist()
                if layer.type == "attention" and self._patterns
                else None,
            )
            for layer in self._layers
        ]

    def figures(self, token: int) -> dict[str, float | None]:
        """FLAIR's numbers of one token."""
        return {name: values[token] for name, values in self.all_figures().items()}

    def all_figures(self) -> dict[str, list[float | None]]:
        """FLAIR's numbers of every token."""
        details = self.scan.details
        return {name: details[name].tolist() for name in FIGURES if self.scan.mode == "FLAIR" and name in details}
