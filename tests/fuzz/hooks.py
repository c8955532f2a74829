"""What schemathesis must be told of this API: a zip file is sent as it is, and work that may be as long as one likes is kept
short, so that an answer that does not come is a hang."""

from __future__ import annotations

from typing import Any

import schemathesis

SHORT = {"n_tokens": (16, 1024), "draws": (2, 1000), "steps": (3, 100)}
"""Fields that multiply the work: what is tried at most, and the largest that is allowed (larger ones are sent as they are)."""


@schemathesis.serializer("application/zip")
def as_it_is(context: Any, value: Any) -> bytes:
    """Bytes, whatever was generated."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Keep valid work short; what is not valid stays as it was generated."""
    if not isinstance(case.body, dict):
        return
    for name, (short, largest) in SHORT.items():
        value = case.body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and short < value <= largest:
            case.body[name] = short
