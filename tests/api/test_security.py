"""Who is let in: Host, Origin, token and cookie, over HTTP and WebSocket; what every answer carries."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from nmri3d.api.security import Guard, Security, is_loopback
from nmri3d.errors import InputError

TOKEN = "right-token_123"
HERE = "http://127.0.0.1:8765"
PAGE = {"accept": "text/html,application/xhtml+xml"}


def app_behind(security):
    app = FastAPI()
    app.add_middleware(Guard, security=security)

    @app.api_route("/api/thing", methods=["GET", "POST"])
    def thing():
        return {"secret": 42}

    @app.get("/breaks")
    def breaks():
        raise ZeroDivisionError("inner detail")

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("in")
        await websocket.close()

    return app


def client_of(security, base=HERE, **options):
    return TestClient(app_behind(security), base_url=base, follow_redirects=False, **options)


@pytest.fixture
def rules():
    return Security.for_address("127.0.0.1", 8765, token=TOKEN)


@pytest.fixture
def client(rules):
    return client_of(rules)


def bearer(token=TOKEN):
    return {"authorization": f"Bearer {token}"}


# -- token ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, "", 401),
        ({"authorization": "Basic cmlnaHQtdG9rZW4="}, "", 401),
        (bearer("wrong"), "", 403),
        (bearer(""), "", 403),
        (bearer(TOKEN + "x"), "", 403),
        (bearer(TOKEN[:-1]), "", 403),
        ({}, "?token=wrong", 403),
        ({}, "?token=", 403),
        ({}, "?token=wr%FFong", 403),
        ({"cookie": f"nmri3d-8765={TOKEN}"}, "", 401),
        ({"cookie": "nmri3d-8765="}, "", 401),
        (bearer(), "", 200),
        ({"authorization": f"bearer {TOKEN}"}, "", 200),
        ({}, f"?token={TOKEN}", 303),
    ],
)
def test_token_table(client, headers, query, status):
    answer = client.get(f"/api/thing{query}", headers=headers)
    assert answer.status_code == status
    assert ("42" in answer.text) == (status == 200)


def test_a_refusal_is_problem_details_for_a_program_and_a_page_for_a_person(client):
    problem = client.get("/api/thing")
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.headers["www-authenticate"] == "Bearer"
    assert problem.json()["status"] == 401
    assert "Authorization: Bearer" in problem.json()["detail"]
    page = client.get("/api/thing", headers=PAGE)
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>A token is needed</h1>" in page.text
    assert "<code>?token=…</code>" in page.text


def test_the_token_of_the_address_becomes_a_cookie_and_leaves_the_address(client, rules):
    answer = client.get("/api/thing", params={"token": TOKEN, "mode": "T1 & more"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "./thing?mode=T1+%26+more"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"nmri3d-8765={rules.cookie_value};")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/api/thing").json() == {"secret": 42}  # the client keeps the cookie


def test_over_tls_the_cookie_is_secure(rules):
    client = client_of(rules, "https://127.0.0.1:8765")
    assert "Secure" in client.get("/api/thing", params={"token": TOKEN}).headers["set-cookie"]


def test_coming_by_a_link_of_another_site_goes_over_a_page_of_ours(client):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    answer = client.get("/", params={"token": TOKEN}, headers=headers)
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=./">' in answer.text
    assert "set-cookie" in answer.headers


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "/\\evil.example", "/javascript:alert(1)", "/a/%22%3E%3Cscript%3E"]
)
@pytest.mark.parametrize("site", ["none", "cross-site"])
def test_the_clean_address_never_leaves_this_server(client, path, site):
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
    answer = client.get(f"{HERE}{path}?token={TOKEN}", headers=headers)
    if answer.status_code == 303:
        assert answer.headers["location"].startswith("./")
    else:
        assert "url=./" in answer.text
        assert "<script" not in answer.text


def test_posting_with_the_token_in_the_address_is_not_redirected(client):
    assert client.post("/api/thing", params={"token": TOKEN}).status_code == 200


def test_servers_on_two_ports_have_two_cookies():
    names = {Security.for_address("127.0.0.1", port, token=TOKEN).cookie for port in (8765, 8766)}
    assert len(names) == 2


def test_made_tokens_are_long_and_differ():
    made = {Security.for_address("127.0.0.1", 1).token for _ in range(10)}
    assert len(made) == 10
    assert min(map(len, made)) >= 32


# -- no token ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_on_loopback_the_token_can_be_turned_off(host):
    assert is_loopback(host)
    client = client_of(Security.for_address(host, 8765, token=""))
    assert client.get("/api/thing").json() == {"secret": 42}
    assert client.get("/api/thing", headers={"host": "evil.example:8765"}).status_code == 403
    assert client.post("/api/thing", headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.example", ""])
def test_off_loopback_it_cannot(host):
    assert not is_loopback(host)
    with pytest.raises(InputError, match="Without a token anybody"):
        Security.for_address(host, 8765, token="")


@pytest.mark.parametrize("token", ["with space", "tökén", "new\nline"])
def test_a_token_that_cannot_stand_in_an_address_is_refused(token):
    with pytest.raises(InputError, match="A token is made of"):
        Security.for_address("127.0.0.1", 8765, token=token)


# -- Host ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listens", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:8765", True),
        ("127.0.0.1", "localhost:8765", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:8765", True),
        ("127.0.0.1", "localhost:9000", True),  # a tunnel
        ("127.0.0.1", "rebound.evil.example:8765", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "evil.example@localhost", False),
        ("127.0.0.1", "localhost/evil", False),
        ("127.0.0.1", "10.0.0.7:8765", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "localhost:notaport", False),
        ("0.0.0.0", "10.0.0.7:8765", True),
        ("0.0.0.0", "rebound.evil.example:8765", False),
        ("127.0.0.1", "hub.example.org", True),  # named by --allow-host
    ],
)
def test_host_table(listens, host, allowed):
    client = client_of(Security.for_address(listens, 8765, token=TOKEN, allowed_hosts=["hub.example.org"]))
    answer = client.get("/api/thing", headers={"host": host, **bearer()})
    assert answer.status_code == (200 if allowed else 403)
    if not allowed:
        assert answer.json()["title"] == "Not this server's name"


# -- Origin --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("127.0.0.1:8765", None, True),
        ("127.0.0.1:8765", "http://127.0.0.1:8765", True),
        ("hub.example.org", "https://hub.example.org", True),
        ("hub.example.org:443", "https://hub.example.org", True),
        ("127.0.0.1:8765", "http://127.0.0.1:8766", False),
        ("127.0.0.1:8765", "http://localhost:8765", False),
        ("127.0.0.1:8765", "http://evil.example", False),
        ("127.0.0.1:8765", "http://127.0.0.1:8765.evil.example", False),
        ("127.0.0.1:8765", "null", False),
        ("127.0.0.1:8765", "", False),
        ("127.0.0.1:8765", "file://", False),
        ("127.0.0.1:8765", "http://[", False),
    ],
)
def test_origin_table(host, origin, allowed):
    client = client_of(Security.for_address("127.0.0.1", 8765, token=TOKEN, allowed_hosts=["hub.example.org"]))
    headers = {"host": host, **bearer(), **({} if origin is None else {"origin": origin})}
    assert client.post("/api/thing", headers=headers).status_code == (200 if allowed else 403)
    if allowed:
        with client.websocket_connect("/ws", headers=headers) as socket:
            assert socket.receive_text() == "in"
    else:
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/ws", headers=headers):
            pass
        assert refused.value.code == 1008


@pytest.mark.parametrize(("mode", "status"), [("no-cors", 403), ("cors", 403), ("websocket", 403), ("navigate", 200)])
def test_what_another_site_loads_is_refused_but_not_its_links(client, mode, status):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, **bearer()}
    assert client.get("/api/thing", headers=headers).status_code == status


# -- WebSocket -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "headers", "allowed"),
    [
        ("/ws", {}, False),
        ("/ws", bearer("wrong"), False),
        ("/ws?token=wrong", {}, False),
        ("/ws", {**bearer(), "host": "evil.example:8765"}, False),
        ("/ws", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "websocket", **bearer()}, False),
        ("/ws", bearer(), True),
        (f"/ws?token={TOKEN}", {}, True),
    ],
)
def test_websocket_table(client, url, headers, allowed):
    headers = {"host": "127.0.0.1:8765", **headers}  # the test client would call itself "testserver"
    if allowed:
        with client.websocket_connect(url, headers=headers) as socket:
            assert socket.receive_text() == "in"
        return
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(url, headers=headers):
        pass
    assert refused.value.code == 1008


# -- what every answer carries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/thing", "/nothing", "/breaks"])
@pytest.mark.parametrize("headers", [bearer(), {}, bearer("wrong")])
def test_headers_of_every_answer(rules, path, headers):
    client = client_of(rules, raise_server_exceptions=False)
    answer = client.get(path, headers=headers)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["frame-ancestors"] == "'none'"
    assert policy["default-src"] == "'self'"
    assert policy["script-src"] == "'self' 'unsafe-eval'"
    assert "ws://127.0.0.1:8765" in policy["connect-src"].split()


def policy_of(rules):
    return client_of(rules).get("/api/thing").headers


@pytest.mark.parametrize(
    ("given", "ancestors", "options"),
    [
        ("'none'", "'none'", "DENY"),
        ("none", "'none'", "DENY"),
        ("self", "'self'", "SAMEORIGIN"),
        ("http://localhost:8888", "http://localhost:8888", None),
        ("  self  https://*.hub.example.org:* ", "'self' https://*.hub.example.org:*", None),
        ("https://[::1]:8888 https:", "https://[::1]:8888 https:", None),
        ("*", "*", None),
    ],
)
def test_who_may_frame_the_page_can_be_set(given, ancestors, options):
    headers = policy_of(Security.for_address("127.0.0.1", 8765, token=TOKEN, frame_ancestors=given))
    assert headers["content-security-policy"].endswith(f"frame-ancestors {ancestors}")
    assert headers.get("x-frame-options") == options


@pytest.mark.parametrize(
    "given",
    ["", " ", "*; script-src *", "a, b", "none https://x", "ftp://x", "https://x/path", "'unsafe-inline'", "é", "a\nb"],
)
def test_frame_ancestors_that_are_none_are_refused(given):
    with pytest.raises(InputError, match="frame_ancestors"):
        Security.for_address("127.0.0.1", 8765, frame_ancestors=given)


@pytest.mark.parametrize(
    ("scheme", "ancestors", "expected"),
    [
        ("http", "https://hub.example.org", {"SameSite=strict"}),
        ("https", "self", {"SameSite=strict", "Secure"}),
        # inside a frame of another site no browser would send a Strict cookie, nor one that is not partitioned
        ("https", "https://hub.example.org", {"SameSite=none", "Secure", "Partitioned"}),
    ],
)
def test_the_cookie_works_inside_the_frames_that_are_allowed(scheme, ancestors, expected):
    rules = Security.for_address("127.0.0.1", 8765, token=TOKEN, frame_ancestors=ancestors)
    client = client_of(rules, f"{scheme}://127.0.0.1:8765")
    parts = client.get("/api/thing", params={"token": TOKEN}).headers["set-cookie"].split("; ")
    assert {part for part in parts if part.startswith(("SameSite", "Secure", "Partitioned"))} == expected
    assert "HttpOnly" in parts


def test_an_unexpected_error_is_told_without_its_details_and_logged(rules, caplog):
    answer = client_of(rules).get("/breaks", headers=bearer())
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:nmri3d:error:Internal"
    assert "inner detail" not in answer.text
    assert "inner detail" in caplog.text
