"""A recording that knows how it is drawn."""

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
    """What was recorded. Shown as a picture; ``str()`` is one for a terminal.

    Its values are those of `Recording`: ``tasks`` with ``spans`` and ``marks``, ``nurseries``,
    ``held``; and ``seconds``, from the beginning to the end.
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
        """An SVG document, which needs no JavaScript and is light or dark as its reader is."""
        return draw_svg(self)

    def chrome_trace(self) -> str:
        """JSON for Perfetto (https://ui.perfetto.dev) and Chrome's ``chrome://tracing``."""
        return draw_trace(self)
