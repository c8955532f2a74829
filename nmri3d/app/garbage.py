"""When garbage is collected while the server starts.

Left out: anything after the first model was exchanged.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from nmri3d.service import Service
from nmri3d.service.events import Event, ModelFailed, ModelLoading, ModelReady, ModelUnloaded


@contextlib.contextmanager
def collecting_garbage_later(service: Service) -> Iterator[None]:
    """Collect no garbage until the first model is there, and leave out what is there by then until it is exchanged.

    Importing torch, transformers and VTK makes a million objects that live as long as the process; searching them for
    garbage again and again takes a fifth of the start.
    """
    settled = False

    def on_event(event: Event) -> None:
        nonlocal settled
        if not settled and isinstance(event, ModelReady | ModelFailed):
            settled = True
            gc.freeze()
            gc.enable()
        elif settled and isinstance(event, ModelLoading | ModelUnloaded):
            unsubscribe()
            gc.unfreeze()  # the first model may become garbage now

    gc.disable()
    unsubscribe = service.subscribe(on_event)
    try:
        yield
    finally:
        unsubscribe()
        gc.unfreeze()
        gc.enable()
