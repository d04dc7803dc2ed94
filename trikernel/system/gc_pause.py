"""Python's garbage collector, told when it cannot find anything.

Importing makes tens of thousands of objects, all of which stay. Looking at them again and again is
a twentieth of the time that a kernel takes to start. Knows nothing of kernels.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["gc_paused"]


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect nothing while the block runs, then as before, whatever the block raises.

    What the block made counts as old: it is looked at with everything else, not first of all. A
    collector that is off stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # else it is somebody's who did not ask to thaw it
            gc.freeze()
            gc.unfreeze()
        gc.enable()
