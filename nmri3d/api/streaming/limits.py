"""How much a connection and its streams may take. One place, so that tests and operators can choose other figures."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class StreamLimits:
    """Bounds of /ws/stream.

    message_characters    of one client message; longer ones are answered by an error
    faults                messages in a row that cannot be read, after which the connection is closed (1008)
    messages_per_second   of one connection, with a burst of two seconds; whoever sends more is read more slowly
    streams               under way on one connection
    all_streams           under way on all connections together, those of broken connections included
    waiting_bytes         made for a stream and not yet sent (or, where the client acknowledges, not yet acknowledged);
    waiting_messages      when either is reached the stream's work pauses
    kept_bytes            sent, never acknowledged, and kept for a `resume`; older messages fall out
    ended_bytes           kept for a `resume` of all streams that have ended, together
    grace_seconds         how long a stream outlives its connection, and its own end
    stall_seconds         how long work pauses for a client that takes nothing, before it is cancelled
    """

    message_characters: int = MIB
    faults: int = 100
    messages_per_second: float = 200.0
    streams: int = 8
    all_streams: int = 32
    waiting_bytes: int = MIB
    waiting_messages: int = 256
    kept_bytes: int = 4 * MIB
    ended_bytes: int = 32 * MIB
    grace_seconds: float = 60.0
    stall_seconds: float = 300.0
