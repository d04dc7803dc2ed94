"""A timeline as SVG without JavaScript, for light and dark backgrounds.

Inside of a page the text has the page's colour (``currentColor``); a document of its own follows
``prefers-color-scheme``. The fills are of middle brightness, which can be seen on both backgrounds.
Every text from the user (names, lines) is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .layout import NURSERY_HEIGHT, TASK_HEIGHT, Drawn, Layout, lay_out
from .model import Held, Kind, Mark, Recording, Span, clip, duration

__all__ = [
    "AXIS",
    "LABELS",
    "STYLE",
    "draw_labels",
    "draw_plot",
    "draw_svg",
    "legend",
    "words_below",
]

LABELS, PLOT = 230, 720  # pixels of width
AXIS = 22  # pixels of height
CHARACTER = 6.2  # pixels of width, about
COLOURS = {
    Kind.RUN: "#3b82f6",
    Kind.SLEEP: "#94a3b8",
    Kind.CHANNEL: "#14b8a6",
    Kind.SOCKET: "#8b5cf6",
    Kind.LOCK: "#f59e0b",
    Kind.EVENT: "#84cc16",
    Kind.THREAD: "#ec4899",
    Kind.PROCESS: "#06b6d4",
    Kind.CHILDREN: "#94a3b8",
    Kind.OTHER: "#94a3b8",
}
RED = "#ef4444"
STYLE = """\
.trikernel-timeline { font: 11px ui-sans-serif, system-ui, -apple-system, 'Segoe UI', sans-serif }
.trikernel-timeline text { fill: currentColor; dominant-baseline: middle }
.trikernel-timeline .faint { opacity: .7 }
.trikernel-timeline .in { font-size: 10px; opacity: .85; pointer-events: none }
.trikernel-timeline .grid { stroke: currentColor; stroke-opacity: .13 }
.trikernel-timeline .box { fill: currentColor; fill-opacity: .035; stroke: currentColor; \
stroke-opacity: .22 }
.trikernel-timeline .bar { fill: currentColor; fill-opacity: .45 }
"""
_DOCUMENT = """\
svg.trikernel-timeline { color: #1f2328; background: #ffffff }
@media (prefers-color-scheme: dark) {
  svg.trikernel-timeline { color: #e6edf3; background: #16181d }
}
"""


def draw_svg(timeline: Recording) -> str:
    """The timeline as an SVG document."""
    layout = lay_out(timeline)
    words, below = words_below(timeline, layout), AXIS + 24 + layout.height
    height, width = below + 30 + 16 * len(words), LABELS + PLOT + 16
    title = escape(clip(timeline.title or "timeline", 100))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="trikernel-timeline" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{title}</title><style>{_DOCUMENT}{STYLE}</style>",
        f'<text x="8" y="14" font-weight="600">{title}, {duration(timeline.seconds)}</text>',
        f'<svg x="0" y="24" width="{LABELS}" height="{AXIS + layout.height}">',
        *draw_labels(layout),
        f'</svg><svg x="{LABELS}" y="24" width="{PLOT}" height="{AXIS + layout.height}" '
        'overflow="visible">',
        *draw_plot(timeline, layout),
        "</svg>",
        *legend(timeline, below + 16),
    ]
    for number, (text, colour) in enumerate(words):
        y = below + 38 + 16 * number
        parts.append(f'<text x="8" y="{y}" {_fill(colour)}>{escape(clip(text, 150))}</text>')
    return "\n".join([*parts, "</svg>"])


def _fill(colour: str) -> str:
    return f'style="fill: {colour}"' if colour else 'class="faint"'


def draw_labels(layout: Layout) -> Iterator[str]:
    """The column of names; the first one is below the axis."""
    for one in layout.rows:
        indent = 8 + 9 * min(one.row.depth, 8)
        y = AXIS + one.top + one.height / 2
        room = int((LABELS - indent - 6) / CHARACTER)
        style = ' class="faint" font-size="9"' if one.row.task is None else ""
        text = escape(clip(one.label, room))
        title = escape(clip(one.label))
        yield f'<text x="{indent}" y="{y:g}"{style}>{text}<title>{title}</title></text>'


def draw_plot(timeline: Recording, layout: Layout) -> Iterator[str]:
    """Axis, boxes, bars and marks. Horizontal positions are percents, vertical ones pixels."""
    bottom = AXIS + layout.height
    for at, text in layout.ticks:
        anchor = "start" if at < 2 else "end" if at > 96 else "middle"
        yield f'<line class="grid" x1="{at:.3f}%" x2="{at:.3f}%" y1="{AXIS - 4}" y2="{bottom}"/>'
        yield f'<text class="faint" x="{at:.3f}%" y="9" text-anchor="{anchor}">{text}</text>'
    for box in layout.boxes:
        width = max(box.right - box.left, 0.1)
        yield (
            f'<rect class="box" x="{box.left:.3f}%" y="{AXIS + box.top + 3}" '
            f'width="{width:.3f}%" height="{box.bottom - box.top - 4}" rx="4"/>'
        )
    for held in timeline.held:
        left, right = layout.percent(held.start), layout.percent(held.end)
        tip = _tip(held.sentence())
        yield (
            f'<rect x="{left:.3f}%" y="{AXIS}" width="{max(right - left, 0.2):.3f}%" '
            f'height="{layout.height}" fill="{RED}" fill-opacity=".13">{tip}</rect>'
        )
    by_task: dict[int | None, list[Held]] = {}
    for held in timeline.held:
        by_task.setdefault(held.task, []).append(held)
    for one in layout.rows:
        yield from _draw_row(one, layout, by_task)


def _draw_row(one: Drawn, layout: Layout, by_task: dict[int | None, list[Held]]) -> Iterator[str]:
    top = AXIS + one.top
    bar, task = one.row.nursery, one.row.task
    if bar is not None:
        left, right = layout.percent(bar.start), layout.percent(bar.end)
        tip = f"a nursery, open for {duration((bar.end or layout.seconds) - bar.start)}"
        yield (
            f'<rect class="bar" x="{left:.3f}%" y="{top + NURSERY_HEIGHT / 2 - 1:g}" '
            f'width="{max(right - left, 0.1):.3f}%" height="3" rx="1.5">{_tip(tip)}</rect>'
        )
    if task is None:
        return
    for span in one.spans:
        yield from _draw_span(span, top, layout)
    for held in by_task.get(task.key, ()):
        left, right = layout.percent(held.start), layout.percent(held.end)
        yield (
            f'<rect x="{left:.3f}%" y="{top + 3}" width="{max(right - left, 0.2):.3f}%" '
            f'height="{TASK_HEIGHT - 6}" fill="{RED}" rx="1">{_tip(held.sentence())}</rect>'
        )
    for mark in one.marks:
        yield _draw_mark(mark, top + TASK_HEIGHT / 2, layout)


def _draw_span(span: Span, top: int, layout: Layout) -> Iterator[str]:
    left, right = layout.percent(span.start), layout.percent(span.end)
    width, colour, seconds = right - left, COLOURS[span.kind], span.end - span.start
    if span.kind is Kind.RUN:
        steps = "one step" if span.steps == 1 else f"{span.steps:,} steps"
        tip = f"ran: {steps}, {duration(span.busy)} of work in {duration(seconds)}"
        opacity = 0.2 + 0.8 * span.share
        yield (
            f'<rect x="{left:.3f}%" y="{top + 3}" width="{max(width, 0.12):.3f}%" '
            f'height="{TASK_HEIGHT - 6}" fill="{colour}" fill-opacity="{opacity:.2f}" '
            f'stroke="{colour}" stroke-width=".6">{_tip(tip)}</rect>'
        )
        return
    tip = f"{span.text or 'waited'}, for {duration(seconds)}"
    yield (
        f'<rect x="{left:.3f}%" y="{top + 5}" width="{max(width, 0.01):.3f}%" '
        f'height="{TASK_HEIGHT - 10}" fill="{colour}" fill-opacity=".36">{_tip(tip)}</rect>'
    )
    room = int((width / 100 * PLOT - 8) / 5.4)
    if span.text and room > 6:
        yield (  # in an SVG of its own, which cuts the text at the end of the bar
            f'<svg x="{left:.3f}%" y="{top}" width="{width:.3f}%" height="{TASK_HEIGHT}" '
            f'overflow="hidden"><text class="in" x="4" y="{TASK_HEIGHT / 2 + 0.5:g}">'
            f"{escape(clip(_short(span), 2 * room))}</text></svg>"
        )


def _short(span: Span) -> str:
    """What the task waited on, without the folder of a file."""
    function, _, place = span.text.partition(", ")
    return f"{function}, {place.rpartition('/')[2]}" if place else function


def _draw_mark(mark: Mark, y: float, layout: Layout) -> str:
    """A cross for an error, a bar for a cancel, a diamond for a deadline; 9 pixels each."""
    at = layout.percent(mark.at)
    shape = {
        "error": '<path d="M-4-4 4 4M4-4-4 4" stroke-width="2.4" fill="none"/>',
        "cancel": '<path d="M0-7V7M-3-7H3M-3 7H3" stroke-width="1.8" fill="none"/>',
        "deadline": '<path d="M0-5 5 0 0 5-5 0Z" stroke-width="1.2"/>',
    }[mark.kind]
    colour = {"error": RED, "cancel": "currentColor", "deadline": "#f59e0b"}[mark.kind]
    return (
        f'<svg x="{at:.3f}%" y="{y:g}" overflow="visible" stroke="{colour}" fill="{colour}">'
        f"{shape}{_tip(f'{mark.text}, at {duration(mark.at)}')}</svg>"
    )


def legend(timeline: Recording, y: int) -> Iterator[str]:
    """The colours and signs that the picture uses, in one line at height ``y``."""
    kinds = {span.kind for task in timeline.tasks for span in task.spans}
    x = 8.0
    for kind, colour in COLOURS.items():
        if kind in kinds:
            opacity = 1 if kind is Kind.RUN else 0.5
            yield (
                f'<rect x="{x:g}" y="{y - 5}" width="11" height="10" fill="{colour}" '
                f'fill-opacity="{opacity}"/><text x="{x + 15:g}" y="{y}">{kind.value}</text>'
            )
            x += 30 + CHARACTER * len(kind.value)
    if timeline.held:
        text = "held the loop"
        yield f'<rect x="{x:g}" y="{y - 5}" width="11" height="10" fill="{RED}"/>'
        yield f'<text x="{x + 15:g}" y="{y}">{text}</text>'
        x += 30 + CHARACTER * len(text)
    used = {mark.kind for task in timeline.tasks for mark in task.marks}
    for sign in ("error", "cancel", "deadline"):
        if sign in used:
            mark = _draw_mark(Mark(0, sign, sign), y, Layout((), (), (), 0, 0, 0))
            yield mark.replace('x="0.000%"', f'x="{x + 5:g}"')
            yield f'<text x="{x + 15:g}" y="{y}">{sign}</text>'
            x += 30 + CHARACTER * len(sign)


def words_below(timeline: Recording, layout: Layout) -> list[tuple[str, str]]:
    """Lines of text below the picture, and their colours; empty is the colour of faint text."""
    found = [(one.sentence(), RED) for one in list(timeline.held)[:8]]
    found += [(note, "") for note in timeline.notes()]
    if layout.hidden:
        found.append((f"{layout.hidden:,} more lines are not drawn", ""))
    return found


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>"
