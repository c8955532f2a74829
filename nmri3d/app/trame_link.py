"""A trame server without a port of its own: made, started, joined to a WebSocket of ours, and taken down again.

Convention. trame's "generic" back end speaks through `endpoint.connect()`; static files are served elsewhere from the
folders that `start_server` returns. Everything here runs in the event loop. trame, wslink and trame-vtk keep servers in
lists of the whole process; a server is kept off those lists, or taken off when it stops, so that it can be freed.

Left out: what the server shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from nmri3d.app.vtk_deletion import guard_vtk_deletion

logger = logging.getLogger(__name__)

LINK_ROUTE = "nmri3d-link"
"""Static route of our own script that runs before trame's client."""

UNREADABLE = 1007
"""Close code of a WebSocket (RFC 6455) whose messages make no sense."""

MAX_CALLS = 64
"""Calls of one connection that may be under way at once; further messages wait."""


def client_html(server: Any) -> str:
    """The HTML that starts trame's client: its own index, without inline script, with our title and waiting picture."""
    index = Path(server._www, "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script\b[^>]*\bsrc=[^>]*></script>", index)
    styles = re.findall(r"<link\b[^>]*\brel=\"stylesheet\"[^>]*>", index)
    title = escape(str(server.state.trame__title or "Neural MRI 3D"))
    return (
        '<!doctype html><html lang="en" data-app-name="trame" data-launcher-retry="[]"><head><base href="../../static/">'
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{_WAITING_STYLE}</style>'
        f'<script src="{LINK_ROUTE}/start.js"></script>{"".join(scripts)}{"".join(styles)}</head><body>'
        "<noscript><p>This page is drawn by JavaScript; switch it on for this address, then reload.</p></noscript>"
        '<div id="app"><div class="nmri-waiting" role="status">Opening the scanner</div></div></body></html>'
    )


_WAITING_STYLE = (
    "html,body{margin:0;height:100%;background:#0a0c10;color:#66aa88;"
    "font:14px 'JetBrains Mono','Fira Code','Courier New',monospace}"
    ".nmri-waiting{position:fixed;inset:0;display:grid;place-items:center;letter-spacing:.12em}"
)


def new_server(visitor_id: str) -> Any:
    """A trame server of its own. It is not put on trame's list of servers, which would keep it for ever."""
    # trame reads sys.argv as if this were its own program ("--host", "--help"); an empty TRAME_ARGS stops that
    os.environ.setdefault("TRAME_ARGS", "")
    from trame.app.core import Server, VirtualNode

    server = Server(visitor_id, VirtualNode)
    server.client_type = "vue3"
    return server


async def start_server(server: Any, secret: str) -> dict[str, str]:
    """Start without a port of its own; returns its static routes."""
    guard_vtk_deletion()
    server.start(
        exec_mode="task",
        backend="generic",
        port=0,
        timeout=0,
        open_browser=False,
        show_connection_info=False,
        disable_logging=True,
    )
    await server.ready
    server.protocol.updateSecret(secret)
    return {**server._server.config.get("static", {}), LINK_ROUTE: str(Path(__file__).with_name("link"))}


async def stop_server(server: Any) -> None:
    """Stop a trame server and take it out of the places where trame, wslink and trame-vtk keep the last or every one."""
    import wslink.server
    from trame_client.widgets.core import HTML_CTX

    generic = server._server
    if server.running:
        await server.stop()
        await asyncio.sleep(0)  # its task ends in this turn
    core_server = sys.modules["trame_server.protocol"].CoreServer
    if core_server.server is server:
        core_server.server = None
    if generic is not None and wslink.server.ws_server is generic:
        wslink.server.ws_server = None
    if HTML_CTX._server is server:
        HTML_CTX._server = None
    trame_vtk = sys.modules.get("trame_vtk.modules.vtk")
    if trame_vtk is not None:
        trame_vtk.HELPERS_PER_SERVER.pop(server.name, None)


async def carry(websocket: WebSocket, server: Any) -> None:
    """Carry messages between the browser and trame until one of them goes."""
    endpoint = server._server["ws"]
    connection = await endpoint.connect()

    async def to_browser(is_binary: bool, message: bytes | str) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it left while this was on its way
            if is_binary:
                await websocket.send_bytes(message)  # type: ignore[arg-type]
            else:
                await websocket.send_text(message)  # type: ignore[arg-type]

    async def to_trame(data: bytes) -> None:
        try:
            await connection.send(True, SimpleNamespace(data=data))
        except Exception:  # not a message of trame's client: nothing sensible follows on this connection
            logger.warning("a message that trame cannot read", exc_info=True)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await websocket.close(UNREADABLE)

    connection.on_message(to_browser)
    # One task a message: tasks start in the order in which the messages came, and a call that waits for a scan does not
    # hold up the click on "cancel" behind it.
    tasks: set[asyncio.Task[None]] = set()
    try:
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            if (data := message.get("bytes")) is None:
                continue  # trame's client sends binary messages only
            task = asyncio.create_task(to_trame(data))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if len(tasks) >= MAX_CALLS:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except RuntimeError:  # our side closed the connection
        logger.debug("a connection was closed", exc_info=True)
    finally:
        for task in tuple(tasks):
            task.cancel()
        await connection.close()
        await endpoint.onClose(connection.client_id)
        endpoint.authentified_client_ids.discard(connection.client_id)
