"""Values as ipyparallel's clients pack and unpack them, without what its package imports.

ipyparallel knows classes that are packed in a way of their own by name, and imports these names
when it packs the first thing that has none: numpy, and all of itself. Here such a class is put into
its table once its module is there; as long as it is not, there can be no object of it.
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
    """ipyparallel's module that packs and unpacks; the client may have changed its pickle."""
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
    """What a client unpacks as the result. Raises what the value's own code raises."""
    buffers: list[Any] = serializer().serialize_object(value, BUFFER_THRESHOLD, ITEM_THRESHOLD)
    return buffers


def flat(buffer: Any) -> Any:
    """A buffer as zmq sends it without a copy, if that is possible."""
    if isinstance(buffer, bytes):
        return buffer
    view = memoryview(buffer)
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
