"""Draws `house.svg`: the layers of the package, and which may import which."""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).parent

# The layers from the top down, each with what it is about; an arrow stands for "imports".
STACK = [
    ("cli", "the trikernel command"),
    ("compat", "kernels that were written for ipykernel, as they are"),
    ("engine", "the Python kernel at a controller of ipyparallel"),
    ("python", "IPython for the language: shell, output, magics, comms"),
    ("debugger", "the Debug Adapter Protocol, by debugpy; knows no IPython"),
    ("loops", "an asyncio loop as a guest of Trio's, windows' loops"),
    ("kernel", "what an author subclasses: Kernel, its settings, its process"),
    ("timeline", "what tasks do over time: a recorder, a value, pictures"),
    ("core", "a request's life: dispatch, lanes, stop, iopub, replies, server"),
    ("transport", "frames over sockets or in memory; looks into none of them"),
    ("wire", "frames and frozen values, the table of message types; no I/O"),
    ("system", "the process and its event loops; nothing of Jupyter"),
]
# Beside the stack: name, what it is about, the first and the last layer that it stands beside.
BESIDE = [
    ("client", "the other end: Client,\nkernel processes,\nnotebooks", "core", "core"),
    ("testing", "the test kit;\nmay import all\nbut cli", "compat", "debugger"),
    ("remote", "kernels that a gateway\nstarts elsewhere", "loops", "loops"),
    ("conformance", "checks any kernel", "kernel", "kernel"),
    ("warm", "kernels by a fork of\na process that waits", "wire", "wire"),
]
WIDTH, ROW, GAP, LEFT, MAIN = 760, 52, 14, 20, 520

_STYLE = """
svg { --page: #ffffff; --ink: #1f2328; --dim: #57606a; --box: #f6f8fa; --line: #8c959f;
  --core: #ddf4ff; --edge: #0969da }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --ink: #e6edf3; --dim: #9198a1; --box: #161b22; --line: #6e7681;
    --core: #12283f; --edge: #4493f8 } }
text { font-family: system-ui, sans-serif; fill: var(--ink) }
.name { font: 600 15px ui-monospace, monospace }
.about { font-size: 12.5px; fill: var(--dim) }
.page { fill: var(--page) }
.box { fill: var(--box); stroke: var(--line); rx: 6 }
.middle { fill: var(--core); stroke: var(--edge); rx: 6 }
.arrow { stroke: var(--line); stroke-width: 1.5; fill: none }
.line { marker-end: url(#head) }
""".strip()


def main() -> None:
    (HERE / "house.svg").write_text(draw(), "utf-8")


def draw() -> str:
    """The picture, as SVG."""
    height = 20 + len(STACK) * (ROW + GAP) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="the layers of trikernel">',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" '
        'orient="auto"><path class="arrow" d="M0,0 L6,3 L0,6"/></marker></defs>',
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
    ]
    for number, (name, about) in enumerate(STACK):
        top = _top(name)
        kind = "middle" if name == "core" else "box"
        parts += _box(LEFT, top, MAIN, ROW, kind, name, [about])
        if number + 1 < len(STACK):
            middle, bottom = LEFT + 40, top + ROW
            parts.append(_arrow(middle, bottom, middle, bottom + GAP))
    for name, about, first, last in BESIDE:
        top = _top(first)
        rows = 1 + round((_top(last) - top) / (ROW + GAP))
        size = rows * ROW + (rows - 1) * GAP
        lines = about.split("\n")
        size = max(size, 36 + 16 * len(lines))
        parts += _box(LEFT + MAIN + 30, top, 170, size, "box", name, lines)
    transport = _top("transport") + ROW // 2
    client = _top("core") + 84  # where its box ends
    right = LEFT + MAIN + 30 + 60
    path = f"M{right},{client} V{transport} H{LEFT + MAIN + 4}"
    parts.append(f'<path class="arrow line" d="{path}"/>')
    parts.append(
        f'<text class="about" x="{LEFT}" y="{height - 10}">Each layer imports only from layers '
        "below it; errors.py is below them all.</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def _top(layer: str) -> int:
    """Where a layer begins."""
    return 20 + [name for name, _ in STACK].index(layer) * (ROW + GAP)


def _box(
    x: int, y: int, width: int, height: int, kind: str, name: str, about: list[str]
) -> list[str]:
    lines = [f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>']
    lines.append(f'<text class="name" x="{x + 14}" y="{y + 22}">{escape(name)}</text>')
    for number, text in enumerate(about):
        place = f'x="{x + 14}" y="{y + 41 + 16 * number}"'
        lines.append(f'<text class="about" {place}>{escape(text)}</text>')
    return lines


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    return f'<line class="arrow line" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>'


if __name__ == "__main__":
    main()
