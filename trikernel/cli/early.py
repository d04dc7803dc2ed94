"""A fork server for ``trikernel run``: it imports while this program still imports, too."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..warm import ForkServer, warm_is_possible

__all__ = ["early_fork_server"]


@contextmanager
def early_fork_server(options: argparse.Namespace) -> Iterator[ForkServer | None]:
    """A fork server for the kernels of a run, if more than two follow one another on average, so
    that it saves more time than its start takes; else None.

    It may not be ready yet: a request for a kernel waits. It ends with the block.
    """
    notebooks = len(options.notebooks)
    at_once = min(options.jobs or os.cpu_count() or 1, notebooks)
    pays = notebooks > 2 * at_once
    if not pays or options.kernel is not None or warm_is_possible() is not None:
        yield None
        return
    server = ForkServer()
    threading.Thread(target=server.start, name="fork server's start", daemon=True).start()
    try:
        yield server
    finally:
        server.close()
