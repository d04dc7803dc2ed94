"""``ipyparallel.datapub.publish_data`` on an engine, by which a call publishes values.

The values arrive at the client as ``AsyncResult.data`` while the call still runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import TrikernelError
from ..kernel import served_kernel
from .packing import pack

__all__ = ["DataPublisher"]


class DataPublisher:
    """The ``data_pub`` of the shell, as ipyparallel's function looks for it."""

    def publish_data(self, data: Mapping[str, Any]) -> None:
        """Send named values to the client of the current call. Raises what packing them raises."""
        kernel = served_kernel()
        if kernel is None:
            raise TrikernelError("values are published by code that runs on an engine")
        values = dict(data)
        kernel.send_response(
            kernel.iopub_socket,
            "data_message",
            {"keys": list(values)},
            buffers=pack(values),
        )
