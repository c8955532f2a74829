"""Shapes that all routes share: strict bodies, documented answers, and links to arrays.

Convention. A body is refused when it has a field that nobody knows or a value of another type (no "3" for 3, no 1 for
true): a slip must not become a measurement of something else. Layers and positions count from 0, negative ones from the
end. Null stands for what was not measured or is not defined.

Left out: what a request does, which is its route's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nmri3d.results import Prediction

MOST_CHARACTERS = 200_000
"""Characters of a prompt that are looked at; the model's context, in tokens, is far smaller."""

Prompt = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, examples=["The capital of France is"])]
ComponentId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        description="id of a component or neuron, or name of a residual site; `h7` may stand for `head_7`",
        examples=["blocks.3.attn.head_7", "blocks.5.mlp", "blocks.5.mlp.neuron_1247"],
    ),
]
Positions = Annotated[
    list[int] | Literal["all"], Field(description='token positions, negative ones from the end, or "all"')
]


class Body(BaseModel):
    """What a caller sends."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """What a caller gets."""

    model_config = ConfigDict(ser_json_inf_nan="null")


class ArrayLink(Answer):
    """An array that is fetched by itself, as bytes: `GET data_url`."""

    shape: list[int]
    dtype: str = Field(description="as numpy writes it: float32, int64, bool, …")
    dims: list[str] = Field(description="what each axis is: token, component, head, query, key, layer, …")
    data_url: str = Field(description="where it is; `?format=npy` or `arrow`, `?layers=` and `?positions=` for a part")


class TokenProbability(Answer):
    """A candidate for the next token; of a network of signals, one output."""

    token: str
    token_id: int
    logit: float = Field(description="raw logit; of a network of signals, the output's value")
    prob: float | None = Field(description="softmax over the whole vocabulary; null for a signal")

    @classmethod
    def of(cls, one: Prediction) -> TokenProbability:
        """The same as `nmri3d.results.Prediction`."""
        return cls(token=one.token, token_id=one.token_id, logit=one.logit, prob=one.probability)


class Metadata(Answer):
    """How an answer came about."""

    compute_time_ms: float = Field(description="wall time of the measurement itself, when it was made")
    memory_mb: float = Field(description="memory of the server's process now")
    gpu_memory_mb: float = Field(description="memory in use on the model's GPUs now; 0 without one")
    provenance: dict[str, Any] = Field(description="model, weights' fingerprint, options, versions, time")
