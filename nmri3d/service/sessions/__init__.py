"""Recorded sessions: what was scanned, edited, looked at and noted, append-only on disk, to be replayed and given away.

A session is a folder: `events.jsonl`, one line an event with its checksum; `results/`, the measured results by hash; and
`session.json`, its title.

Convention. `Session.record` returns when its event (and its result) is on the disk: what was acknowledged survives a kill at
any moment. A torn last line is what was not acknowledged, and is dropped on opening. Times are ISO 8601 with offset. Sessions
are deleted only when someone asks for it.

Left out: running anything again, which is `nmri3d.service.replay`.
"""

from nmri3d.service.sessions.event import EVENT_KINDS, SessionEvent, stack_of_edits
from nmri3d.service.sessions.result_files import Result
from nmri3d.service.sessions.session import Session
from nmri3d.service.sessions.store import SessionStore, SessionSummary

__all__ = [
    "EVENT_KINDS",
    "Result",
    "Session",
    "SessionEvent",
    "SessionStore",
    "SessionSummary",
    "stack_of_edits",
]
