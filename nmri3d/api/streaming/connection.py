"""One connection of /ws/stream: reads what the client says, and sends what its streams have, in turn.

Convention. A message that cannot be followed is answered by an `error`; the connection goes on. It is closed only by
`faults` unreadable messages in a row (1008) and by the server's end (1012); frames beyond the server's own limit are closed
by the server's WebSocket layer (1009), texts that are no UTF-8 too (1007). Reading waits while answers are not taken, and
for whoever sends too much, so that nothing piles up here: the connection's own flow control reaches back to the client.

Left out: who may connect, which is `nmri3d.api.security`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from starlette.websockets import WebSocket, WebSocketDisconnect

from nmri3d.api.calls import client_of
from nmri3d.api.recording import SESSION_HEADER
from nmri3d.api.streaming.client_messages import Ack, Cancel, ClientMessage, Resume, name_in, read_message
from nmri3d.api.streaming.server_messages import Resumed, encode
from nmri3d.api.streaming.streams import Stream, Streams, error_message
from nmri3d.errors import BusyError, InputError, Nmri3dError

MOST_ANSWERS = 32
"""Answers that may wait to be sent before reading waits for them."""

NORMAL, POLICY, RESTART, BROKEN = 1000, 1008, 1012, 1006
"""Close codes (RFC 6455; 1012 by the IANA registry)."""


class Connection:
    """A client that is there."""

    def __init__(self, websocket: WebSocket, streams: Streams) -> None:
        self._websocket = websocket
        self._all = streams
        self._limits = streams.limits
        self._streams: list[Stream] = []
        self._answers: deque[str] = deque()
        self._something = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._faults = 0
        self._pace = _Pace(self._limits.messages_per_second)

    async def serve(self) -> None:
        """Carry messages until one side goes. What is under way is kept for a while where the connection broke, and
        withdrawn where the client said goodbye (1000) or the server ends."""
        receiving = asyncio.create_task(self._receive())
        sending = asyncio.create_task(self._send())
        code = BROKEN
        try:
            await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                code = receiving.result()
            elif error := sending.exception():
                raise error
        except WebSocketDisconnect as gone:
            code = gone.code
        finally:
            receiving.cancel()
            sending.cancel()
            await asyncio.gather(receiving, sending, return_exceptions=True)
            for stream in self._streams:
                if code in (NORMAL, POLICY, RESTART):
                    self._all.drop(stream)
                else:
                    self._all.detach(stream)
            self._streams.clear()

    # -- what a stream calls ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something waits to be sent."""
        self._something.set()

    def lose(self, stream: Stream) -> None:
        """Another connection goes on with this stream."""
        if stream in self._streams:
            self._streams.remove(stream)

    # -- reading ---------------------------------------------------------------------------------------------------------

    async def _receive(self) -> int:
        """Read until the connection ends; returns its close code."""
        while self._faults < self._limits.faults:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or BROKEN)
            await self._pace.keep()
            await self._has_room.wait()
            self._answer(message.get("text"))
        await self._websocket.close(POLICY, f"{self._faults} messages in a row could not be read")
        return POLICY

    def _answer(self, text: str | None) -> None:
        """Do what a message says, or answer why not."""
        try:
            message = self._read(text)
        except InputError as error:
            self._faults += 1
            name = name_in(text) if text is not None and len(text) <= self._limits.message_characters else None
            self._say(encode(error_message(error, name=name)))
            return
        self._faults = 0
        try:
            self._follow(message)
        except Nmri3dError as error:
            about = getattr(message, "stream_id", None)
            self._say(encode(error_message(error, stream_id=about, name=getattr(message, "id", None))))

    def _read(self, text: str | None) -> ClientMessage:
        if text is None:
            raise InputError("Messages are JSON texts, and this one was binary; send it as a text frame.")
        if len(text) > self._limits.message_characters:
            raise InputError(
                f"A message of {len(text):,} characters is too long, at most {self._limits.message_characters:,} are read; "
                "shorten the prompt."
            )
        return read_message(text)

    def _follow(self, message: ClientMessage) -> None:
        if isinstance(message, Cancel):
            self._all.cancel(message.stream_id)
        elif isinstance(message, Ack):
            self._all.acknowledge(message.stream_id, message.seq)
        elif isinstance(message, Resume):
            self._require_room()
            stream = self._all.resume(message.stream_id, message.after, self)
            self._say(encode(Resumed(stream_id=stream.id, id=stream.name, after=message.after)))
            self._streams.append(stream)
        else:
            self._require_room()
            session = message.session or self._websocket.headers.get(SESSION_HEADER)
            owner = client_of(self._websocket)
            self._streams.append(self._all.start(message, self, owner=owner, session=session))
        self.wake()

    def _require_room(self) -> None:
        if len(self._streams) >= self._limits.streams:
            raise BusyError(
                f"{self._limits.streams} streams are under way on this connection already; wait until one has ended, or "
                "cancel one."
            )

    def _say(self, text: str) -> None:
        """Answer with a message that belongs to no stream. Reading waits while too many of these do."""
        self._answers.append(text)
        if len(self._answers) >= MOST_ANSWERS:
            self._has_room.clear()
        self.wake()

    # -- sending ---------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Send what waits, one message at a time, each stream in turn. Raises WebSocketDisconnect when the client has gone."""
        while True:
            await self._something.wait()
            self._something.clear()
            while (text := self._next()) is not None:
                await self._websocket.send_text(text)
                self._settle()
                await asyncio.sleep(0)  # a connection that takes all at once must not hold up the others
            self._settle()

    def _next(self) -> str | None:
        if self._answers:
            self._has_room.set()
            return self._answers.popleft()
        for place, stream in enumerate(self._streams):
            if (text := stream.buffer.take()) is not None:
                self._streams.append(self._streams.pop(place))
                return text
        return None

    def _settle(self) -> None:
        """Let go of the streams of which everything has been sent."""
        for stream in [one for one in self._streams if one.over and not one.waits]:
            self._streams.remove(stream)
            self._all.settle(stream)


class _Pace:
    """A token bucket that waits instead of refusing: `per_second` messages, and two seconds' worth at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = 2 * per_second
        self._since = time.monotonic()

    async def keep(self) -> None:
        """Wait until another message may be read."""
        now = time.monotonic()
        self._left = min(2 * self._per_second, self._left + (now - self._since) * self._per_second) - 1
        self._since = now
        if self._left < 0:
            await asyncio.sleep(-self._left / self._per_second)
