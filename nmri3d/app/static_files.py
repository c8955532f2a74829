"""Static files of the page: the trame client, its modules and our own scripts, read where they are installed.

Convention. Routes map a first part of the address ("" for the client itself) to a folder; the longest route wins. Only
regular files inside those folders are given, never by a link out of them, never a hidden one. Files carry an ETag and are
asked for again each time (304 when unchanged); text is compressed once and kept.

Left out: ranges and folder lists.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

MEDIA_TYPES = {
    # what a browser insists on, whatever the machine's own table of types says
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
    ".tpl": "text/html",
}
COMPRESSED = frozenset({".js", ".mjs", ".css", ".html", ".json", ".svg", ".wasm", ".tpl", ".map"})


class StaticFiles:
    """Files under a few folders. Thread-safe; new routes may be added while it serves."""

    def __init__(self, *, keep_bytes: int = 16 * 2**20) -> None:
        self._routes: dict[str, Path] = {}
        self._keep_bytes = keep_bytes
        self._compressed: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, routes: Mapping[str, str | Path]) -> None:
        """Add routes, address part -> folder; "" is the root. A route that is there is replaced."""
        for route, folder in routes.items():
            self._routes[route.strip("/")] = Path(folder).resolve()

    def find(self, path: str) -> Path | None:
        """The file at an address, None where there is none that may be given."""
        parts = path.split("/")
        if any(part in ("", ".", "..") or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
            return None
        for cut in range(len(parts) - 1, -1, -1):
            folder = self._routes.get("/".join(parts[:cut]))
            if folder is None:
                continue
            try:
                file = folder.joinpath(*parts[cut:]).resolve()
                if file.is_relative_to(folder) and file.is_file():
                    return file
            except OSError:  # a name that is too long, or a folder that may not be entered
                return None
        return None

    def respond(self, path: str, request: Request) -> Response | None:
        """The answer for an address, None where there is no file."""
        file = self.find(path)
        if file is None:
            return None
        status = file.stat()
        media_type = MEDIA_TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        compress = file.suffix in COMPRESSED and "gzip" in request.headers.get("accept-encoding", "")
        stamp = f"{file} {status.st_mtime_ns} {status.st_size} {compress}"
        tag = '"' + hashlib.sha256(stamp.encode()).hexdigest()[:20] + '"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if tag in [given.strip() for given in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        if not compress:
            return FileResponse(file, media_type=media_type, headers=headers)
        content = self._compress(tag, file)
        return Response(content, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})

    def _compress(self, tag: str, file: Path) -> bytes:
        with self._lock:
            content = self._compressed.get(tag)
            if content is None:
                # fast rather than small: the first visitor waits for it, and the processor is busy with imports
                content = gzip.compress(file.read_bytes(), 1, mtime=0)
                self._compressed[tag] = content
                while sum(map(len, self._compressed.values())) > self._keep_bytes and len(self._compressed) > 1:
                    self._compressed.popitem(last=False)
            self._compressed.move_to_end(tag)
            return content
