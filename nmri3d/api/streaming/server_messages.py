"""What a client gets on /ws/stream: JSON texts, one object a message.

Convention. Every message of a stream carries `stream_id` and `seq`, which counts that stream's messages from 1 without gaps,
and the client's own `id` where it gave one. What belongs to no stream (an answer to a message that cannot be read) has
neither. What is None is left out, NaN is null.

Left out: the frames' numbers (frames.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from nmri3d.api.layers import LayerType
from nmri3d.api.schema import Answer, ArrayLink


class Numbered(Answer):
    """A message of a stream."""

    stream_id: str
    id: str | None = Field(None, description="as the client named the stream; left out where it did not")
    seq: int = Field(ge=1, description="number of this message within its stream")


class Started(Numbered):
    """The stream is there: from now on it can be cancelled and resumed by its `stream_id`."""

    type: Literal["started"] = "started"
    model: str = Field(description="id of the loaded model")


class StreamProgress(Numbered):
    """What is being done, or waited for; at most five a second, and none while other messages wait to be sent."""

    type: Literal["progress"] = "progress"
    share: float = Field(description="0 to 1")
    what: str


class Measured(Numbered):
    """The scan is there; its frames follow."""

    type: Literal["measured"] = "measured"
    mode: str
    tokens: list[str] = Field(description="of the prompt, a BOS token included; empty for T1 and T2")
    units: str
    signed: bool = Field(description="whether a value's sign means something")
    activations_of: Literal["token", "prompt", "model"] = Field(
        description="what a frame's values belong to: its token; the whole prompt, so that they are equal in every frame "
        "(DTI's node scores); or the weights alone (T1, T2)"
    )
    n_frames: int
    compute_time_ms: float | None = Field(description="wall time of the measurement, when it was made")
    provenance: dict[str, Any]
    attention_patterns: dict[str, ArrayLink] | None = Field(
        None,
        description="DTI: links by layer to the patterns [heads, query, key], where they are too large for the frames",
    )


class Edges(Numbered):
    """DTI: the drawn circuit, the fewest edges that carry `share` of the total |score|, strongest first."""

    type: Literal["edges"] = "edges"
    source: list[str] = Field(description="ids of the components that write")
    target: list[str] = Field(description="ids of the components that read")
    slot: list[Literal["q", "k", "v", "mlp", "logits"]]
    score: list[float] = Field(description="positive supports the target token")
    total: float = Field(description="sum of |score| over all measured edges")
    count: int = Field(description="how many edges were measured")


class LayerFrame(Answer):
    """One layer at one token."""

    layer_id: str = Field(examples=["blocks.0.attn"])
    type: LayerType
    activations: list[float | None] = Field(description="one value a head; one for an embedding or an MLP")
    attention_pattern: list[list[float]] | None = Field(
        None, description="DTI: [heads][keys], where this token's query looks; left out where it is too large"
    )


class ActivationFrame(Numbered):
    """One token of a prompt."""

    type: Literal["activation_frame"] = "activation_frame"
    token_idx: int
    token: str
    layers: list[LayerFrame]
    figures: dict[str, float | None] = Field(
        description="FLAIR: summary, final_entropy, one_minus_max_probability and rarity of this token; else empty"
    )


class ScanLayer(Answer):
    """One layer at all tokens."""

    layer_id: str
    type: LayerType
    activations: list[list[float | None]] = Field(description="[rows][heads]; one row where values have no token")
    attention_pattern: list[list[list[float]]] | None = Field(
        None, description="DTI: [heads][queries][keys]; left out where it is too large"
    )


class ScanFrame(Numbered):
    """A whole scan."""

    type: Literal["scan_frame"] = "scan_frame"
    tokens: list[str]
    layers: list[ScanLayer]
    figures: dict[str, list[float | None]] = Field(description="as in `activation_frame`, one value a token")


class TokenFrame(Numbered):
    """One token that the model wrote, and its fMRI values."""

    type: Literal["token_frame"] = "token_frame"
    token_idx: int = Field(description="number among the written tokens, from 0 on")
    token: str
    token_id: int
    probability: float = Field(description="softmax over the whole vocabulary, at temperature 1")
    layers: list[LayerFrame]


class Done(Numbered):
    """The last message of a stream that came to its end."""

    type: Literal["done"] = "done"
    n_frames: int = Field(description="how many frames there were")


class Resumed(Answer):
    """The stream goes on over this connection. Not one of the stream's numbered messages."""

    type: Literal["resumed"] = "resumed"
    stream_id: str
    id: str | None = None
    after: int


class Problem(Answer):
    """Problem details (RFC 9457)."""

    type: str = Field(description="urn:nmri3d:error: and the class of the error")
    title: str
    status: int = Field(description="the status that REST would answer with")
    detail: str = Field(description="cause and remedy, in a sentence")


class ErrorMessage(Answer):
    """The last message of a stream that failed or was cancelled; or, without `seq`, the answer to a message that could not be
    followed, after which the connection and its streams go on."""

    type: Literal["error"] = "error"
    stream_id: str | None = None
    id: str | None = None
    seq: int | None = None
    error: Problem
    retry_after: int | None = Field(None, description="seconds after which to ask again, where the server was busy")


ServerMessage = (
    Started
    | StreamProgress
    | Measured
    | Edges
    | ActivationFrame
    | ScanFrame
    | TokenFrame
    | Done
    | Resumed
    | ErrorMessage
)

_SERVER: TypeAdapter[ServerMessage] = TypeAdapter(Annotated[ServerMessage, Field(discriminator="type")])


def server_schema() -> dict[str, Any]:
    """JSON schema of what a client gets."""
    return _SERVER.json_schema(mode="serialization")


def encode(message: Answer) -> str:
    """A server message as text; fields that are None are left out, NaN becomes null."""
    return message.model_dump_json(exclude_none=True)
