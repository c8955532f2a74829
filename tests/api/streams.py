"""A live server for /ws/stream on a real socket, and a client that keeps count. The waits are bounded by PATIENCE."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter

import jsonschema
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from nmri3d.api import Security, create_app, stream
from nmri3d.api.streaming.server_messages import server_schema
from nmri3d.api.streaming.streams import Streams
from tests.service.fakes import PATIENCE


class Live:
    """A server that runs in a thread; `streams` is what it holds."""

    def __init__(self, service, limits=None, *, token="", store=None):
        made = []

        class Kept(Streams):
            def __init__(self, context, limits_of_module):
                super().__init__(context, limits or limits_of_module)
                made.append(self)

        original, stream.Streams = stream.Streams, Kept
        try:
            self.security = Security.for_address("127.0.0.1", 0, token=token)
            self.app = create_app(service, security=self.security, store=store)
        finally:
            stream.Streams = original
        (self.streams,) = made
        config = uvicorn.Config(
            self.app, port=0, log_config=None, lifespan="off", ws_per_message_deflate=False, timeout_graceful_shutdown=2
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run)
        self._clients = []

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self.server.started)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        for client in self._clients:
            client.close()
        self.stop()

    def stop(self):
        self.server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server did not end"

    def client(self, **options):
        self._clients.append(Client(self.port, **options))
        return self._clients[-1]


class Client:
    """One connection. Each message is checked: against the published schema, and that its `seq` follows the one before."""

    def __init__(self, port, *, name="127.0.0.1", query="", **options):
        self._open = contextlib.ExitStack()
        address = f"ws://{name}:{port}/ws/stream{query}"
        sock = options.pop("sock", None) or socket.create_connection(("127.0.0.1", port))
        self.socket = self._open.enter_context(connect(address, max_size=None, compression=None, sock=sock, **options))
        self.last = {}
        self._checked = Counter()

    def say(self, text=None, **message):
        self.socket.send(json.dumps(message) if text is None else text)

    def hear(self, timeout=PATIENCE):
        message = json.loads(self.socket.recv(timeout=timeout), parse_constant=_refuse)
        self._checked[message["type"]] += 1
        if self._checked[message["type"]] <= 20:  # checking takes longer than all the rest
            SERVER_MESSAGE.validate(message)
        if (seq := message.get("seq")) is not None:
            stream_id = message["stream_id"]
            expected = self.last.get(stream_id, seq - 1) + 1
            assert seq == expected, f"message {seq} after {expected - 1}"
            self.last[stream_id] = seq
        return message

    def hear_type(self, *kinds):
        """The next message of one of these types; progress messages are passed over."""
        while (message := self.hear())["type"] == "progress":
            pass
        assert message["type"] in kinds, message
        return message

    def hear_all(self):
        """Every message up to `done` or `error`, without progress."""
        messages = [self.hear_type(*KINDS)]
        while messages[-1]["type"] not in ("done", "error"):
            messages.append(self.hear_type(*KINDS))
        return messages

    def ask(self, **message):
        """Every message of a new stream, without progress."""
        self.say(**message)
        return self.hear_all()

    def closed(self):
        """Wait until the server closes; returns code and reason."""
        try:
            while True:
                self.socket.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")

    def abort(self):
        """Break the connection without a word."""
        with contextlib.suppress(OSError):
            self.socket.socket.shutdown(2)
        self.close()

    def close(self):
        """Say goodbye."""
        self._open.close()


def _refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


SERVER_MESSAGE = jsonschema.Draft202012Validator(server_schema())

KINDS = (
    *("started", "measured", "edges", "activation_frame", "scan_frame", "token_frame", "done", "resumed", "error"),
)


def wait_until(condition, patience=PATIENCE):
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)
