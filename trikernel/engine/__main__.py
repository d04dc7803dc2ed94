"""``python -m trikernel.engine``: an engine of the controller that the flags or a profile name."""

from __future__ import annotations

from .watcher import start_watcher

if __name__ == "__main__":
    watcher = start_watcher()  # it forks, so before any thread is started
    from .app import main

    main(watcher)
