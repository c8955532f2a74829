"""What schemathesis must be told of this API: a zip file is sent as it is."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/zip")
def as_it_is(context: Any, value: Any) -> bytes:
    """Bytes, whatever was generated."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
