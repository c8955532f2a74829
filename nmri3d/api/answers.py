"""What many answers have in common: arrays that bring small contents along, tokens by text and id, and what OpenAPI says of
work that may be answered later.

Convention. Every array is offered by its link; one of at most MOST_INLINE numbers stands in the answer too, as nested lists
with null for NaN.

Left out: the links themselves (arrays.py) and how work becomes a job (calls.py).
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from nmri3d.api.calls import ACCEPTED
from nmri3d.api.errors import problems
from nmri3d.api.representations import RESULT_RESPONSE
from nmri3d.api.schema import Answer, ArrayLink

MOST_INLINE = 1000
"""Numbers of an array that stand in the answer itself."""

LARGEST_INTEGER = 2**31 - 1

Token = Annotated[
    Annotated[str, Field(min_length=1, max_length=1000)] | Annotated[int, Field(ge=0, le=LARGEST_INTEGER)],
    Field(description="a token, by its text or its id", examples=[" Paris", 7042]),
]
Index = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]
"""A layer or a position, negative from the end."""

Indices = Annotated[list[Index], Field(max_length=10_000)]
Seed = Annotated[int, Field(ge=0, le=2**53, description="of the random draws; the same seed gives the same answer")]


class NamedToken(Answer):
    """A token of the model's vocabulary; of a network of signals, one output."""

    text: str
    id: int

    @classmethod
    def of(cls, token: tuple[str, int]) -> NamedToken:
        """From text and id."""
        return cls(text=token[0], id=token[1])

    @classmethod
    def or_none(cls, token: tuple[str, int] | None) -> NamedToken | None:
        """From text and id, where there is one."""
        return None if token is None else cls.of(token)


class Array(ArrayLink):
    """An array: where it is, and its numbers themselves where they are few."""

    data: list[Any] | None = Field(
        description=f"the numbers as nested lists, null for NaN, where there are at most {MOST_INLINE:,}; else null"
    )

    @classmethod
    def of(cls, link: ArrayLink, array: np.ndarray) -> Array:
        """The array that stands behind a link."""
        return cls(**link.model_dump(), data=nested(array) if array.size <= MOST_INLINE else None)


def nested(array: np.ndarray) -> list[Any]:
    """Nested lists of plain values; None for NaN and infinities."""
    if array.dtype.kind != "f":
        return array.tolist()
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()


def responses(*statuses: int, file: bool = False) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route whose work `Calls.respond` runs, for its OpenAPI description.

    statuses  of problems beside those of every call; file: whether the result's own file can be asked for
    """
    described: dict[int | str, dict[str, Any]] = problems(409, *statuses) | ACCEPTED
    return described | {200: RESULT_RESPONSE} if file else described
