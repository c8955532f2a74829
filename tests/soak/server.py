"""The server that is soaked, as a process of its own: `nmri3d serve` without a terminal, a browser and VTK.

Convention. It says where it is in one line of JSON on standard output, then answers each line of standard input by one line:
`fingerprint` recomputes that of the live weights between two requests, `figures` are the service's, `census` counts live
Python objects by type. It ends when standard input does.

Left out: measuring its memory, which is done from outside.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import threading
from collections import Counter

from nmri3d.app.garbage import collecting_garbage_later
from nmri3d.app.serve import WebServer
from nmri3d.models.backend import no_progress
from nmri3d.service import Service


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    service = Service()
    with collecting_garbage_later(service):
        serve(service, options.model, options.sessions)
    raise SystemExit(0 if service.close() else 1)


def serve(service: Service, model: str, sessions: str) -> None:
    """Until standard input ends."""
    service.load(model)
    # nobody opens the page; clients are not to be slowed down by the rate of one host
    server = WebServer(service, port=0, token="soak", sessions=sessions, rate=0.0, make_page=object)
    answering = threading.Event()
    server.on_answering(answering.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    if not answering.wait(60):
        raise SystemExit("the server never answered")
    say({"port": server.port})
    for line in sys.stdin:
        say(COMMANDS[line.strip()](service))
    server.stop()
    thread.join()


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


def fingerprint(service: Service) -> str:
    return service._in_turn(lambda backend: backend.fingerprint(), no_progress)


def census(service: Service) -> dict[str, int]:
    gc.collect()
    return dict(Counter(type(one).__qualname__ for one in gc.get_objects()).most_common(400))


COMMANDS = {"fingerprint": fingerprint, "census": census, "figures": Service.figures}

if __name__ == "__main__":
    main()
