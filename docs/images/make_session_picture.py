"""Draws `session.svg`: a notebook whose cells are run, as a picture that moves.

The outputs, and how long each took, are those of a kernel that runs the cells while this script
runs. The picture needs no JavaScript, follows the reader's light or dark, and stands still for
those who have asked for less motion.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from html import escape
from pathlib import Path

import attrs
import trio
from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Literal, Name, Operator, Token

from trikernel.client import Client, open_kernel

HERE = Path(__file__).parent

CELLS = [
    """\
async def fetch(name, seconds):
    await trio.sleep(seconds)
    print(name, "is here")

async with trio.open_nursery() as group:  # waits for all
    group.start_soon(fetch, "slow", 0.9)
    group.start_soon(fetch, "quick", 0.3)""",
    """\
with trio.move_on_after(0.5) as scope:
    await trio.sleep(60)
print("too late:", scope.cancelled_caught)""",
    """\
nursery.start_soon(fetch, "a task that outlives its cell", 60)
await trio.sleep(0.2)
%tasks""",
]
BEFORE = "import trio\nfrom trikernel.notebook import nursery"

WIDTH, LINE, LEFT, PAD = 760, 19, 66, 10  # pixels
TYPING, PAUSE, LAST = 0.28, 0.7, 4.0  # seconds: a line of code, between cells, at the end
_KINDS = [
    (Keyword, "k"),
    (Comment, "c"),
    (Literal, "s"),
    (Name.Function, "f"),
    (Operator, "o"),
    (Token, ""),
]
_STYLE = """
svg { --page: #ffffff; --box: #f6f8fa; --line: #d0d7de; --ink: #1f2328; --dim: #656d76;
  --key: #8250df; --text: #0a6640; --call: #0550ae; --bar: #0b6e75 }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --box: #161b22; --line: #30363d; --ink: #e6edf3; --dim: #8d96a0;
    --key: #d2a8ff; --text: #7ee787; --call: #79c0ff; --bar: #5cc8d0 } }
text { font: 13.5px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: var(--ink);
  white-space: pre }
.page { fill: var(--page); stroke: var(--line) }
.box { fill: var(--box); stroke: var(--line) }
.bar { fill: var(--bar) }
.k { fill: var(--key) } .s { fill: var(--text) } .f { fill: var(--call) }
.c, .prompt { fill: var(--dim) }
@media (prefers-reduced-motion: reduce) { .t { animation: none !important } .gone { opacity: 0 } }
""".strip()


@attrs.frozen
class Output:
    """One line of output, and the seconds after which it came."""

    text: str
    after: float


@attrs.define
class Picture:
    """What is drawn so far; each part is there from one second to another."""

    parts: list[str] = attrs.field(factory=list)
    times: dict[tuple[float, float], str] = attrs.field(factory=dict)

    def text(self, x: float, y: float, spans: str, since: float, until: float = 1e9) -> None:
        """A line of text."""
        name = self.times.setdefault((since, until), f"t{len(self.times)}")
        kind = "t gone" if until < 1e9 else "t"
        self.parts.append(f'<text class="{kind} {name}" x="{x}" y="{y}">{spans}</text>')

    def animations(self, seconds: float) -> str:
        """The rules that show each part in its time, over and over."""
        rules = []
        for (since, until), name in self.times.items():
            begin = 100 * since / seconds
            end = min(100 * until / seconds, 99)
            steps = f"0%,{begin:.2f}%{{opacity:0}}{begin + 0.1:.2f}%,{end:.2f}%{{opacity:1}}"
            rules.append(f"@keyframes {name}{{{steps}{end + 0.1:.2f}%,100%{{opacity:0}}}}")
            rules.append(f".{name}{{animation:{name} {seconds:.1f}s infinite}}")
        return "\n".join(rules)


async def run_cells() -> list[list[Output]]:
    """The lines that each cell puts out."""
    async with open_kernel() as client:
        await client.execute(BEFORE, store_history=False)
        return [[line async for line in _run(client, cell)] for cell in CELLS]


async def _run(client: Client, code: str) -> AsyncIterator[Output]:
    begun = trio.current_time()
    async with client.executing(code) as execution:
        async for output in execution:
            text = output.get("text") or output["data"]["text/plain"]
            for line in text.splitlines():
                yield Output(line, trio.current_time() - begun)
    execution.raise_for_error()


def draw(outputs: list[list[Output]]) -> str:
    """The picture, as SVG."""
    picture, y, now = Picture(), 12.0, 0.4
    for number, (code, lines) in enumerate(zip(CELLS, outputs, strict=True), 1):
        height = LINE * len(code.splitlines()) + 2 * PAD
        box = f'x="{LEFT}" y="{y}" width="{WIDTH - LEFT - 14}" height="{height}"'
        picture.parts.append(f'<rect class="box" {box} rx="4"/>')
        for row, line in enumerate(code.splitlines()):
            spans = "".join(_coloured(line))
            picture.text(LEFT + 12, y + PAD + 14 + LINE * row, spans, now)
            now += TYPING
        ended = now + (lines[-1].after if lines else 0) + 0.1
        for text, since, until in (("[ ]:", 0, now), ("[*]:", now, ended)):
            picture.text(18, y + PAD + 14, f'<tspan class="prompt">{text}</tspan>', since, until)
        picture.text(18, y + PAD + 14, f'<tspan class="prompt">[{number}]:</tspan>', ended)
        y += height + 6
        for output in lines:
            picture.text(LEFT + 12, y + 14, escape(output.text), round(now + output.after, 2))
            y += LINE
        now, y = ended + PAUSE, y + 12
    seconds, height = now + LAST, y + 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" height="{height:.0f}" role="img" '
            'aria-label="three cells of a notebook are run: a nursery, a deadline, a task">',
            f"<style>{_STYLE}\n{picture.animations(seconds)}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height:.0f}" rx="8"/>',
            *picture.parts,
            "</svg>",
            "",
        ]
    )


def _coloured(line: str) -> Iterator[str]:
    for kind, text in PythonLexer(stripnl=False).get_tokens(line):
        name = next(name for parent, name in _KINDS if kind in parent)
        if name == "o" and text.isalpha():
            name = "k"
        shown = escape(text.rstrip("\n"))
        if shown:
            yield f'<tspan class="{name}">{shown}</tspan>' if name else shown


if __name__ == "__main__":
    (HERE / "session.svg").write_text(draw(trio.run(run_cells)), "utf-8")
