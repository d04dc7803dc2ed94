"""``python -m trikernel.engine``: an engine, at the controller that the flags or a profile name."""

from __future__ import annotations

from .watcher import start_watcher

if __name__ == "__main__":
    watcher = start_watcher()  # before anything has a thread
    from .app import main

    main(watcher)
