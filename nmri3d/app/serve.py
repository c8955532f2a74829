"""`nmri3d serve`: one process, one port, one model; page, REST and messages behind one guard.

Convention. Certificate and port are tried first, so that a wrong file or a busy port is told before anything costly begins.
Then the model loads in one thread while the picture's libraries are imported in another; the address answers meanwhile and
the page shows the load. The browser opens when the page can answer. SIGINT and SIGTERM end it in good order: no request is
taken any more (503), what runs is withdrawn, visitors and sessions are closed, and the code is 0; a second one ends at once.

Left out: several processes, against which the one model speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import os
import ssl
import webbrowser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from nmri3d.app.ending import stopping_on_signals
from nmri3d.app.garbage import collecting_garbage_later
from nmri3d.app.listening import bind, tls_context
from nmri3d.app.logs import LogFormat, ServerLog
from nmri3d.errors import MachineError
from nmri3d.models.backend import Progress
from nmri3d.models.location import exists, local_path
from nmri3d.service import Job, Service
from nmri3d.service.sessions import SessionStore

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nmri3d.app.visitors import MakePage

SHUTDOWN_SECONDS = 3
"""How long answers that are under way may still take when the server is stopped."""

MAX_MESSAGE_BYTES = 16 * 2**20
"""Largest message that a WebSocket takes; the page's client cuts what it sends into smaller pieces."""


class WebServer:
    """The server around a service: bound when made, answering while `serve` runs, ended by `stop`.

    make_page    builds a visitor's page; None: `nmri3d.app.page.Page`
    token, allowed_hosts, frame_ancestors   see `nmri3d.api.security.Security.for_address`
    tls_cert, tls_key                       see `nmri3d.app.listening.tls_context`
    models_from  folders that local models may be loaded from by callers; None: all of this machine where only this machine
                 can call, else none
    sessions     folder of recorded sessions; None: nmri3d's own. `store` is what is made of it
    rate         requests a second of one caller; 0: as many as they like
    max_visitors, grace_seconds             see `nmri3d.app.visitors.Visitors`

    Raises MachineError for a port that cannot be had, InputError for rules that are not safe and files that are no
    certificate.
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
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        models_from: Iterable[str | os.PathLike[str]] | None = None,
        sessions: str | os.PathLike[str] | None = None,
        rate: float = 50.0,
        render: Literal["client", "remote"] = "client",
        make_page: MakePage | None = None,
        max_visitors: int = 16,
        grace_seconds: float = 30.0,
    ) -> None:
        from nmri3d.api.limits import Limits
        from nmri3d.api.metrics import Metrics
        from nmri3d.api.security import Security, is_loopback

        self._service = service
        self._tls = tls_context(tls_cert, tls_key)
        self.limits = Limits.at_rate(rate)
        self.metrics = Metrics(service)
        allowed_hosts = tuple(allowed_hosts)
        self.is_public = not is_loopback(host) or bool(allowed_hosts)
        self._listener = bind(host, port)
        try:
            self.host, self.port = host, self._listener.getsockname()[1]
            self.security = Security.for_address(
                host, self.port, token=token, allowed_hosts=allowed_hosts, frame_ancestors=frame_ancestors
            )
        except BaseException:
            self._listener.close()
            raise
        if models_from is None and self.is_public:
            models_from = ()
        service.model_folders = (
            None if models_from is None else tuple(local_path(os.fspath(folder)).resolve() for folder in models_from)
        )
        self.store = SessionStore(None if sessions is None else Path(sessions))
        self._render = render
        self._make_page = make_page
        self._max_visitors = max_visitors
        self._grace_seconds = grace_seconds
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked = False
        self._on_answering: list[Callable[[], None]] = []

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS itself."""
        return self._tls is not None

    @property
    def address(self) -> str:
        """Address without its token, with a name that this machine can open."""
        host = self.host.strip("[]")
        with contextlib.suppress(ValueError):
            parsed = ipaddress.ip_address(host)
            if parsed.is_unspecified:
                host = "127.0.0.1" if parsed.version == 4 else "::1"
        scheme = "https" if self.is_encrypted else "http"
        return f"{scheme}://[{host}]:{self.port}/" if ":" in host else f"{scheme}://{host}:{self.port}/"

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
        self.limits.closing = True
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
        self._server = _uvicorn_server(self._application(page_ready), self._tls)
        self._loop = asyncio.get_running_loop()
        self._server.should_exit = self._stop_asked
        announce = asyncio.create_task(self._announce(page_ready))
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            announce.cancel()
            self._listener.close()
            await self.visitors.close_all()
            await asyncio.to_thread(self.store.close)
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
        return lambda server, service: Page(server, service, render=self._render, store=self.store)

    def _application(self, page_ready: Job[MakePage]) -> FastAPI:
        from nmri3d.api.application import create_app
        from nmri3d.app.exporting import Exporter
        from nmri3d.app.visitors import Visitors

        async def load_page() -> MakePage:
            return await page_ready

        self.visitors = Visitors(self._service, load_page, limit=self._max_visitors, grace_seconds=self._grace_seconds)
        self.metrics.watch("visitors", "Tabs that have the page open.", lambda: len(self.visitors))

        app = create_app(
            self._service,
            security=self.security,
            store=self.store,
            picturing=Exporter(self._service),
            limits=self.limits,
            metrics=self.metrics,
        )
        self.visitors.install(app)
        return app


