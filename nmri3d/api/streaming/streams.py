"""All streams of the server: how one begins, ends, outlives its connection, and is forgotten.

Convention. A stream belongs to no connection: it is attached to one, goes on for `grace_seconds` when that breaks, and can be
attached to another by its id, which nobody can guess. Its work is one job of the service. Everything here runs in the event
loop but `Stream.emit` and `Stream.wait_for_room`, which its worker thread calls.

Left out: reading and writing the connection (connection.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

from nmri3d.api.context import Context
from nmri3d.api.errors import from_error
from nmri3d.api.recording import Recording
from nmri3d.api.streaming.buffer import Buffer
from nmri3d.api.streaming.client_messages import GenerateStream, Start
from nmri3d.api.streaming.limits import StreamLimits
from nmri3d.api.streaming.producing import produce_generation, produce_scan
from nmri3d.api.streaming.server_messages import ErrorMessage, Numbered, Problem, Started, encode
from nmri3d.errors import BusyError, InputError, NotFoundError
from nmri3d.models.backend import Progress
from nmri3d.service import Job


class Listener(Protocol):
    """A connection, as far as a stream knows it."""

    def wake(self) -> None:
        """Something waits to be sent. Called in the event loop."""

    def lose(self, stream: Stream) -> None:
        """The stream is no longer this connection's."""


