"""Python's garbage collector, told when it cannot find anything.

Importing makes tens of thousands of objects, all of which stay. Looking at them again and again is
a twentieth of the time that a kernel takes to start. Knows nothing of kernels.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freeze", "gc_paused"]

_is_frozen = False


def freeze() -> None:
    """Have the collector leave all that there is alone, in this process and in those it forks.

    Memory that it does not look at stays shared.
    """
    global _is_frozen
    gc.collect()
    gc.freeze()
    _is_frozen = True


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
        # What somebody else has frozen is not to be thawed. To count it takes milliseconds.
        if not _is_frozen and gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()
        gc.enable()
