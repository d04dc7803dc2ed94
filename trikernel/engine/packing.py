"""Packs and unpacks values as ipyparallel's clients do, without importing ipyparallel's package.

ipyparallel has a table of classes that are packed in a special way, some of them as names. When it
packs the first object of a class that is not in the table, it imports all these names: numpy, and
its whole package. So here the names are taken out of the table, and each class is put in when its
module has been imported by somebody else; before that there can be no object of the class.
"""

from __future__ import annotations

import sys
from typing import Any

from .light import BUFFER_THRESHOLD, ITEM_THRESHOLD

__all__ = ["flat", "pack", "serializer"]

_PLACES = {
    "numpy.ndarray": ("numpy", "ndarray"),
    "ipyparallel.dependent": ("ipyparallel.controller.dependency", "dependent"),
}
_waiting: dict[str, Any] = {}


def serializer() -> Any:
    """ipyparallel's module that packs and unpacks. Code may have changed how that pickles, so its
    functions are looked up in it for each use.
    """
    from ipyparallel.serialize import canning, serialize

    for name in _PLACES.keys() & canning.can_map.keys():
        _waiting[name] = canning.can_map.pop(name)
    for name in tuple(_waiting):
        module, attribute = _PLACES[name]
        found = getattr(sys.modules.get(module), attribute, None)
        if found is not None:
            canning.can_map[found] = _waiting.pop(name)
    return serialize


def pack(value: Any) -> list[Any]:
    """The buffers that a client unpacks as the result. Raises what the value's own code raises."""
    buffers: list[Any] = serializer().serialize_object(value, BUFFER_THRESHOLD, ITEM_THRESHOLD)
    return buffers


def flat(buffer: Any) -> Any:
    """A buffer in a form that zmq can send; not copied, if that is possible."""
    if isinstance(buffer, bytes):
        return buffer
    view = memoryview(buffer)
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
