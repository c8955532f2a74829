"""An NDIF on this machine: takes nnsight's requests over HTTP, runs them on a real model, answers over the WebSocket.

Speaks what nnsight 0.8's `RemoteBackend` speaks: `/subscribe` sends a session id, `/request` takes a form with the routing
envelope and the payload, and the answer comes as a binary frame.
"""

from __future__ import annotations

import asyncio
import io
import json
import linecache
import socket
import threading
import time
from typing import Any

import torch
import uvicorn
import zstandard
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool


class FakeNdif:
    """A context; `address` is its host.

    served    the `TransformersModel` that requests run on
    refusal   (HTTP status, detail) to answer requests with, or None
    failure   what a job is said to have failed with, or None
    requests  what arrived: headers, envelope, and what the block was given
    """

    def __init__(self, served: Any) -> None:
        self.served = served
        self.refusal: tuple[int, str] | None = None
        self.failure: str | None = None
        self.requests: list[dict[str, Any]] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(
            uvicorn.Config(self._app(), port=port, log_level="error", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> FakeNdif:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _app(self) -> FastAPI:
        app = FastAPI()
        answers: dict[str, asyncio.Queue[Any]] = {}

        async def subscribe(channel: WebSocket) -> None:
            await channel.accept()
            session = f"session-{len(answers)}"
            answers[session] = asyncio.Queue()
            await channel.send_text(json.dumps({"session_id": session}))
            for text in (await answers[session].get(), await answers[session].get()):
                await (channel.send_bytes(text) if isinstance(text, bytes) else channel.send_text(text))

        async def request(arrived: Request) -> Any:
            if self.refusal is not None:
                return JSONResponse({"detail": self.refusal[1]}, status_code=self.refusal[0])
            boundary = b"\r\n--" + arrived.headers["content-type"].partition("boundary=")[2].encode()
            parts = (b"\r\n" + await arrived.body()).split(boundary)[1:-1]
            envelope, blob = (part.partition(b"\r\n\r\n")[2] for part in parts)
            routing = json.loads(envelope)
            self.requests.append({"headers": dict(arrived.headers), **routing})
            queue = answers[routing["session_id"]]
            await queue.put(json.dumps({"id": "job", "status": "RUNNING", "description": "on the fake"}))
            if self.failure is not None:
                await queue.put(json.dumps({"id": "job", "status": "ERROR", "description": self.failure}))
            else:
                try:
                    answer = await run_in_threadpool(self._execute, blob, routing["compress"])
                except Exception as error:
                    answer = json.dumps({"id": "job", "status": "ERROR", "description": repr(error)})
                await queue.put(answer)
            return {"id": "job", "status": "RECEIVED"}

        app.add_api_websocket_route("/subscribe", subscribe)
        app.add_api_route("/request", request, methods=["POST"])
        return app

    def _execute(self, blob: bytes, compress: bool) -> bytes:
        """Run a request on the served model; the answer's frame."""
        from nnsight.schema.request import RequestModel
        from nnsight.schema.response import ResponseModel, Status
        from nnsight.tracing.tracer import _saves, dec, inc

        before = dict(linecache.cache)  # a request puts its source there, under the name of the caller's file
        inc()
        try:
            tracer = RequestModel.deserialize(blob, self.served._remoteable_persistent_objects(), compress)
            given = tracer.info.frame.f_locals
            self.requests[-1]["given"] = {name: given[name] for name in ("places", "edited", "paths") if name in given}
            self.requests[-1]["arguments"] = given.get("arguments", {})
            frame = tracer.info.frame
            tracer.execute(tracer.info.code)
            saved = {name: value for name, value in frame.f_locals.items() if id(value) in _saves()}
        finally:
            dec()
            linecache.cache.clear()
            linecache.cache.update(before)
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        data = zstandard.ZstdCompressor().compress(buffer.getvalue()) if compress else buffer.getvalue()
        return ResponseModel(id="job", status=Status.COMPLETED, data=data).pickle()