def run(
    service: Service | None = None,
    *,
    open_browser: bool = True,
    model: str | None = "smollm2-135m",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    backend: str = "auto",
    trust_remote_code: bool = False,
    models_from: Iterable[str | os.PathLike[str]] | None = None,
    log_format: LogFormat = "text",
    log_level: str | None = None,
    **options: Any,
) -> bool:
    """Serve until SIGINT or SIGTERM; prints the address with its token, and the progress of the load. `options` are those of
    `WebServer`.

    model      what to load meanwhile; None: nothing, the page asks. A load that fails is told here and on the page, where
               another model can be chosen. A local one may be loaded again by callers too
    backend, trust_remote_code   of this model only; nobody who calls can ask for remote code
    log_level  "debug", "info", "warning" or "error"; None: warnings in text, everything from "info" on in JSON

    Returns whether all work had ended; where it had not, leave by `nmri3d.app.ending.leave_at_once`. Raises MachineError for
    a port that cannot be had or libraries that are missing, InputError for rules that are not safe.
    """
    from nmri3d.app.terminal import Terminal

    service = service or Service()
    server = WebServer(service, models_from=models_from, **options)
    if model is not None and service.model_folders is not None and exists(local_path(model)):
        service.model_folders = (*service.model_folders, local_path(model).resolve())
    level = log_level or ("info" if log_format == "json" else "warning")
    with (
        stopping_on_signals(server.stop),
        collecting_garbage_later(service) if model else contextlib.nullcontext(),
        ServerLog(service, log_format, level, [server.security.token]) as log,
    ):
        if model is not None:
            load = functools.partial(
                service.load,
                model,
                device=device,
                dtype=dtype,
                revision=revision,
                backend=backend,
                trust_remote_code=trust_remote_code,
            )
            service.run(lambda progress: load(progress=progress), name=f"Loading {model}")
        with Terminal(service) if log_format == "text" else contextlib.nullcontext() as terminal:
            if terminal is None:
                log.say_address(server.address, "" if options.get("token") else server.url)
            else:
                terminal.say(f"Neural MRI 3D is at {server.url}", "Press Ctrl+C to end it.")
                if server.is_public and not server.is_encrypted:
                    terminal.note(
                        "what passes between a browser and this server can be read on the way, its token too, unless a proxy "
                        "in front encrypts it or --tls-cert is given."
                    )
            if open_browser:
                server.on_answering(lambda: _open_browser(service, server.url))
            try:
                asyncio.run(server.serve())
            finally:
                ended = service.close()
    return ended


def _uvicorn_server(app: FastAPI, tls: ssl.SSLContext | None) -> Any:
    """The HTTP server; signals are not its business."""
    import uvicorn

    class Server(uvicorn.Server):
        def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
            return contextlib.nullcontext()

    config = uvicorn.Config(
        app,
        http="h11",  # the other parser takes headers without end
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # most of what is sent are float arrays, which hardly shrink
        ws_ping_timeout=60.0,  # a browser tab in the background may sleep
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    config.load()
    config.ssl = tls  # as checked and made before; uvicorn would read the files again by rules of its own
    return Server(config)


def _open_first_window(progress: Progress) -> None:
    """Import the plotter and load OpenGL while the model is still on its way, so that the first brain need not wait."""
    from nmri3d.scene.stage import Stage

    Stage(off_screen=True, background="black").close()


def _open_browser(service: Service, url: str) -> None:
    """Open the person's browser, in a thread, since some systems wait for the browser's end."""
    service.run(lambda progress: webbrowser.open(url), name="Opening the browser")
