"""`nmri3d serve`: one process, one port, one model; page, REST and messages behind one guard.

Convention. The port is bound first, so that a busy one is told before anything costly begins. Then the model loads in
one thread while the picture's libraries are imported in another; the address answers meanwhile and the page shows the
load. The browser opens when the page can answer. SIGINT and SIGTERM withdraw all work, close the visitors and end with
code 0; a second one ends at once.

Left out: TLS and several processes; a proxy in front does the first, and the one model speaks against the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import ipaddress
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from nmri3d.errors import MachineError
from nmri3d.models.backend import Progress
from nmri3d.service import Job, Service
from nmri3d.service.answers import require_integer
from nmri3d.service.events import Event, ModelFailed, ModelLoading, ModelReady, ModelUnloaded

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nmri3d.app.visitors import MakePage

DEFAULT_PORT = 8765


def bind(host: str, port: int | None) -> socket.socket:
    """A listening socket. `port` None means DEFAULT_PORT, or any free one where that is taken; 0 any free one.

    Raises MachineError, which names the address and the remedy, when it cannot be had, InputError for a port that cannot
    be.
    """
    wanted = DEFAULT_PORT if port is None else require_integer(port, "port", 0, 65535)
    try:
        return _bind(host, wanted)
    except OSError as error:
        if port is None:
            with contextlib.suppress(OSError):
                return _bind(host, 0)
        raise MachineError(
            f"Cannot listen on {host} port {wanted} ({error.strerror or error}); stop what uses it, choose another with "
            "--port, or leave --port out to get a free one."
        ) from None


def _bind(host: str, port: int) -> socket.socket:
    """Bind and listen; listening at once makes the port ours and lets early callers wait instead of being refused."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        listener.set_inheritable(True)
    except BaseException:
        listener.close()
        raise
    return listener


