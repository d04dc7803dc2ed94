"""How the parts of IPython's shell are set up in a kernel: what it has otherwise in a terminal."""

from __future__ import annotations

from typing import Any

from IPython.core import page, payloadpage
from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.payload import PayloadManager
from traitlets import CBool, Instance, default

from .errors import ErrorShell
from .formatting import DisplayFormatter
from .history import CellHistory
from .magics import take_timeout
from .transforming import CellTransformers

__all__ = ["ParticularShell"]

# What %matplotlib passes on for backends that draw in the frontend: there is no loop to run.
_NO_LOOP = (None, "", "inline", "nbagg", "notebook", "ipympl", "widget")


class ParticularShell(ErrorShell):
    """The part of the shell that IPython calls as it builds one."""

    owns_process: Any = CBool(False)
    payload_manager: Any = Instance(PayloadManager)
    input_transformer_manager: Any = Instance(TransformerManager)
    take_timeout = staticmethod(take_timeout)

    @default("input_transformer_manager")
    def _default_transformers(self) -> TransformerManager:
        return CellTransformers()

    def init_history(self) -> None:
        """A history that costs a cell nothing."""
        self.history_manager = CellHistory(shell=self, parent=self)
        self.configurables.append(self.history_manager)

    def init_payload(self) -> None:
        """Payloads: what a reply asks of the frontend."""
        self.payload_manager = PayloadManager(parent=self)
        self.configurables.append(self.payload_manager)

    def take_payload(self) -> list[Any]:
        """What has been asked of the frontend since the last call."""
        payload: list[Any] = self.payload_manager.read_payload()
        if payload:
            self.payload_manager.clear_payload()
        return payload

    def init_sys_modules(self) -> None:
        """Make the namespace ``__main__``, in a process of its own only."""
        if self.owns_process:
            super().init_sys_modules()

    def init_hooks(self) -> None:
        """Pagers show their text by way of the frontend."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(payloadpage.page), 99)

    def init_display_formatter(self) -> None:
        """Every representation of an object, not only the text."""
        self.display_formatter = DisplayFormatter(parent=self)
        self.configurables.append(self.display_formatter)
        self.display_formatter.active_types = self.display_formatter.format_types

    def init_environment(self) -> None:
        """The environment is `process`' business."""

    def init_virtualenv(self) -> None:
        """The kernel runs in the environment it was installed in."""

    def init_io(self) -> None:
        """The streams are `redirections`' business."""

    def enable_gui(self, gui: Any = None) -> None:
        """``%gui``: set ``kernel.eventloop`` instead."""
        if gui not in _NO_LOOP:
            raise UsageError(
                f"%gui {gui}: set get_ipython().kernel.eventloop to a callable that advances it"
            )
