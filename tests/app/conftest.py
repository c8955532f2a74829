"""The page as a visitor sees it: a tiny real model behind the real server, and Debian's Chromium in front of it."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import nmri3d
from nmri3d.app.serve import WebServer
from nmri3d.atlas import Atlas
from nmri3d.service import Service
from tests.models.tiny import tiny_checkpoint_folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
]
PROMPT = "The capital of France is"
PATIENCE = 60_000  # ms; software rendering on a busy machine


class SlowService(Service):
    """A service whose T2 scan takes long, in small steps, so that there is time to cancel it. Counts its answers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.slow = False
        self.asked: list[str] = []

    def scan(self, mode: str, prompt: str | None = None, **options: Any) -> Any:
        self.asked.append(mode)
        if self.slow:
            for step in range(1000):
                options["progress"](step / 1000, f"step {step}")
                time.sleep(0.02)
        return super().scan(mode, prompt, **options)


@contextmanager
def serving(service: Service, render: Any = "client", token: str = "", **options: Any) -> Iterator[WebServer]:
    """The server in a thread of its own, ended in good order."""
    server = WebServer(service, port=0, token=token, render=render, **options)
    answering = threading.Event()
    server.on_answering(answering.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    assert answering.wait(60)
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowService]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NMRI3D_SESSIONS", str(tmp_path_factory.mktemp("own")))
        shared = SlowService()
        shared.load(str(tiny_checkpoint_folder("llama", tmp_path_factory.mktemp("tiny"))))
        yield shared
        shared.close()


@pytest.fixture(scope="package")
def same_model(service: SlowService) -> Any:
    """The same model once more, to measure on while the page is at work on its own."""
    return nmri3d.load(service.status.name)


@pytest.fixture(scope="package")
def atlas(service: SlowService) -> Atlas:
    return Atlas.build(service.require_backend())


@pytest.fixture(scope="package")
def server(service: SlowService) -> Iterator[WebServer]:
    with serving(service) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (apt install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@dataclass
class Traffic:
    """Bytes of every WebSocket frame, by direction."""

    received: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        def on_socket(socket: Any) -> None:
            socket.on("framereceived", lambda data: self.received.append(len(data)))
            socket.on("framesent", lambda data: self.sent.append(len(data)))

        page.on("websocket", on_socket)

    def clear(self) -> None:
        self.received.clear()
        self.sent.clear()

    @property
    def n_bytes(self) -> int:
        return sum(self.received) + sum(self.sent)


def by(name: str) -> str:
    return f'[data-testid="{name}"]'


def scan(page: Any, prompt: str = PROMPT) -> None:
    """Scan in the open tab, or in fMRI where that takes no prompt; and wait for the prediction too."""
    page.fill(by("prompt-input"), prompt)
    page.press(by("prompt-input"), "Enter")
    page.wait_for_selector(by("token-0"))
    page.wait_for_selector(by("predictions"))


def opened(browser: Any, address: str, size: tuple[int, int] = (1280, 720)) -> Any:
    """A page with a painted brain, its traffic at `.traffic` and its scripts' errors at `.complaints`."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(PATIENCE)
    page.traffic, page.complaints = Traffic(), []
    page.traffic.watch(page)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda line: page.complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.goto(address)
    page.wait_for_selector('[data-testid="brain-view"][data-painted="true"]')
    return page


@pytest.fixture
def page(browser: Any, server: WebServer) -> Iterator[Any]:
    """A visitor's page; a script that complained fails the test."""
    visitor = opened(browser, server.address)
    yield visitor
    complaints = visitor.complaints
    visitor.close()
    assert complaints == []


@pytest.fixture
def settled() -> Callable[[Any], None]:
    """Wait until nothing has come or gone for half a second."""

    def wait(page: Any) -> None:
        before = -1
        while before != len(page.traffic.received) + len(page.traffic.sent):
            before = len(page.traffic.received) + len(page.traffic.sent)
            page.wait_for_timeout(500)

    return wait
