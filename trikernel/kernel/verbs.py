"""The verbs that an author writes, with their default answers.

Each may be plain or ``async``. A plain verb runs on the main thread, where an interrupt raises
`KeyboardInterrupt` in it; an async one is cancelled. Either may return a content dictionary, a
reply value of `trikernel.wire.replies`, or None for the default answer.
Source: messaging.rst, "Messages on the shell (ROUTER/DEALER) channel".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UnknownMessageType
from .promptness import prompt
from .stdin import KernelStdin

__all__ = ["KernelVerbs"]


class KernelVerbs(KernelStdin):
    """What a subclass overrides."""

    def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> Any:
        """Run code. Publish results with `send_response`; what is raised becomes the reply.

        ``options`` are ``store_history`` (bool), ``user_expressions`` (dict), ``allow_stdin``
        (bool), ``cell_meta`` (the request's metadata) and ``cell_id`` (str or None); a
        subclass names those that it needs. Returns ``{"status": "ok", "payload": [...],
        "user_expressions": {...}}`` or an error content; ``execution_count`` is filled in.
        """
        raise UnknownMessageType(f"{type(self).__name__} does not implement do_execute")

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        """Complete at ``cursor_pos`` (code points): a ``complete_reply`` content."""
        return {
            "status": "ok",
            "matches": [],
            "cursor_start": cursor_pos,
            "cursor_end": cursor_pos,
            "metadata": {},
        }

    def do_inspect(self, code: str, cursor_pos: int, *args: Any, **options: Any) -> Any:
        """Describe the object at ``cursor_pos``: an ``inspect_reply`` content.

        ``options`` are ``detail_level`` (0 or 1) and ``omit_sections`` (MIME types).
        """
        return {"status": "ok", "found": False, "data": {}, "metadata": {}}

    def do_history(self, *args: Any, **options: Any) -> Any:
        """Look into the history: a ``history_reply`` content.

        ``options`` are the fields of a ``history_request``: ``hist_access_type`` (tail, range
        or search), ``output``, ``raw``, ``session``, ``start``, ``stop``, ``n``, ``pattern``,
        ``unique``.
        """
        return {"status": "ok", "history": []}

    def do_is_complete(self, code: str) -> Any:
        """Say whether ``code`` is ready to run: an ``is_complete_reply`` content."""
        return {"status": "unknown"}

    def do_shutdown(self, restart: bool) -> Any:
        """Clean up, within ``shutdown_grace`` seconds: a ``shutdown_reply`` content."""
        return {"status": "ok", "restart": restart}

    def do_apply(
        self,
        content: dict[str, Any],
        bufs: Sequence[bytes],
        msg_id: str,
        reply_metadata: dict[str, Any],
    ) -> Any:
        """Run a function call of an IPython.parallel client, packed in ``bufs``.

        Returns ``(reply_content, result_buffers)``.
        """
        raise UnknownMessageType(f"{type(self).__name__} does not implement do_apply")

    def do_clear(self) -> Any:
        """Clear the namespace: a reply content."""
        raise UnknownMessageType(f"{type(self).__name__} does not implement do_clear")

    # Hooks

    @prompt
    def init_metadata(self, parent: dict[str, Any]) -> dict[str, Any]:
        """What a reply's metadata begins with, as the request starts; ``started`` is there."""
        return {}

    def finish_metadata(
        self, parent: dict[str, Any], metadata: dict[str, Any], reply_content: dict[str, Any]
    ) -> dict[str, Any]:
        """The reply's metadata, once its content is known."""
        return metadata

    def should_handle(self, stream: Any, msg: dict[str, Any], idents: Sequence[bytes]) -> Any:
        """Whether a request may run; one that may not is answered ``aborted``. May be async."""
        return msg["header"]["msg_id"] not in self.aborted

    @prompt
    def pre_handler_hook(self) -> None:
        """Called in the main thread before each handler of the shell lane."""

    def post_handler_hook(self) -> None:
        """Called in the main thread after each handler of the shell lane."""

    async def started(self) -> None:
        """Called in the user loop once ``starting`` is published, before the first request.

        Interrupts do not reach it.
        """
