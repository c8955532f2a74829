"""Every error that nmri3d raises on purpose.

    Nmri3dError
    ├── InputError              what the caller asked for cannot be: prompt, position, component, option
    │   └── NotFoundError           no session, job or array under this name
    ├── ModelError              the model cannot be used
    │   ├── ModelNotFoundError      no such id, folder or file; or no network to look for it
    │   ├── ModelAccessError        gated or private, and the token is missing or refused
    │   ├── ModelFormatError        pickle-only, broken, or holding NaN weights
    │   ├── ModelTooLargeError      needs more memory than there is
    │   └── UnsupportedModelError   loads, but cannot be scanned exactly (architecture, completeness)
    ├── AlignmentError          two arrays that do not belong to the same component table
    ├── BusyError               the one model is at work and the queue is full
    ├── Cancelled               the caller withdrew the request
    └── MachineError            something that the machine lacks (a library, a display, memory, disk)

A message names the cause and the remedy, in one or two sentences; page, REST and CLI show it as it is.
"""

from __future__ import annotations


class Nmri3dError(Exception):
    """Base of all deliberate errors. `str(error)` is the sentence that every edge shows."""


class InputError(Nmri3dError, ValueError):
    """A request that cannot be met as asked."""


class NotFoundError(InputError):
    """Something that the server keeps under a name (a session, a job, an array) is not there, or not any more."""


class ModelError(Nmri3dError):
    """A model that cannot be used."""


class ModelNotFoundError(ModelError):
    """No model under this name, or no way to look for one."""


class ModelAccessError(ModelError):
    """The model is gated or private and no valid token was given."""


class ModelFormatError(ModelError):
    """The files are there but cannot be trusted: pickle, damage, NaN."""


class ModelTooLargeError(ModelError):
    """The model does not fit in memory; the message tells the size needed and the size free, both also in bytes here."""

    def __init__(self, message: str, *, needed: int | None = None, free: int | None = None) -> None:
        super().__init__(message)
        self.needed = needed
        self.free = free


class UnsupportedModelError(ModelError):
    """The architecture is not known, or its components do not add up to its residual stream."""


class AlignmentError(Nmri3dError, ValueError):
    """Arrays of different component tables, or of different units, were put together."""


class BusyError(Nmri3dError):
    """The model is at work and no more requests are queued; `retry_after` is in how many seconds it may be asked again."""

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Cancelled(Nmri3dError):
    """The request was withdrawn before it ended; nothing of it is kept."""


class MachineError(Nmri3dError):
    """The machine lacks something: a library, a renderer, disk, a browser."""
