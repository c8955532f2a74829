"""A trame client without a browser: wslink's messages over a plain WebSocket, and a page that counts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import weakref

import httpx
import msgpack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wslink.chunking import UnChunker, generate_chunks

from nmri3d.app.serve import WebServer
from tests.service.fakes import PATIENCE


class CountingPage:
    """A page with one number, a call that waits, and a memory of all pages that were made."""

    made: list[weakref.ref] = []  # noqa: RUF012  (shared on purpose)
    closed: list[str] = []  # noqa: RUF012

    def __init__(self, server, service):
        from trame.ui.html import DivLayout
        from trame.widgets import html

        self.server, self.service = server, service
        self.released = asyncio.Event()
        server.state.n = 0
        server.state.trame__title = "Counting <page>"
        server.trigger("add")(self.add)
        server.trigger("wait")(self.wait)
        server.trigger("release")(self.release)
        server.trigger("work")(self.work)
        with DivLayout(server):
            html.Button("{{ n }}", click="trigger('add', [1])")
        CountingPage.made.append(weakref.ref(server))

    def add(self, amount):
        self.server.state.n += amount

    async def wait(self):
        await self.released.wait()
        return "waited"

    def release(self):
        self.released.set()

    def work(self):
        """Work that ends only when it is withdrawn."""

        def until_cancelled(progress):
            pause = threading.Event()
            while True:
                progress(0.5, "working")
                pause.wait(0.005)

        self.service.run(until_cancelled, owner=self.server.name)

    async def close(self):
        CountingPage.closed.append(self.server.name)


class Wire:
    """One connection of one visitor."""

    def __init__(self, server, path, cookie, secret):
        self._open = contextlib.ExitStack()
        address = f"ws://127.0.0.1:{server.port}{path}ws"
        self.socket = self._open.enter_context(connect(address, additional_headers={"Cookie": cookie}, max_size=None))
        self._chunks = UnChunker()
        self._chunks.set_max_message_size(2**30)
        self._ids = itertools.count()
        self.hello = self.call("wslink.hello", {"secret": secret}, prefix="system")

    def send(self, method, *args, prefix="call"):
        number = f"{prefix}:{next(self._ids)}"
        message = msgpack.packb({"wslink": "1.0", "id": number, "method": method, "args": list(args)})
        for chunk in generate_chunks(message, 2**20):
            self.socket.send(chunk)
        return number

    def answer(self, number):
        while True:
            message = self._chunks.process_chunk(self.socket.recv(timeout=PATIENCE))
            if message is not None and message.get("id") == number:
                return message

    def call(self, method, *args, prefix="call"):
        return self.answer(self.send(method, *args, prefix=prefix))

    def trigger(self, name, *args):
        return self.call("trame.trigger", name, list(args), {})["result"]

    @property
    def state(self):
        return self.call("trame.state.get")["result"]["state"]

    def close(self):
        self._open.close()


class Person:
    """A browser as far as the server can tell: it enters by the address with the token, and keeps cookies."""

    def __init__(self, server):
        self.server = server
        self.wires = []
        server.people.append(self)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE)
        self.http.get(server.url)

    def enter(self):
        """Path and secret of a new visit."""
        answer = self.http.get("/", headers={"accept": "text/html"})
        assert answer.status_code == 303, answer.text
        path, _, secret = answer.headers["location"].partition("?secret=")
        return f"/{path}", secret

    def visit(self):
        """A new visit with its page given and its connection open."""
        path, secret = self.enter()
        assert self.http.get(path).status_code == 200
        return self.join(path, secret), path, secret

    def join(self, path, secret):
        cookie = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        self.wires.append(Wire(self.server, path, cookie, secret))
        return self.wires[-1]

    def close(self):
        for wire in self.wires:
            wire.close()
        self.http.close()


@contextlib.contextmanager
def running(service, **options):
    """A WebServer that answers, in a thread of its own."""
    server = WebServer(service, port=0, **{"make_page": CountingPage, **options})
    server.people = []
    answering = threading.Event()
    server.on_answering(answering.set)
    errors = []

    def serve():
        try:
            asyncio.run(server.serve())
        except BaseException as error:
            errors.append(error)
            answering.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert answering.wait(PATIENCE * 3), "the server never answered"
        if errors:
            raise errors[0]
        yield server
    finally:
        server.stop()
        for person in server.people:
            person.close()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server did not end"
    if errors:
        raise errors[0]


def close_code(wire):
    """Wait for the other side to close and return its code."""
    try:
        while True:
            wire.socket.recv(timeout=PATIENCE)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
