"""A fork server for ``trikernel run`` that imports while this program still does so itself."""

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
    """One that starts the kernels, if enough of them follow one another to repay its start.

    It may not be ready yet: whoever asks it for a kernel waits. Ends with the block.
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
