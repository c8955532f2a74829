"""What a client may say on /ws/stream: JSON texts, one object a message.

Convention. As for REST: unknown fields and values of another type are refused, so that a slip does not become a measurement of
something else.

Left out: what a message does (streams.py, producing.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from nmri3d.api.answers import Seed
from nmri3d.api.scan_requests import CircuitsRequest, WeightsRequest
from nmri3d.api.schema import Body, Prompt
from nmri3d.errors import InputError

_NAME = r"^[A-Za-z0-9_.:\-]{1,64}$"
Name = Annotated[str, Field(pattern=_NAME)]
NoPrompt = Annotated[None, Field(description="this scan looks at the weights and takes no prompt; leave it out")]
TokenStep = Annotated[
    bool, Field(description="true: one `activation_frame` a token; false: one `scan_frame` with all tokens")
]

MOST_WRITTEN = 1024
"""Tokens that one `generate_stream` may ask for."""


class _Start(Body):
    """Begins a stream."""

    id: Name | None = Field(None, description="the client's own name for the stream, repeated in each of its messages")
    session: Name | None = Field(
        None, description="id of the session that records it; else that of the header `Nmri3d-Session`"
    )


class T1Stream(_Start):
    """A T1 scan: one `scan_frame`."""

    type: Literal["scan_stream"]
    mode: Literal["T1"]
    prompt: NoPrompt = None
    token_step: TokenStep = True

    def options(self) -> dict[str, Any]:
        """As `T1Config` takes them."""
        return {}


class T2Stream(_Start, WeightsRequest):
    """A T2 scan: one `scan_frame`."""

    type: Literal["scan_stream"]
    mode: Literal["T2"]
    prompt: NoPrompt = None
    token_step: TokenStep = True


class FmriStream(_Start):
    """An fMRI scan of all components at all tokens."""

    type: Literal["scan_stream"]
    mode: Literal["fMRI"]
    prompt: Prompt
    token_step: TokenStep = True
    aggregation: Literal["l2_norm", "max", "mean"] = "l2_norm"

    def options(self) -> dict[str, Any]:
        """As `FmriConfig` takes them."""
        return {"aggregation": self.aggregation}


class DtiStream(_Start, CircuitsRequest):
    """A DTI scan with its drawn edges and the attention patterns."""

    type: Literal["scan_stream"]
    mode: Literal["DTI"]
    token_step: TokenStep = True

    def options(self) -> dict[str, Any]:
        """As `DtiConfig` takes them."""
        return {name: getattr(self, name) for name in CircuitsRequest.model_fields if name != "prompt"}


class FlairStream(_Start):
    """A FLAIR scan of all layers at all tokens."""

    type: Literal["scan_stream"]
    mode: Literal["FLAIR"]
    prompt: Prompt
    token_step: TokenStep = True
    alpha: float = Field(0.6, ge=0, description="weight of the KL's percentile in the score")
    beta: float = Field(0.4, ge=0, description="weight of the entropy's percentile; not 0 together with alpha")
    template: Literal["auto", "ready", "off"] = Field(
        "auto",
        description="the reference text's statistics: auto builds them where there are none yet (about a minute)",
    )

    def options(self) -> dict[str, Any]:
        """As `FlairConfig` takes them."""
        return {"alpha": self.alpha, "beta": self.beta, "template": self.template}


ScanStream = T1Stream | T2Stream | FmriStream | DtiStream | FlairStream


class GenerateStream(_Start):
    """Lets the model write; one `token_frame` for each token, as it is made."""

    type: Literal["generate_stream"]
    prompt: Prompt
    n_tokens: int = Field(ge=1, le=MOST_WRITTEN)
    temperature: float = Field(0.0, ge=0, le=100, description="0 takes the likeliest token")
    seed: Seed = 0


class Cancel(Body):
    """Ends a stream; its last message is an `error` of the type …:Cancelled."""

    type: Literal["cancel"]
    stream_id: Name


class Ack(Body):
    """Tells that everything up to `seq` has come. Optional; see `StreamLimits`."""

    type: Literal["ack"]
    stream_id: Name
    seq: int = Field(ge=1, lt=2**53)


class Resume(Body):
    """Goes on with a stream of a connection that broke: everything after `after` comes again, over this connection."""

    type: Literal["resume"]
    stream_id: Name
    after: int = Field(ge=0, lt=2**53, description="`seq` of the last message that has come; 0: none has")


Start = ScanStream | GenerateStream
ClientMessage = Start | Cancel | Ack | Resume

_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[
        Annotated[ScanStream, Field(discriminator="mode")] | GenerateStream | Cancel | Ack | Resume,
        Field(discriminator="type"),
    ]
)


def read_message(text: str) -> ClientMessage:
    """A client's message. Raises InputError, which names the field, for anything else."""
    try:
        return _CLIENT.validate_json(text)
    except ValidationError as error:
        complaints = error.errors(include_url=False, include_context=False, include_input=False)
        words = "; ".join(f"{_field(item['loc'])}: {item['msg'][:300]}" for item in complaints[:3])
        more = f" (and {len(complaints) - 3} more)" if len(complaints) > 3 else ""
        raise InputError(f"{words}{more}. The messages are described at /api/stream/schema.") from None


def name_in(text: str) -> str | None:
    """The `id` of a message that could not be read, where it has one, so that its sender knows what the answer is about."""
    try:
        message = from_json(text)
        return TypeAdapter(Name).validate_python(message["id"], strict=True)
    except (ValueError, TypeError, KeyError):
        return None


def _field(where: tuple[int | str, ...]) -> str:
    """Where in the message a complaint belongs, without the tags of `type` and `mode` that pydantic puts in front."""
    n_tags = 2 if where[:1] == ("scan_stream",) else 1
    return ".".join(map(str, where[n_tags:])) or "the message"


def client_schema() -> dict[str, Any]:
    """JSON schema of what a client sends."""
    return _CLIENT.json_schema()
