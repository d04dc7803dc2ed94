"""Closes a kernel's shell in a process that goes on, for example that of a test.

IPython's way to close a shell runs a full garbage collection of the process, which takes longer
than everything else that a kernel in memory does. If the kernel lived briefly, what its cells have
left is still in the young generations, and collecting these is enough.
"""

from __future__ import annotations

import atexit
import gc
import sys
from types import ModuleType
from typing import Any

__all__ = ["close_shell", "collections_so_far", "give_names_back"]

# After so many closed shells one full collection is made: the shells themselves are garbage, too,
# and have reached the oldest generation.
CLOSED_IN_A_ROW = 64
_closed = 0


def collections_so_far() -> int:
    """How often the two older generations were collected so far; to be noted when a shell begins.

    While the number stays the same, objects made since then are in the two young generations.
    """
    return sum(one["collections"] for one in gc.get_stats()[1:])


def close_shell(shell: Any, began: int, log: Any) -> None:
    """Release what cells have left, and close the history. ``began`` is the value that
    `collections_so_far` had when the shell began. A failure is logged.
    """
    atexit.unregister(shell.atexit_operations)
    try:
        if shell.displayhook.do_full_cache:
            _forget_results(shell.displayhook)
            _collect(began)
        shell._atexit_once()  # only now, because tasks that cleaned up may have used the shell
    except Exception:  # a full disk, a broken database
        log.exception("the history could not be closed")


def _forget_results(hook: Any) -> None:
    """Does what `DisplayHook.flush` does, which `reset` would call, without its full collection."""
    hook.do_full_cache = False
    for number in range(1, hook.prompt_count + 1):
        for names in (hook.shell.user_ns_hidden, hook.shell.user_ns):
            names.pop(f"_{number}", None)
    results = hook.shell.user_ns.get("_oh")
    if isinstance(results, dict):  # the user may have taken the name
        results.clear()
    hook._ = hook.__ = hook.___ = ""


def _collect(began: int) -> None:
    """Collect the garbage that was made since a shell began."""
    global _closed
    _closed += 1
    # From Python 3.14 on collections are incremental: a generation cannot be collected by itself.
    is_young = sys.version_info < (3, 14) and collections_so_far() == began
    if is_young and _closed % CLOSED_IN_A_ROW:
        gc.collect(1)
    else:
        gc.collect()


def give_names_back(shell: Any, names: dict[str, Any]) -> None:
    """Take IPython's names out of ``names``, a namespace of the program's, and detach the shell
    from it: IPython empties the shell's namespaces when it ends, and the program still uses this.
    """
    for name, value in tuple(shell.user_ns_hidden.items()):
        if names.get(name) is value:
            del names[name]
    shell.user_ns, shell.user_module = {}, ModuleType("__main__")
