"""What a served kernel replaces in its process, and puts back at the end.

Every kernel replaces the functions of the ``comm`` package, for its own code. One that has the
process to itself replaces the streams, `input` and descriptors 1 and 2, unless its
``capture_output`` is off.
"""

from __future__ import annotations

import sys
import weakref
from contextlib import ExitStack

from .replacements import current_kernel
from .served import ServedKernel

__all__ = ["Takeover"]


class Takeover:
    """What one kernel replaces. With ``anywhere`` its code prints to the cell in any process.

    The modules that do it are imported late, because the kernel binds its sockets before.
    """

    def __init__(self, kernel: ServedKernel, *, anywhere: bool) -> None:
        self._kernel = kernel
        self._anywhere = anywhere

    @property
    def _captures(self) -> bool:
        return bool(self._kernel.owns_process and self._kernel.capture_output)

    def enter_loop(self) -> None:
        """A user loop has begun, the first one or the next."""
        from .comms import with_comms

        kernel = self._kernel
        self.enter_task()
        with_comms.add(kernel)
        if self._anywhere or self._captures:
            from .cell_io import captured

            captured.add(kernel)
        self._follow_descriptors()

    def enter_task(self) -> None:
        """The calling task, and those that it starts, are the kernel's."""
        current_kernel.set(weakref.ref(self._kernel))

    def begin(self) -> None:
        """Called once, as the kernel starts in its first loop."""
        kernel = self._kernel
        if self._captures:
            from .cell_io import capture_descriptors

            kernel.sender.prefers_cells = True
            kernel.descriptors = capture_descriptors(kernel.sender)
            self._follow_descriptors()

    def _follow_descriptors(self) -> None:
        kernel = self._kernel
        if kernel.descriptors is not None:
            kernel.server.stopper.services.start_soon(kernel.descriptors.run)

    def give_back(self) -> None:
        """Put everything back, whatever the author's code has done to it."""
        kernel = self._kernel
        with ExitStack() as stack:  # the last one first, and each of them
            if kernel.descriptors is not None:
                stack.callback(kernel.descriptors.restore)
                kernel.descriptors = None
            for name, served in (("cell_io", "captured"), ("comms", "with_comms")):
                module = sys.modules.get(f"{__package__}.{name}")
                if module is not None:
                    stack.callback(getattr(module, served).remove, kernel)
            if hasattr(kernel.kept_comms, "close_all"):
                stack.callback(kernel.kept_comms.close_all)
