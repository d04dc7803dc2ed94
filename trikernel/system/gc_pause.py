"""Python's garbage collector, switched off while it could not find anything to free.

Importing makes tens of thousands of objects, all of which stay. That the collector looks at them
again and again takes a twentieth of a kernel's start. Knows nothing of kernels.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freeze", "gc_paused"]

_is_frozen = False


def freeze() -> None:
    """Exclude all present objects from collection, in this process and in those that it forks.

    The collector writes to each object that it looks at. Memory that it leaves alone stays shared
    between the processes.
    """
    global _is_frozen
    gc.collect()
    gc.freeze()
    _is_frozen = True


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect nothing while the block runs; afterwards collect as before, also if it raises.

    The objects that the block made are moved to the oldest generation, and so are not looked at in
    the next collection of young ones. A collector that is disabled stays disabled.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        # Objects that somebody else has frozen must not be thawed. Counting them takes
        # milliseconds, so what `freeze` has done is remembered.
        if not _is_frozen and gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()
        gc.enable()
