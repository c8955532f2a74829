"""The server's log on stderr: plain lines for people, or one JSON object a line for programs that collect them.

Convention. A JSON line has time (ISO 8601, UTC), level, event, message, logger, the request's id where there is one, and for
a request method, route, status, ms and client. What is secret is blotted out of every line, tracebacks too. Libraries that
would write addresses with their query string, or headers, are heard from warnings on only.

Left out: files and their rotation, which belong to whoever collects stderr.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from nmri3d.service import Service
from nmri3d.service.events import Event, ModelFailed, ModelLoading, ModelReady, ModelUnloaded

LogFormat = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

BLOT = "[secret]"
_TALKATIVE = ("uvicorn", "websockets", "httpx", "httpcore", "urllib3", "huggingface_hub", "wslink", "asyncio")
_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{8,}|(?<=token=)[^&\s\"'<>\\]+|(?<=secret=)[^&\s\"'<>\\]+|(?<=[Bb]earer )[^\s\"'\\]+"
)
"""A Hugging Face token, what stands in an address after token= and secret=, and in a header after Bearer."""


class LogFormatter(logging.Formatter):
    """Writes a record as text or JSON, without secrets.

    secrets  texts that must not appear, in any of the forms in which they may be written
    """

    def __init__(self, form: LogFormat, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._json = form == "json"
        forms = {form for text in secrets if text for form in (text, quote(text, safe=""), json.dumps(text)[1:-1])}
        self._secrets = sorted(forms, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        return self.blotted(self._as_json(record) if self._json else super().format(record))

    def blotted(self, line: str) -> str:
        """The line without what is secret."""
        for secret in self._secrets:
            line = line.replace(secret, BLOT)
        return _SECRET.sub(BLOT, line)

    def _as_json(self, record: logging.LogRecord) -> str:
        from nmri3d.api.observer import REQUEST_ID

        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        for name in ("method", "route", "status", "ms", "client", "model", "address"):
            if hasattr(record, name):
                line[name] = getattr(record, name)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


class ServerLog:
    """Writes the log of the whole process to stderr as long as it is entered; in JSON also the model's comings and goings,
    which in text are the terminal's.

    level  "debug", "info", "warning" or "error"
    """

    def __init__(self, service: Service, form: LogFormat, level: str, secrets: Iterable[str] = ()) -> None:
        self._service = service
        self._form = form
        self._level = getattr(logging, level.upper())
        self._formatter = LogFormatter(form, secrets)
        self._quiet: list[tuple[logging.Logger, int]] = []
        self._said = ""
        self._lock = threading.Lock()

    def __enter__(self) -> ServerLog:
        root = logging.getLogger()
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(self._formatter)
        self._before = root.level
        root.addHandler(self._handler)
        root.setLevel(self._level)
        for name in _TALKATIVE:
            logger = logging.getLogger(name)
            self._quiet.append((logger, logger.level))
            logger.setLevel(max(self._level, logging.WARNING))
        self._unsubscribe = self._service.subscribe(self._on_event) if self._form == "json" else lambda: None
        return self

    def __exit__(self, *error: object) -> None:
        self._unsubscribe()
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._before)
        for logger, level in self._quiet:
            logger.setLevel(level)

    def say_address(self, address: str, url: str) -> None:
        """Tell where the server is. `url`, which may hold a token that nobody knows yet, goes to stdout and not into the
        log; "" where there is nothing to tell beyond the address."""
        logging.getLogger("nmri3d.server").info("serving", extra={"event": "serving", "address": address})
        if url:
            sys.stdout.write(f"Neural MRI 3D is at {url}\n")
            sys.stdout.flush()

    def _on_event(self, event: Event) -> None:
        log = logging.getLogger("nmri3d.model")
        match event:
            case ModelLoading(name, _, what):
                with self._lock:
                    said, self._said = self._said, f"{name}: {what}"
                if said != self._said:
                    log.info("%s: %s", name, what, extra={"event": "model_loading", "model": name})
            case ModelReady(info):
                text = "%s is ready (%s parameters, %s, %s)"
                extra = {"event": "model_ready", "model": info.model_id}
                log.info(text, info.title, f"{info.n_params:,}", info.dtype, info.device, extra=extra)
                for warning in info.warnings:
                    log.warning("%s", warning, extra={"event": "model_warning", "model": info.model_id})
            case ModelFailed(name, message, _, cancelled):
                level = logging.WARNING if cancelled else logging.ERROR
                log.log(level, "%s", message, extra={"event": "model_failed", "model": name})
            case ModelUnloaded(model_id):
                log.info("%s was unloaded", model_id, extra={"event": "model_unloaded", "model": model_id})
