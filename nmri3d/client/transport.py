"""Requests to a server: its errors become ours again, a busy server is waited for, long work is watched and withdrawn.

Convention. A problem of class X (`urn:nmri3d:error:X`) is raised as `nmri3d.errors.X` with the server's sentence. On 429 and
503 the client waits as long as `Retry-After` says and asks again, `patience` seconds in all. Work with a `progress` callback
runs as a job of the server: it is asked for its state, and cancelled there when `progress` raises.

Left out: which requests there are (remote.py), and streams (streaming.py).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import httpx

import nmri3d
from nmri3d import errors
from nmri3d.errors import BusyError, InputError, MachineError, ModelAccessError, Nmri3dError, NotFoundError
from nmri3d.models.backend import Progress

RESULT_FILE = "application/vnd.nmri3d+npz"
POLL_SECONDS = 10.0
"""How long the server may hold back an answer about a job whose state does not change."""


class Transport:
    """A connection to one server.

    url       address that `nmri3d serve` printed; a token in it is used and taken out
    token     secret of the server; None: that of the address
    patience  seconds that a busy server is waited for, in all, at each request
    timeout   seconds without a byte after which the server counts as gone; None: for ever. Scans of large models are long
    verify    certificate check of TLS: True, False, or the path of a certificate that is trusted

    Raises InputError for an address that is none.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience: float = 120.0,
        timeout: float | None = 600.0,
        verify: bool | str = True,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is no address of a server; give what `nmri3d serve` printed, http://host:port/…")
        given = parse_qs(parts.query).get("token", [""])[0]
        self.token = given if token is None else token
        self.address = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + "/", "", ""))
        self.session = ""
        self._patience = patience
        headers = {
            "Nmri3d-Client": secrets.token_hex(8),  # one client, however many connections it opens
            "User-Agent": f"nmri3d/{nmri3d.__version__}",
        }
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        self._http = httpx.Client(
            base_url=self.address, headers=headers, timeout=timeout, verify=verify, trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries, for a WebSocket to carry it too."""
        own = {
            name: self._http.headers[name] for name in ("nmri3d-client", "authorization") if name in self._http.headers
        }
        return own | ({"Nmri3d-Session": self.session} if self.session else {})

    def json(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The answer's JSON; None for an empty answer."""
        answer = self.request(method, path, body, **options)
        return answer.json() if answer.content else None

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        content: bytes | None = None,
        progress: Progress | None = None,
    ) -> httpx.Response:
        """One request, and the answer to it.

        body      JSON values; content: bytes of a zip file instead
        progress  called with share and sentence while the server works; what it raises withdraws the work there

        Raises the error that the server names; BusyError when it stays busy, MachineError when it cannot be reached.
        """
        headers = {"Accept": accept}
        if self.session:
            headers["Nmri3d-Session"] = self.session
        if content is not None:
            headers["Content-Type"] = "application/zip"
        if progress is not None:
            headers["Prefer"] = "respond-async"
        answer = self._patiently(method, path, json=body, content=content, params=query, headers=headers)
        if answer.status_code == 202 and progress is not None:
            return self._watched(answer.json(), progress)
        return answer

    def _patiently(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Send, and send again while the server says that it is busy."""
        deadline = time.monotonic() + self._patience
        parts = {name: value for name, value in parts.items() if value is not None}
        while True:
            try:
                answer = self._http.request(method, path.lstrip("/"), **parts)
            except httpx.TransportError as error:
                raise MachineError(
                    f"The server at {self.address} does not answer ({error or type(error).__name__}); see that it runs "
                    "and that the address is right."
                ) from error
            if answer.is_success:
                return answer
            wait = float(answer.headers.get("retry-after", 1))
            if answer.status_code not in (429, 503) or time.monotonic() + wait > deadline:
                raise _error(answer)
            time.sleep(wait)

    def _watched(self, job: dict[str, Any], progress: Progress) -> httpx.Response:
        """The answer of a job, when it has ended."""
        path = f"api/jobs/{job['id']}"
        try:
            while job["state"] == "running":
                progress(job["share"], job["what"])
                news = {"wait": POLL_SECONDS, "since": job["version"]}
                job = self._patiently("GET", path, params=news).json()
            progress(1.0, job["what"])
            return self._patiently("GET", path + "/result")
        finally:  # withdrawn where it still runs; else its answer need not be kept
            with contextlib.suppress(NotFoundError):
                self._patiently("DELETE", path)


def _error(answer: httpx.Response) -> Nmri3dError:
    """The error that an answer stands for."""
    try:
        problem = answer.json()
        kind, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        kind, detail = "", f"The server answered {answer.status_code} {answer.reason_phrase}."
    named = getattr(errors, kind, None)
    if isinstance(named, type) and issubclass(named, Nmri3dError):
        return named(detail)
    by_status: dict[int, type[Nmri3dError]] = {
        401: ModelAccessError,
        403: ModelAccessError,
        429: BusyError,
        503: BusyError,
    }
    fallback = MachineError if answer.status_code >= 500 else InputError
    return by_status.get(answer.status_code, fallback)(detail)
