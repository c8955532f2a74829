"""A Hugging Face hub of our own on this machine: the two calls that loading makes, with the real one's error headers.

`GET /api/models/<id>[/revision/<revision>]` tells a repository's files; `HEAD` and `GET /<id>/resolve/<revision>/<file>`
give one. Refusals carry the `X-Error-Code` and status that huggingface_hub turns into its exceptions.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD_TOKEN = "hf_GoodTokenForTests1234"


@dataclass
class Repository:
    folder: Path
    gated: bool = False
    cut_at: int | None = None
    """Send only so many bytes of a weight file, then hang up."""


class FakeHub:
    """Serves `repositories`; `requests` lists what was asked, "METHOD path"."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.broken = False
        self.stopped = False
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def add(self, repo_id: str, folder: Path, **options: Any) -> Repository:
        self.repositories[repo_id] = Repository(folder, **options)
        return self.repositories[repo_id]

    def stop(self) -> None:
        """Nobody answers any more, as without a network; connections that are kept open are dropped."""
        self.stopped = True
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FakeHub:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.hub.stopped:
            self.close_connection = True
            return None
        path = self.path.split("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.broken:
            return self._refuse(503, "")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token != GOOD_TOKEN:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        api = re.fullmatch(r"/api/models/(.+?)(?:/revision/([^/]+))?", path)
        file = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        repo_id, revision = (api or file or re.match("(.*)(.*)", ""))[1], (api or file)[2] if api or file else None
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            return self._refuse(404 if token else 401, "RepoNotFound")
        if revision not in (None, "main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if api:
            return self._send(json.dumps(_info(repo_id, repository)).encode(), body=body)
        if repository.gated and token != GOOD_TOKEN:
            return self._refuse(401, "GatedRepo")
        wanted = repository.folder / file[3]
        if not wanted.is_file():
            return self._refuse(404, "EntryNotFound")
        cut = repository.cut_at if wanted.suffix == ".safetensors" else None
        self._send(wanted.read_bytes(), body=body, cut=cut)

    def _send(self, content: bytes, *, body: bool, cut: int | None = None) -> None:
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content[start : cut if cut is not None else None])
            if cut is not None:
                self.close_connection = True

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _info(repo_id: str, repository: Repository) -> dict[str, Any]:
    files = sorted(path for path in repository.folder.iterdir() if path.is_file())
    return {
        "id": repo_id,
        "modelId": repo_id,
        "sha": COMMIT,
        "private": False,
        "gated": "manual" if repository.gated else False,
        "tags": [],
        "siblings": [{"rfilename": path.name, "size": path.stat().st_size, "blobId": "0" * 40} for path in files],
    }
