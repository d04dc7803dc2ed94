"""`Timeline`: a recording that can draw itself."""

from __future__ import annotations

import attrs

from .html import draw_html
from .model import Recording
from .svg import draw_svg
from .text import draw_text
from .trace import draw_trace

__all__ = ["Timeline"]


@attrs.frozen(repr=False)
class Timeline(Recording):
    """What was recorded. Frontends show it as a picture; ``str()`` draws it for a terminal.

    Its fields are those of `Recording`: ``tasks`` with ``spans`` and ``marks``, ``nurseries``,
    ``held``; ``seconds`` is the length of the record.
    """

    def __str__(self) -> str:
        return draw_text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """For frontends: zoomable HTML, a picture, and text."""
        return {
            "text/html": draw_html(self),
            "image/svg+xml": draw_svg(self),
            "text/plain": str(self),
        }

    def svg(self) -> str:
        """An SVG document without JavaScript, in the light or dark colours that its viewer asks
        for.
        """
        return draw_svg(self)

    def chrome_trace(self) -> str:
        """JSON for Perfetto (https://ui.perfetto.dev) and Chrome's ``chrome://tracing``."""
        return draw_trace(self)
