"""A timeline as a fragment of HTML that can be zoomed without JavaScript.

The column of names stays in place; the plot beside it is as wide as the chosen button says, and
scrolls. A frontend that removes buttons and styles still shows the picture.
"""

from __future__ import annotations

from hashlib import sha1
from html import escape

from .layout import lay_out
from .model import Recording, clip, duration
from .svg import AXIS, LABELS, STYLE, draw_labels, draw_plot, legend, words_below

__all__ = ["draw_html"]

ZOOMS = (1, 4, 16, 64)


def draw_html(timeline: Recording) -> str:
    """The HTML that a notebook shows below the cell."""
    layout = lay_out(timeline)
    height = AXIS + layout.height
    labels, plot = "".join(draw_labels(layout)), "".join(draw_plot(timeline, layout))
    signs = "".join(legend(timeline, 11))
    mark = "tl" + sha1(plot.encode(), usedforsecurity=False).hexdigest()[:10]
    buttons, rules = [], []
    for zoom in ZOOMS:
        checked = " checked" if zoom == 1 else ""
        one = f"{mark}-{zoom}"
        buttons.append(
            f'<input type="radio" name="{mark}" id="{one}"{checked}>'
            f'<label for="{one}">{zoom}x</label>'
        )
        rules.append(f"#{one}:checked ~ .view .plot {{ width: {zoom * 100}% }}")
        rules.append(f"#{one}:checked + label {{ background: #3b82f6; color: #fff; opacity: 1 }}")
    title = escape(clip(timeline.title or "timeline", 100))
    words = "".join(
        f'<div style="{f"color: {colour}" if colour else "opacity: .7"}">{escape(text)}</div>'
        for text, colour in words_below(timeline, layout)
    )
    return (
        f'<div class="trikernel-timeline" style="max-width: 1200px"><style>{STYLE}{_MORE}'
        f"{' '.join(rules)}</style><b>{title}, {duration(timeline.seconds)}</b> {''.join(buttons)}"
        f'<div class="view" style="display: flex"><svg width="{LABELS}" height="{height}" '
        f'style="flex: none">{labels}</svg>'
        f'<div style="overflow-x: auto; flex: 1; padding-right: 9px">'
        f'<svg class="plot" width="100%" height="{height}" style="overflow: visible">{plot}</svg>'
        f'</div></div><svg width="100%" height="22">{signs}</svg>{words}</div>'
    )


_MORE = """\
.trikernel-timeline input { position: absolute; opacity: 0; width: 1px; pointer-events: none }
.trikernel-timeline label { padding: 0 6px; border-radius: 7px; opacity: .6; cursor: pointer }
.trikernel-timeline input:focus-visible + label { outline: 2px solid #3b82f6 }
.trikernel-timeline svg { display: block; max-width: none; height: revert-layer }
"""
