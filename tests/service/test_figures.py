"""The figures that a server tells of itself, while it works and after."""

from __future__ import annotations

import threading

from nmri3d.service import Service
from tests.service.fakes import PATIENCE


def test_a_service_without_a_model_is_idle():
    assert set(Service().figures().values()) == {0}


def test_figures_follow_the_work(a_loaded_service, backend):
    service, gate = a_loaded_service, threading.Event()
    turns = service.figures()["turns"]  # the load had one
    backend.gates[0] = gate
    first = service.run(lambda progress: service.predict("a b", progress=progress))
    assert backend.reached[0].wait(PATIENCE)
    waiting = service.run(lambda progress: service.scan("fMRI", "a b", progress=progress))
    pause = threading.Event()
    while service.figures()["waiting"] < 1:
        pause.wait(0.005)
    figures = service.figures()
    assert (figures["waiting"], figures["jobs"], figures["turns"]) == (1, 2, turns + 1)
    gate.set()
    first.result(PATIENCE)
    scan = waiting.result(PATIENCE)
    service.scan("fMRI", "a b")
    while service.figures()["jobs"]:
        pause.wait(0.005)
    figures = service.figures()
    assert (figures["waiting"], figures["turns"]) == (0, turns + 2)
    assert (figures["cache_hits"], figures["cache_misses"], figures["cache_prompts"]) == (1, 2, 1)
    assert figures["cache_bytes"] >= scan.values.nbytes
    assert figures["seconds_a_turn"] > 0
    service.load("other")
    figures = service.figures()
    assert (figures["cache_hits"], figures["cache_misses"], figures["cache_bytes"]) == (0, 0, 0)