class WebServer:
    """The server around a service: bound when made, answering while `serve` runs, ended by `stop`.

    make_page   builds a visitor's page; None: `nmri3d.app.page.Page`
    token, allowed_hosts, frame_ancestors   see `nmri3d.api.security.Security.for_address`
    max_visitors, grace_seconds             see `nmri3d.app.visitors.Visitors`

    Raises MachineError for a port that cannot be had, InputError for rules that are not safe.
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        token: str | None = None,
        allowed_hosts: Iterable[str] = (),
        frame_ancestors: str = "'none'",
        render: Literal["client", "remote"] = "client",
        make_page: MakePage | None = None,
        max_visitors: int = 16,
        grace_seconds: float = 30.0,
    ) -> None:
        self._service = service
        self._listener = bind(host, port)
        try:
            from nmri3d.api.security import Security

            self.host, self.port = host, self._listener.getsockname()[1]
            self.security = Security.for_address(
                host, self.port, token=token, allowed_hosts=allowed_hosts, frame_ancestors=frame_ancestors
            )
        except BaseException:
            self._listener.close()
            raise
        self._render = render
        self._make_page = make_page
        self._max_visitors = max_visitors
        self._grace_seconds = grace_seconds
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked = False
        self._on_answering: list[Callable[[], None]] = []

    @property
    def address(self) -> str:
        """Address without its token, with a name that this machine can open."""
        host = self.host.strip("[]")
        with contextlib.suppress(ValueError):
            parsed = ipaddress.ip_address(host)
            if parsed.is_unspecified:
                host = "127.0.0.1" if parsed.version == 4 else "::1"
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    @property
    def url(self) -> str:
        """Address with its token, to be opened once."""
        return f"{self.address}?token={quote(self.security.token, safe='')}" if self.security.token else self.address

    def on_answering(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, when the page can answer."""
        self._on_answering.append(callback)

    def stop(self) -> None:
        """End `serve` in good order; asked twice, at once. Safe from any thread and from a signal handler."""
        asked_before, self._stop_asked = self._stop_asked, True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop_in_loop, asked_before)

    def _stop_in_loop(self, at_once: bool) -> None:
        self._server.should_exit = True
        self._server.force_exit = self._server.force_exit or at_once
        self._service.cancel_load()
        self._service.cancel_jobs(None)

    async def serve(self) -> None:
        """Answer until `stop`. Raises MachineError when the picture's libraries cannot be imported."""
        page_ready = self._service.run(self._import_page, name="Importing the page's libraries")
        import uvicorn

        config = uvicorn.Config(
            self._application(page_ready),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws_per_message_deflate=False,  # most of what is sent are float arrays, which hardly shrink
            ws_ping_timeout=60.0,  # a browser tab in the background may sleep
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._loop = asyncio.get_running_loop()
        self._server.should_exit = self._stop_asked
        announce = asyncio.create_task(self._announce(page_ready))
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            announce.cancel()
            self._listener.close()
            await self.visitors.close_all()
        if page_ready.done and not page_ready.cancelled:
            page_ready.result()  # raises what kept the page from being there

    async def _announce(self, page_ready: Job[MakePage]) -> None:
        """Tell that the page answers; or stop the server when its libraries cannot be imported."""
        try:
            await page_ready
        except Exception:
            self.stop()
            return
        while not self._server.started:
            await asyncio.sleep(0.01)
        for callback in self._on_answering:
            callback()
        if self._make_page is None:
            self._service.run(_open_first_window, name="Loading OpenGL")

    def _import_page(self, progress: Progress) -> MakePage:
        """The function that builds a page; importing it imports VTK and trame, which takes a second or two."""
        if self._make_page is not None:
            return self._make_page
        try:
            from nmri3d.app.page import Page
        except ImportError as error:
            raise MachineError(
                f"The page's libraries cannot be imported ({error}); install what is missing (on a bare Debian: apt "
                "install libegl1 libgl1), then run `nmri3d doctor`."
            ) from error
        return lambda server, service: Page(server, service, render=self._render)

    def _application(self, page_ready: Job[MakePage]) -> FastAPI:
        from nmri3d.api.application import create_app
        from nmri3d.app.visitors import Visitors

        async def load_page() -> MakePage:
            return await page_ready

        self.visitors = Visitors(self._service, load_page, limit=self._max_visitors, grace_seconds=self._grace_seconds)

        app = create_app(self._service, security=self.security)
        self.visitors.install(app)
        return app


def run(
    service: Service | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    frame_ancestors: str = "'none'",
    open_browser: bool = True,
    model: str | None = "smollm2-135m",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    render: Literal["client", "remote"] = "client",
    max_visitors: int = 16,
) -> None:
    """Serve until SIGINT or SIGTERM; prints the address with its token, and the progress of the load.

    model  what to load meanwhile; None: nothing, the page asks. A load that fails is told here and on the page, where
           another model can be chosen.

    Raises MachineError for a port that cannot be had or libraries that are missing, InputError for rules that are not
    safe.
    """
    service = service or Service()
    server = WebServer(
        service,
        host=host,
        port=port,
        token=token,
        allowed_hosts=allowed_hosts,
        frame_ancestors=frame_ancestors,
        render=render,
        max_visitors=max_visitors,
    )
    with _stopping_on_signals(server), _collecting_garbage_later(service) if model else contextlib.nullcontext():
        if model is not None:
            load = functools.partial(service.load, model, device=device, dtype=dtype, revision=revision)
            service.run(lambda progress: load(progress=progress), name=f"Loading {model}")
        from nmri3d.app.terminal import Terminal

        with Terminal(service) as terminal:
            terminal.say(f"Neural MRI 3D is at {server.url}", "Press Ctrl+C to end it.")
            if open_browser:
                server.on_answering(lambda: _open_browser(service, server.url))
            try:
                asyncio.run(server.serve())
            finally:
                service.close()


def _open_first_window(progress: Progress) -> None:
    """Import the plotter and load OpenGL while the model is still on its way, so that the first brain need not wait."""
    from nmri3d.scene.stage import Stage

    Stage(off_screen=True, background="black").close()


def _open_browser(service: Service, url: str) -> None:
    """Open the person's browser, in a thread, since some systems wait for the browser's end."""
    service.run(lambda progress: webbrowser.open(url), name="Opening the browser")


@contextlib.contextmanager
def _collecting_garbage_later(service: Service) -> Iterator[None]:
    """Collect no garbage until the first model is there, and leave out what is there by then until it is exchanged.

    Importing torch, transformers and VTK makes a million objects that live as long as the process; searching them for
    garbage again and again takes a fifth of the start.
    """
    settled = False

    def on_event(event: Event) -> None:
        nonlocal settled
        if not settled and isinstance(event, ModelReady | ModelFailed):
            settled = True
            gc.freeze()
            gc.enable()
        elif settled and isinstance(event, ModelLoading | ModelUnloaded):
            unsubscribe()
            gc.unfreeze()  # the first model may become garbage now

    gc.disable()
    unsubscribe = service.subscribe(on_event)
    try:
        yield
    finally:
        unsubscribe()
        gc.unfreeze()
        gc.enable()


@contextlib.contextmanager
def _stopping_on_signals(server: WebServer) -> Iterator[None]:
    """SIGINT and SIGTERM stop the server in good order. uvicorn puts its own handlers in front of these while it serves
    and, when it has ended, raises the signal again, which then finds ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        server.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
