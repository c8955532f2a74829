"""The nnsight backend: models that TransformerLens has no adapter for, and a second opinion on those that it has.

The parts of the model are found by `nmri3d.models.discovery`, its passes are nnsight's traces, all else is the same code as
for the TransformerLens backend, so the numbers are the same. `backend.nnsight` is the traced model for a user's own traces.

Left out: models that run elsewhere (`nmri3d.models.remote`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nmri3d.models.backend import Progress, no_progress
from nmri3d.models.discovery import module_paths
from nmri3d.models.load_checks import TEST_PROMPT, require_known_blocks
from nmri3d.models.nnsight_passes import NnsightPasses
from nmri3d.models.progress import part
from nmri3d.models.transformer import Transformer

if TYPE_CHECKING:
    from nmri3d.models.loading import Checkpoint


class NnsightBackend(Transformer):
    """A language model traced by nnsight."""

    name = "nnsight"

    def __init__(self, checkpoint: Checkpoint, *, progress: Progress = no_progress) -> None:
        """As `Transformer`; the parts that were found are checked on a recorded pass.

        Raises UnsupportedModelError for an architecture whose parts are not found, or are not what they seem, and
        MachineError where nnsight is not installed.
        """
        paths = module_paths(checkpoint.hf_model)
        passes = NnsightPasses(checkpoint.hf_model)
        super().__init__(checkpoint, paths, passes, progress=part(progress, 0.0, 0.9))
        progress(0.9, "checking the parts of the blocks")
        require_known_blocks(self._modules, self.record(self.stimulus(TEST_PROMPT)), self._projections)

    @property
    def nnsight(self) -> Any:
        """The model as nnsight sees it: `with backend.nnsight.trace(input_ids=…):`."""
        assert isinstance(self._passes, NnsightPasses)
        return self._passes.model
