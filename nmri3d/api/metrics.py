"""Figures of the running server for Prometheus: requests, work, the line before the model, kept results, memory.

Convention. Names begin with `nmri3d_`; times are in seconds, sizes in bytes. Requests are counted by the template of their
route, never by their path, so that the number of series stays bounded. Everything stands in a registry of its own: several
servers in one process do not meet.

Left out: the route (routes/operations.py) and who counts requests (observer.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

import nmri3d
from nmri3d.service import Service

MEDIA_TYPE = CONTENT_TYPE_LATEST

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 60.0)

_COUNTERS = {
    "turns": ("model_turns", "Pieces of work that had their turn at the model."),
    "shared": ("requests_shared", "Requests that were answered by an equal one under way."),
    "cache_hits": ("cache_hits", "Requests that were answered by a kept result of the present model."),
    "cache_misses": ("cache_misses", "Results that had to be measured on the present model."),
}
_GAUGES = {
    "waiting": ("queue_length", "Requests that wait for the model."),
    "seconds_a_turn": ("model_turn_seconds", "Mean length of the model's last turns."),
    "jobs": ("jobs", "Pieces of work that are alive, in line or not."),
    "cache_bytes": ("cache_bytes", "Bytes of the kept results."),
    "cache_prompts": ("cache_prompts", "Prompts whose results are kept."),
}
"""Names and help texts for what `Service.figures` gives."""


class Metrics:
    """The registry of one server, and what is counted in it. Thread-safe."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "nmri3d_http_requests",
            "HTTP requests that were answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "nmri3d_http_request_seconds",
            "Time from a request's arrival to the last byte of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._sockets = Gauge(
            "nmri3d_websocket_connections", "Open WebSocket connections.", ("route",), registry=self.registry
        )
        self.registry.register(_ServiceCollector(service))

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request that was answered. `route`: its template, "" for what never reached one."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route or "none", str(status)).inc()
        self._seconds.labels(method, route or "none").observe(seconds)

    def count_socket(self, route: str, change: int) -> None:
        """A WebSocket that was opened (+1) or closed (-1)."""
        self._sockets.labels(route or "none").inc(change)

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Add a figure `nmri3d_<name>` that is read whenever the figures are asked for."""
        Gauge(f"nmri3d_{name}", help_text, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """All figures in Prometheus' text format, `MEDIA_TYPE`."""
        return generate_latest(self.registry)


class _ServiceCollector:
    """Reads the service and the process whenever the figures are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._process = psutil.Process()
        self._started = time.time()

    def collect(self) -> Iterator[Any]:
        info = self._service.status.info
        model = GaugeMetricFamily(
            "nmri3d_model_loaded", "1 for the model that answers requests.", labels=("model_id", "dtype", "device")
        )
        if info is not None:
            model.add_metric((info.model_id, info.dtype, info.device), 1.0)
        yield model
        figures = self._service.figures()
        for key, (name, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"nmri3d_{name}", text, value=figures[key])
        for key, (name, text) in _GAUGES.items():
            yield GaugeMetricFamily(f"nmri3d_{name}", text, value=figures[key])
        memory = self._process.memory_info().rss
        yield GaugeMetricFamily("nmri3d_process_memory_bytes", "Resident memory of the process.", value=memory)
        times = self._process.cpu_times()
        yield CounterMetricFamily(
            "nmri3d_process_cpu_seconds", "Processor time of the process.", value=times.user + times.system
        )
        yield GaugeMetricFamily(
            "nmri3d_process_threads", "Threads that Python knows of.", value=float(threading.active_count())
        )
        yield GaugeMetricFamily("nmri3d_start_time_seconds", "When the server started, Unix time.", value=self._started)
        version = GaugeMetricFamily("nmri3d_build_info", "1 for the version that runs.", labels=("version",))
        version.add_metric((nmri3d.__version__,), 1.0)
        yield version