class Stream:
    """One stream: its messages, its work and its connection.

    name        as the client called it, None where it did not
    job         its work, once begun
    over        whether its last message is there
    connection  where its messages go; None while it is between two connections
    """

    def __init__(self, name: str | None, limits: StreamLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.id = secrets.token_urlsafe(16)
        self.name = name
        self.buffer = Buffer(limits)
        self.job: Job[None] | None = None
        self.over = False
        self.connection: Listener | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self._loop = loop

    @property
    def waits(self) -> bool:
        """Whether a message is there that was not sent."""
        return self.buffer.waits

    def emit(self, kind: type[Numbered], **fields: Any) -> None:
        """Add a message; never waits. One thread at a time: the loop before the work, the worker, the loop after it."""
        self._append(kind.model_construct(stream_id=self.id, id=self.name, seq=self.buffer.last + 1, **fields))

    def fail(self, error: Exception) -> None:
        """Add the last message of a stream that did not come to its end."""
        self._append(error_message(error, stream_id=self.id, name=self.name, seq=self.buffer.last + 1))

    def wait_for_room(self, check: Callable[[], None]) -> None:
        """Wait until the client has taken enough; see `Buffer.wait_for_room`."""
        self.buffer.wait_for_room(check)

    def _append(self, message: Numbered | ErrorMessage) -> None:
        self.buffer.append(encode(message))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to read it
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self.connection is not None:
            self.connection.wake()


class Streams:
    """Every stream of the server, by id."""

    def __init__(self, context: Context, limits: StreamLimits) -> None:
        self.limits = limits
        self._context = context
        self._streams: dict[str, Stream] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def nbytes(self) -> int:
        """Bytes of all messages that are held."""
        return sum(stream.buffer.nbytes for stream in self._streams.values())

    def start(self, asked: Start, connection: Listener, *, owner: Hashable, session: str | None) -> Stream:
        """Begin a stream on a connection.

        owner    whose work it is
        session  id of the session that records it

        Raises BusyError when too much is under way and what `Service.require_backend` raises.
        """
        model = self._context.service.require_backend().info.model_id
        if sum(not stream.over for stream in self._streams.values()) >= self.limits.all_streams:
            raise BusyError(
                f"{self.limits.all_streams} streams are under way already, as many as this server takes; wait until some "
                "have ended, then ask again."
            )
        stream = Stream(asked.id, self.limits, asyncio.get_running_loop())
        name = "The generation" if isinstance(asked, GenerateStream) else f"The {asked.mode} scan"
        stream.emit(Started, model=model)
        stream.job = self._context.service.run(partial(self._work, stream, asked, session), owner=owner, name=name)
        self._streams[stream.id] = stream
        stream.connection = connection
        watcher = asyncio.create_task(self._watch(stream, stream.job))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return stream

    def find(self, stream_id: str) -> Stream:
        """A stream that is there. Raises NotFoundError."""
        if (stream := self._streams.get(stream_id)) is None:
            raise NotFoundError(
                f"There is no stream {stream_id}, or not any more: one that ended, or whose connection broke, is kept for "
                f"{self.limits.grace_seconds:.0f} seconds. Ask anew."
            )
        return stream

    def resume(self, stream_id: str, after: int, connection: Listener) -> Stream:
        """Attach a stream to a connection, its messages after `after` to be sent again. Raises NotFoundError for a stream that
        is not there, InputError for messages that are not."""
        stream = self.find(stream_id)
        stream.buffer.rewind(after)
        self._stop_expiry(stream)
        if stream.connection is not None:
            stream.connection.lose(stream)
        stream.connection = connection
        return stream

    def cancel(self, stream_id: str) -> None:
        """Withdraw a stream's work. Raises NotFoundError, and InputError for one that is over."""
        stream = self.find(stream_id)
        if stream.over:
            raise InputError(f"The stream {stream_id} is over already, so there is nothing to cancel.")
        assert stream.job is not None
        stream.job.cancel()

    def acknowledge(self, stream_id: str, seq: int) -> None:
        """The client has everything up to `seq`. Raises NotFoundError, and InputError for what was not sent."""
        stream = self.find(stream_id)
        stream.buffer.acknowledge(seq)
        if stream.over and stream.buffer.is_empty:
            self.drop(stream)

    def detach(self, stream: Stream) -> None:
        """The stream's connection broke: keep it for a while."""
        stream.connection = None
        self._expire_later(stream)

    def settle(self, stream: Stream) -> None:
        """All of a stream that is over has been sent: keep it for a while, and not too many such."""
        stream.connection = None
        if stream.buffer.is_empty:  # all was acknowledged
            self.drop(stream)
            return
        self._expire_later(stream)
        ended = [one for one in self._streams.values() if one.over and not one.waits]
        excess = sum(one.buffer.nbytes for one in ended) - self.limits.ended_bytes
        for one in ended:
            if excess <= 0:
                break
            excess -= one.buffer.nbytes
            self.drop(one)

    def drop(self, stream: Stream) -> None:
        """Forget a stream and withdraw its work. Doing it twice does no harm."""
        self._stop_expiry(stream)
        self._streams.pop(stream.id, None)
        if stream.job is not None:
            stream.job.cancel()

    def _expire_later(self, stream: Stream) -> None:
        self._stop_expiry(stream)
        loop = asyncio.get_running_loop()
        stream.expiry = loop.call_later(self.limits.grace_seconds, self.drop, stream)

    def _stop_expiry(self, stream: Stream) -> None:
        if stream.expiry is not None:
            stream.expiry.cancel()
            stream.expiry = None

    # -- the work ------------------------------------------------------------------------------------------------------

    def _work(self, stream: Stream, asked: Start, session: str | None, progress: Progress) -> None:
        """What the worker thread does."""
        context = self._context
        recording = Recording(context.service, context.sessions.open(session) if session else None)
        if isinstance(asked, GenerateStream):
            produce_generation(stream, context, asked, recording, progress)
        else:
            produce_scan(stream, context, asked, recording, progress)

    async def _watch(self, stream: Stream, job: Job[None]) -> None:
        """Wait for the end of a stream's work and tell it."""
        try:
            await job
        except Exception as error:
            stream.fail(error)
        stream.over = True
        if stream.connection is not None:
            stream.connection.wake()


def error_message(
    error: Exception, *, stream_id: str | None = None, name: str | None = None, seq: int | None = None
) -> ErrorMessage:
    """An error as a message, in the words and under the status that REST gives it."""
    response = from_error({}, error)
    problem = json.loads(bytes(response.body))
    after = response.headers.get("retry-after")
    return ErrorMessage(
        stream_id=stream_id,
        id=name,
        seq=seq,
        error=Problem(**problem),
        retry_after=None if after is None else int(after),
    )
