"""A guard against a crash of trame-vtk when a visitor's picture is freed.

What goes wrong. trame-vtk 2.11 watches every VTK object that it sends to a browser with a lambda on `DeleteEvent`, held by
the VTK object alone. When such objects are freed by Python's garbage collector, as parts of a cycle, the collector clears
the lambda first; VTK then calls a function without globals, and the process dies with a segmentation fault.

What is done instead. The same watching, by functions that are also held here, which the collector therefore leaves whole.
They do what trame-vtk's does: forget the properties sent for an object, whose id (its address) may be used again.

Left out: versions of trame-vtk that watch in another way; they are left as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_forgetters: dict[str, Callable[..., None]] = {}


class _AllWatched:
    """In the place of trame-vtk's list of watched objects: claims each, so that no lambda is added."""

    def __contains__(self, instance_id: object) -> bool:
        return True


def guard_vtk_deletion() -> None:
    """Install the guard where trame-vtk is loaded; calling it again does no harm."""
    module: Any = sys.modules.get("trame_vtk.modules.vtk.serializers.serialize")
    if module is None or not isinstance(getattr(module, "DELETE_CALLBACKS", None), list):
        return
    from trame_vtk.modules.vtk.serializers.utils import reference_id

    name_of, forget_properties = module.class_name, module.remove_from_cache

    def watch_and_name(instance: Any) -> str:
        instance_id = reference_id(instance)
        if instance_id not in _forgetters:

            def forget(*_: Any) -> None:
                forget_properties(instance_id)
                _forgetters.pop(instance_id, None)

            _forgetters[instance_id] = forget
            instance.AddObserver("DeleteEvent", forget)
        return name_of(instance)

    module.DELETE_CALLBACKS = _AllWatched()
    module.class_name = watch_and_name
