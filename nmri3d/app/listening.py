"""Where the server listens: its port, and the certificate it speaks TLS with. Both are tried before anything costly begins.

Left out: making certificates.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from pathlib import Path

from nmri3d.errors import InputError, MachineError
from nmri3d.service.answers import require_integer

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


def tls_context(cert: str | os.PathLike[str] | None, key: str | os.PathLike[str] | None) -> ssl.SSLContext | None:
    """What to speak TLS with, TLS 1.2 at least; None where neither file is given.

    cert  PEM file with the certificate and those that it was signed by
    key   PEM file with its private key, without a password; None: it stands in the certificate's file

    Raises InputError, which names the file and what is wrong with it.
    """
    if cert is None:
        if key is not None:
            raise InputError(f"--tls-key {key} needs its certificate; name that with --tls-cert")
        return None
    for option, file in (("--tls-cert", cert), ("--tls-key", key)):
        if file is not None:
            _require_pem(option, Path(file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # without the empty password, OpenSSL would ask for one on the terminal
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        where = f"{cert} and {key}" if key is not None else f"{cert}"
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"the private key in {key or cert} does not belong to the certificate in {cert}") from None
        raise InputError(
            f"{where} cannot be used for TLS ({error.reason or 'unreadable'}); give a PEM certificate with --tls-cert and its "
            "PEM private key, without a password, with --tls-key"
        ) from None
    return context


def _require_pem(option: str, file: Path) -> None:
    try:
        with file.open("rb") as stream:
            text = stream.read(2**20)
    except OSError as error:
        raise InputError(f"{option} {file} cannot be read ({error.strerror or error}); check the path") from None
    if b"-----BEGIN " not in text:
        raise InputError(f"{option} {file} is no PEM file; it should hold a block that begins with -----BEGIN")
