"""The end of a kernel's shell in a process that goes on, as a test's does.

IPython's own end of a shell asks the collector to look at everything that there is in the process,
which takes longer than all else that a kernel in memory does. What the cells of a short life have
left is young, and the collector finds it among the young.
"""

from __future__ import annotations

import atexit
import gc
import sys
from types import ModuleType
from typing import Any

__all__ = ["close_shell", "collections_so_far", "give_names_back"]

# Shells whose cells' garbage was looked for among the young only, until one looks at everything:
# shells are garbage, too, and of the old.
CLOSED_IN_A_ROW = 64
_closed = 0


def collections_so_far() -> int:
    """How often what is young has become old, by the collector; to be noted when a shell begins."""
    return sum(one["collections"] for one in gc.get_stats()[1:])


def close_shell(shell: Any, began: int, log: Any) -> None:
    """Forget what cells have left, and end the history. ``began`` is `collections_so_far` then."""
    atexit.unregister(shell.atexit_operations)
    try:
        if shell.displayhook.do_full_cache:
            _forget_results(shell.displayhook)
            _collect(began)
        shell._atexit_once()  # now that the last task has cleaned up
    except Exception:  # a full disk, a broken database
        log.exception("the history could not be closed")


def _forget_results(hook: Any) -> None:
    """As `DisplayHook.flush`, which `reset` would call, but for the collector."""
    hook.do_full_cache = False
    for number in range(1, hook.prompt_count + 1):
        for names in (hook.shell.user_ns_hidden, hook.shell.user_ns):
            names.pop(f"_{number}", None)
    results = hook.shell.user_ns.get("_oh")
    if isinstance(results, dict):  # the user may have taken the name
        results.clear()
    hook._ = hook.__ = hook.___ = ""


def _collect(began: int) -> None:
    """Collect what was made since a shell began."""
    global _closed
    _closed += 1
    # From 3.14 on generations are collected bit by bit, so that one cannot be asked for.
    is_young = sys.version_info < (3, 14) and collections_so_far() == began
    if is_young and _closed % CLOSED_IN_A_ROW:
        gc.collect(1)
    else:
        gc.collect()


def give_names_back(shell: Any, names: dict[str, Any]) -> None:
    """IPython empties its namespaces at the end; these are somebody's who goes on."""
    for name, value in tuple(shell.user_ns_hidden.items()):
        if names.get(name) is value:
            del names[name]
    shell.user_ns, shell.user_module = {}, ModuleType("__main__")
