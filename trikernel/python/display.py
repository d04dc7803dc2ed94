"""Sends results and displays of a cell as iopub messages: IPython's display hook and publisher.

IPython has one shell for all callers. If several kernels are in one process, a display is sent by
the kernel that the calling code runs for, and so is the value of a last expression.
"""

from __future__ import annotations

from typing import Any

from IPython.core.display_trap import DisplayTrap
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher

from ..kernel.streams import current_capture
from .process import served

__all__ = ["CellDisplayHook", "CellDisplayPublisher", "shared_display_trap"]


class _WithParent:
    """The parent of what is sent, as ipykernel's hook and publisher have it. It is one for both,
    the streams and the shell.
    """

    shell: Any

    @property
    def parent_header(self) -> dict[str, Any]:
        """The header of the message that this code runs for."""
        header: dict[str, Any] = self.shell.get_parent().get("header", {})
        return header

    @parent_header.setter
    def parent_header(self, header: Any) -> None:
        self.shell.set_parent(header)

    def set_parent(self, parent: Any) -> None:
        """See `Kernel.set_parent`."""
        self.shell.set_parent(parent)

    def set_thread_parent(self, parent: Any) -> Any:
        """The same. Returns what `reset_thread_parent` takes."""
        return self.shell.set_thread_parent(parent)

    def reset_thread_parent(self, token: Any) -> None:
        """Undo that call of `set_thread_parent`, which was made in this thread or task."""
        self.shell.reset_thread_parent(token)


class CellDisplayHook(_WithParent, DisplayHook):
    """Sends the value of a cell's last expression as ``execute_result``."""

    is_showing = False  # while the representations of a value are being made
    _content: dict[str, Any] | None = None
    exec_result: Any = None  # a trait in IPython's class, which is slow to set

    def __call__(self, result: Any = None) -> None:
        """Show a value. The cell fails if one of its representations raises: see
        `CellErrors.of_display`.
        """
        self.is_showing = True
        try:
            super().__call__(result)
        finally:
            self.is_showing = False

    def start_displayhook(self) -> None:
        """Begin a result."""
        self._content = None

    def write_output_prompt(self) -> None:
        """Nothing: the frontend shows ``Out[n]:`` itself."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        """Keep the MIME bundle for `finish_displayhook`."""
        self._content = {
            "execution_count": self.prompt_count,
            "data": format_dict,
            "metadata": md_dict or {},
        }

    def log_output(self, format_dict: Any) -> None:
        """Keep the output for the history, if the request says that the cell is stored there."""
        request = self.shell.find_kernel().sender.current()
        if getattr(request and request.content, "store_history", True):
            super().log_output(format_dict)

    def finish_displayhook(self) -> None:
        """Send the result, if it has any representation."""
        content, self._content = self._content, None
        if content is not None and content["data"]:
            kernel = self.shell.find_kernel()
            kernel.send_response(kernel.iopub_socket, "execute_result", content)


class CellDisplayPublisher(_WithParent, DisplayPublisher):
    """``display()``, ``update_display()`` and ``clear_output()``."""

    def publish(
        self,
        data: Any,
        metadata: Any = None,
        *,
        transient: Any = None,
        update: bool = False,
        **kwargs: Any,
    ) -> None:
        """Send ``display_data``, or ``update_display_data`` for a known ``display_id``."""
        if not isinstance(data, dict):
            raise TypeError(f"data must be a dict of MIME types, not {type(data).__name__}")
        if metadata is not None and not isinstance(metadata, dict):
            raise TypeError(f"metadata must be a dict, not {type(metadata).__name__}")
        if self.shell.is_forked:
            # a forked child has no channels; its parent process captures descriptor 1
            print(data.get("text/plain", ""), flush=True)
            return
        capture = current_capture.get()
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        if capture is not None and capture.take_display({**content, "update": update}):
            return
        kernel = served.kernel() or self.shell.find_kernel()
        if self._is_publishing or self.shell.display_captured(content, update):
            return
        kernel.send_response(
            kernel.iopub_socket,
            "update_display_data" if update else "display_data",
            content,
        )

    def clear_output(self, wait: bool = False) -> None:
        """Clear the cell's output, at once, or with ``wait`` when the next output comes."""
        kernel = served.kernel() or self.shell.find_kernel()
        kernel.send_response(kernel.iopub_socket, "clear_output", {"wait": wait})


def _show(value: Any) -> None:
    kernel = served.kernel()
    if kernel is not None:
        kernel.shell.displayhook(value)


shared_display_trap = DisplayTrap(hook=_show)
"""For kernels that share a process: their cells may alternate, so one hook serves all of them.

With a trap for each shell, IPython would put back the hook that it found when the cell began, and
that may be the hook of another kernel whose cell was running.
"""
