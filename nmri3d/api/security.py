"""Who may call: one ASGI middleware around everything, HTTP and WebSocket: page, static files, REST, messages.

Three checks, in this order:
- Host: the name by which the server is called must be one of its own. Stops DNS rebinding, in which a foreign page makes
  its own name resolve to this machine.
- Origin: a browser that says from which page a call comes must name this server, same host and port. Stops foreign pages
  from opening our WebSocket or posting to us. `Sec-Fetch-Site: cross-site` is refused too, except for plain navigation.
- Token: `Authorization: Bearer …`, or `?token=…` once, which becomes an HttpOnly, SameSite=Strict cookie and a redirect
  to the clean address. Compared in constant time.

Convention. Refusals are pages in words for browsers, problem details for programs; a WebSocket is refused before it is
accepted. Every answer carries `nosniff`, `no-referrer` (addresses may hold the token) and a content policy. Over TLS the
cookie is Secure; where pages of other sites may frame this one it is also SameSite=None and Partitioned, or it would not
be sent inside their frame, and then Origin and Sec-Fetch-Site alone keep other sites out.

Left out: users with different rights.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nmri3d.api.errors import answer, from_error
from nmri3d.api.html import page
from nmri3d.errors import InputError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_POLICY = (
    "default-src 'self'; "
    # Vue compiles its templates in the browser, which is an eval
    "script-src 'self' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' {sockets} blob: data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {ancestors}"
)


def is_loopback(host: str) -> bool:
    """Whether a server listening on this host can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Security:
    """What `Guard` asks for. Make it with `for_address`, which refuses what is not safe.

    token            secret of this server; empty: no token is asked for
    names            host names, lower case, by which the server may be called
    any_address      whether a plain IP address may stand for the name too (a foreign name cannot rebind to that)
    cookie           name of the cookie that remembers the token
    frame_ancestors  value of the content policy: which pages may show this one in a frame
    """

    token: str
    names: frozenset[str]
    any_address: bool
    cookie: str
    frame_ancestors: str = "'none'"

    @classmethod
    def for_address(
        cls,
        host: str,
        port: int,
        *,
        token: str | None = None,
        allowed_hosts: Iterable[str] = (),
        frame_ancestors: str = "'none'",
    ) -> Security:
        """Rules for a server that listens on host and port.

        token          None makes a new one of 192 random bits, "" turns it off; a given one is ASCII without spaces
        allowed_hosts  further names, as of a proxy in front

        Raises InputError for no token off loopback, for a token that cannot stand in an address, and for frame_ancestors
        that would write other fields of the policy.
        """
        local = is_loopback(host)
        if token == "" and not local:
            raise InputError(
                f"Without a token anybody who reaches {host} could use this server; leave --token out to get one made, "
                "or listen on 127.0.0.1."
            )
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise InputError(
                "A token is made of letters, digits and signs without spaces, since it stands in an address."
            )
        own = set() if local else {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(
            token=secrets.token_urlsafe(24) if token is None else token,
            names=frozenset(LOOPBACK_NAMES | own | {name.lower() for name in allowed_hosts}),
            any_address=not local,
            cookie=f"nmri3d-{port}",  # cookies do not tell ports apart: a second server must not log out the first
            frame_ancestors=_ancestors(frame_ancestors),
        )

    @property
    def frame_options(self) -> str | None:
        """X-Frame-Options, for browsers that do not read frame-ancestors; None where it cannot say the same."""
        return {"'none'": "DENY", "'self'": "SAMEORIGIN"}.get(self.frame_ancestors)

    @property
    def cookie_value(self) -> str:
        """What the cookie holds: made from the token, and safe in a header whatever the token is."""
        return hmac.new(self.token.encode(), b"nmri3d cookie", hashlib.sha256).hexdigest()

    def allows_host(self, host: str | None) -> bool:
        """Whether a Host header names this server. The port is not looked at: tunnels change it."""
        name = _split_host(host)[0]
        if name in self.names:
            return True
        return self.any_address and _is_address(name)

    def allows_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether an Origin header, if there is one, names the very host and port that was called."""
        if origin is None:
            return True
        try:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                return False
            default = 443 if parts.scheme == "https" else 80
            name, port = _split_host(host)
            return (parts.hostname, parts.port or default) == (name, port or default)
        except ValueError:
            return False

    def allows_token(self, given: str | None) -> bool:
        """Whether this is the token, in constant time."""
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def allows_cookie(self, cookie_header: str) -> bool:
        """Whether the Cookie header holds what a right token once gave."""
        given = cookie_parser(cookie_header).get(self.cookie, "")
        return hmac.compare_digest(given.encode(), self.cookie_value.encode())

    def policy(self, host: str) -> str:
        """The content policy; sockets are named since older browsers do not count them into 'self'."""
        sockets = f"ws://{host} wss://{host}" if host.isascii() and not set(host) & set(" ;,'\"") else ""
        return _POLICY.format(sockets=sockets, ancestors=self.frame_ancestors)


class Guard:
    """ASGI middleware that lets through what `security` allows, and answers errors that nobody expected."""

    def __init__(self, app: ASGIApp, *, security: Security) -> None:
        self.app = app
        self.security = security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await receive()  # websocket.connect
                await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
            return

        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(headers, MutableHeaders(scope=message))
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, guarded_send)
            return
        try:
            await self.app(scope, receive, guarded_send)
        except Exception as error:
            if started:
                raise
            await from_error(headers, error)(scope, receive, guarded_send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a call that is not let through (or that must first come back with a cookie), None otherwise."""
        rules, host = self.security, headers.get("host")
        if not rules.allows_host(host):
            return answer(
                headers,
                403,
                "Not this server's name",
                f"This server is not called {_shown(host)}. Use the address that `nmri3d serve` printed; behind a proxy, "
                "start it with `--allow-host` and the proxy's name.",
                "Host",
            )
        navigation = headers.get("sec-fetch-mode") == "navigate" and scope["type"] == "http"
        foreign = headers.get("sec-fetch-site") == "cross-site" and not navigation
        if foreign or not rules.allows_origin(headers.get("origin"), host):
            return answer(
                headers,
                403,
                "Called from another page",
                "This call was made by a page of another site, and only this server's own page may call it. Open the "
                "address that `nmri3d serve` printed in a tab of its own.",
                "Origin",
            )
        return self._token_refusal(scope, headers) if rules.token else None

    def _token_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        rules = self.security
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else query.get("token")
        if given is None:
            if rules.allows_cookie("; ".join(headers.getlist("cookie"))):
                return None
            return answer(
                headers,
                401,
                "A token is needed",
                "This server answers only to those who hold its token. Open the whole address that `nmri3d serve` "
                "printed in its terminal, with `?token=…` at its end; a program sends `Authorization: Bearer …`.",
                "Token",
                {"WWW-Authenticate": "Bearer"},
            )
        if not rules.allows_token(given):
            return answer(
                headers,
                403,
                "Wrong token",
                "The token in this address is not the one of this server; each start makes a new one. Open the whole "
                "address that `nmri3d serve` printed last.",
                "Token",
            )
        if scope["type"] == "http" and "token" in query and scope["method"] in ("GET", "HEAD"):
            return self._remember(scope, headers, query)
        return None

    def _remember(self, scope: Scope, headers: Headers, query: dict[str, str]) -> Response:
        """Set the cookie and send the browser to the same address without its token."""
        rest = urlencode({name: value for name, value in query.items() if name != "token"})
        # relative, for proxies that put a path in front; with "./" nothing in the path can be taken for a site or scheme
        path = "./" + quote(scope["path"].rpartition("/")[2])
        clean = f"{path}?{rest}" if rest else path
        response: Response
        if headers.get("sec-fetch-site") == "cross-site":
            # A browser that comes by a link on another site sends no Strict cookie along a redirect. From a page of
            # ours it does.
            response = HTMLResponse(page("Opening", f'<p><a href="{escape(clean)}">Continue</a></p>', refresh=clean))
        else:
            response = RedirectResponse(clean, 303)
        secure = scope.get("scheme") == "https"
        elsewhere = secure and self.security.frame_options is None
        response.set_cookie(
            self.security.cookie,
            self.security.cookie_value,
            httponly=True,
            samesite="none" if elsewhere else "strict",
            secure=secure,
        )
        if elsewhere:  # Python 3.14 is the first that can set this by itself
            response.headers["Set-Cookie"] += "; Partitioned"
        response.headers["Cache-Control"] = "no-store"
        return response

    def _add_headers(self, request: Headers, response: MutableHeaders) -> None:
        response["X-Content-Type-Options"] = "nosniff"
        response["Referrer-Policy"] = "no-referrer"
        response["Cross-Origin-Resource-Policy"] = "same-origin"
        response["Content-Security-Policy"] = self.security.policy(request.get("host", ""))
        if self.security.frame_options is not None:
            response["X-Frame-Options"] = self.security.frame_options
        response.setdefault("Cache-Control", "no-store")


_SOURCE = re.compile(
    r"(https?://)?(\*\.)?[A-Za-z0-9.-]+(:(\d+|\*))?|https?://\[[0-9A-Fa-f:]+\](:\d+)?|https?:|\*", re.ASCII
)


def _ancestors(given: str) -> str:
    """The sources of frame-ancestors; a bare `self` or `none` gets its quotes. Raises InputError for anything else."""
    sources = [f"'{word}'" if word in ("self", "none") else word for word in given.split(" ") if word]
    quoted = {"'self'", "'none'"}
    if not sources or not all(word in quoted or _SOURCE.fullmatch(word) for word in sources):
        raise InputError(
            "frame_ancestors is a list of sources parted by spaces, such as: 'self' https://hub.example.org"
        )
    if "'none'" in sources and len(sources) > 1:
        raise InputError("frame_ancestors is either 'none' or a list of sources; leave one of them out")
    return " ".join(sources)


def _split_host(host: str | None) -> tuple[str, int | None]:
    """Name (lower case, brackets off) and port of a Host header; an empty name for one that cannot be read."""
    try:
        parts = urlsplit(f"//{host or ''}")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return "", None
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(host: str | None) -> str:
    """A Host header as it can stand in a sentence."""
    return f"`{host[:100]}`" if host and host.isprintable() else "so"
