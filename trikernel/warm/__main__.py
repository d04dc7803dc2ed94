"""``python -P -m trikernel.warm``: the process of a template, started by `starting`."""

from __future__ import annotations

import json
import os
import socket
import sys

from ..system import freeze
from .packets import send_message
from .preloading import import_base, preload, threads_around_fork
from .staleness import Files, noted_reads
from .taking_over import Own
from .template import Imported, Template, listen, lock_place


def _import(names: list[str], defaults: dict[str, str]) -> Imported:
    """Import everything. ``defaults`` are the environment variables that a kernel sets for its own
    process where they are missing: they are set here during the imports.
    """
    files, own = Files(), Own()
    missing = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(missing)
    environment = dict(os.environ)
    with noted_reads() as read:
        import_base()
        left_out = preload(names)
    for name in missing:
        os.environ.pop(name, None)
    threads = threads_around_fork()
    if threads:
        raise RuntimeError(f"it has threads: {', '.join(threads)}")
    files.note_modules()
    own.renew()  # once here, so that what a library sets up at the first call is shared by forks
    freeze()
    return Imported(files, environment, read, left_out, own)


def main() -> None:
    """Become a template. In each process that it forks, run the module that was asked for."""
    if sys.platform != "linux":
        raise NotImplementedError
    options = json.loads(sys.argv[1])
    if os.fork():  # the template is no child of the program that starts it, which need not reap it
        os._exit(0)
    os.setsid()
    owner: socket.socket | None = None
    listener, lock = None, None
    if options["owner"] is not None:
        owner = socket.socket(fileno=options["owner"])
        owner.set_inheritable(False)
    else:
        lock = lock_place(options["path"])
        if lock is None:
            return
    try:
        imported = _import(options["preload"], options["defaults"])
    except Exception as error:
        if owner is not None:
            send_message(owner, {"failed": f"{type(error).__name__}: {error}"[:2000]})
        raise
    if owner is not None:
        send_message(owner, {"pid": os.getpid(), "left_out": imported.left_out})
    else:
        # Only now: a program that finds no listener starts its kernel in the ordinary way, which is
        # faster than to wait for the imports.
        listener = listen(options["path"])
    template = Template(
        imported,
        owner=owner,
        listener=listener,
        path=options["path"] or "",
        lock=lock,
        idle=options["idle"],
    )
    request = template.serve()
    if request is not None:
        program = template.program_of(request["module"])
        del template, imported, listener, owner
        program.run(request["arguments"])


if __name__ == "__main__":
    main()
