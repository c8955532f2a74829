"""TLS: page, REST and sockets encrypted, and files that are no certificate told by name."""

from __future__ import annotations

import re
import ssl
import subprocess

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from nmri3d.app.listening import tls_context
from nmri3d.app.serve import WebServer
from nmri3d.errors import InputError
from nmri3d.service import Service
from tests.api.wire import running
from tests.service.fakes import PATIENCE, FakeLoader


@pytest.fixture
def service():
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


def make_certificate(folder, name):
    """A self-signed certificate for this machine, by openssl: two PEM files."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    what = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    who = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", *what, *who, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"), "own")


def test_over_tls_page_and_sockets_are_encrypted(service, certificate):
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=cert)
    with running(service, tls_cert=cert, tls_key=key) as server:
        assert server.url.startswith(f"https://127.0.0.1:{server.port}/?token=")
        with httpx.Client(verify=trusting, timeout=PATIENCE) as client:
            entered = client.get(server.url)
            assert entered.status_code == 303
            assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(entered.headers["set-cookie"].split("; "))
            health = client.get(f"{server.address}healthz")
            assert health.status_code == 200
            assert "wss://127.0.0.1" in health.headers["content-security-policy"]
        bearer = {"authorization": f"Bearer {server.security.token}"}
        with connect(f"wss://127.0.0.1:{server.port}/v/none/ws", ssl=trusting, additional_headers=bearer) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(PATIENCE)
            assert closed.value.rcvd.code == 4404  # let in, and told that there is no such visit
        with pytest.raises(httpx.HTTPError):  # nothing is said in the clear
            httpx.get(f"http://127.0.0.1:{server.port}/healthz", headers=bearer, timeout=PATIENCE)


def test_files_that_are_no_certificate_are_told_by_name_before_anything_starts(
    service, certificate, tmp_path, taken_port
):
    cert, key = certificate
    _, other_key = make_certificate(tmp_path, "other")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", key, "-out", locked], check=True, capture_output=True
    )
    text, missing, broken = tmp_path / "notes.txt", tmp_path / "missing.pem", tmp_path / "broken.pem"
    text.write_text("no certificate")
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    wrong = {
        (missing, key): f"--tls-cert {missing} cannot be read",
        (cert, missing): f"--tls-key {missing} cannot be read",
        (tmp_path, key): f"--tls-cert {tmp_path} cannot be read",
        (text, key): f"--tls-cert {text} is no PEM file",
        (cert, text): f"--tls-key {text} is no PEM file",
        (cert, other_key): f"the private key in {other_key} does not belong",
        (broken, key): f"{broken} and {key} cannot be used for TLS",
        (cert, locked): f"{cert} and {locked} cannot be used for TLS",
        (cert, None): f"{cert} cannot be used for TLS",
        (None, key): f"--tls-key {key} needs its certificate",
    }
    for (given_cert, given_key), words in wrong.items():
        with pytest.raises(InputError, match=re.escape(words)):
            WebServer(service, port=taken_port, tls_cert=given_cert, tls_key=given_key)
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    assert tls_context(both, None).minimum_version >= ssl.TLSVersion.TLSv1_2
    assert tls_context(None, None) is None
