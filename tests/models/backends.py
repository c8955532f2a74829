"""Tiny backends of every family, made in memory, for tests that measure."""

from functools import cache
from types import SimpleNamespace

from nmri3d.models.transformer_lens import TransformerLensBackend
from tests.models.tiny import BOS_FAMILIES, tiny_model, tiny_tokenizer


def tiny_checkpoint(family: str, seed: int = 0) -> SimpleNamespace:
    """What `TransformerLensBackend` needs of a loaded checkpoint."""
    tokenizer = tiny_tokenizer(add_bos=family in BOS_FAMILIES)
    model = tiny_model(family, seed).requires_grad_(False)
    model.set_attn_implementation("eager")  # as `load` does, so that patterns can be read
    return SimpleNamespace(
        hf_model=model,
        tokenizer=tokenizer,
        model_id=f"tiny-{family}",
        title=f"tiny {family}",
        source="made in a test",
        warnings=(),
    )


@cache
def tiny_backend(family: str) -> TransformerLensBackend:
    """A backend that tests share and must not change."""
    return TransformerLensBackend(tiny_checkpoint(family))
