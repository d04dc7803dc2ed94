"""Notebooks of varied content: what a runner must bring back as a frontend shows it."""

from __future__ import annotations

from typing import Any

import nbformat

Cells = list[str | tuple[str, list[str]]]

NOTEBOOKS: dict[str, Cells] = {
    "text": ["print('a')", "for n in range(50): print(n, end=' ')", "print()"],
    "two streams": [
        "import sys\nfor n in range(5): print('out', n); print('err', n, file=sys.stderr)"
    ],
    "results": ["1 + 1", "None", "'text'", "[1, [2, 3]]", "1; 2", "_"],
    "long text": ["for n in range(3000): print('line', n)"],
    "unicode": ["print('grüße 你好 🎉')", "'\\ud800' 'lone'", "'\\x1b[31mred\\x1b[0m'"],
    "errors": [
        ("1/0", ["raises-exception"]),
        ("def f():\n    raise ValueError('bad')\nf()", ["raises-exception"]),
        ("x =", ["raises-exception"]),
        "print('goes on')",
    ],
    "error groups": [
        ("raise ExceptionGroup('two', [ValueError(1), TypeError(2)])", ["raises-exception"])
    ],
    "displays": [
        "from IPython.display import display, HTML, Markdown, JSON, Latex, SVG\n"
        "display(HTML('<b>x</b>')); display(Markdown('*y*')); display(JSON({'a': [1]}))",
        "display(Latex('$x$'), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))",
        "display({'text/plain': 'p', 'application/x-mine+json': {'k': 1}}, raw=True)",
    ],
    "images": [
        "from IPython.display import Image\n"
        "import base64\n"
        "png = base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
        "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==')\nImage(png)",
        "Image(png, width=10, metadata={'alt': 'dot'})",
    ],
    "updates": [
        "from IPython.display import display, update_display\nh = display('one', display_id='d')",
        "h.update('two'); print('updated')",
        "display('again', display_id='d'); update_display('three', display_id='d')",
    ],
    "results updated": [
        "class R:\n def __init__(self): self.n = 0\n def __repr__(self): return f'R{self.n}'\nR()"
    ],
    "clearing": [
        "from IPython.display import clear_output\nprint('gone'); clear_output(); print('stays')",
        "print('gone'); clear_output(wait=True); print('stays')",
        "print('stays, as nothing follows'); clear_output(wait=True)",
        "for n in range(5): clear_output(wait=True); print(n)",
    ],
    "tables": [
        "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\ndf",
        "print(df)",
        "df.describe()",
    ],
    "figures": [
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);",
        "fig, ax = plt.subplots(); ax.bar(['a'], [1]); plt.show(); print('after')",
    ],
    "plotly": [
        "import plotly.graph_objects as go\n"
        "import plotly.io as pio\npio.renderers.default = 'plotly_mimetype'\n"
        "go.Figure(go.Scatter(y=[1, 2]))"
    ],
    "magics": ["%env HOME", "%%capture c\nprint('kept')", "c.stdout", "%lsmagic"],
    "shell": ["!echo hello", "files = !echo a b\nfiles", "%%bash\necho one; echo two >&2"],
    "child processes": [
        "import subprocess; subprocess.run(['echo', 'from a child']);",
        "import os; os.system('echo from system'); os.write(1, b'raw\\n');",
    ],
    "awaiting": [
        "import trio\nasync def f(n): await trio.sleep(0.01); print(n)",
        "async with trio.open_nursery() as nursery:\n    nursery.start_soon(f, 1)",
        "await f(2)",
        "with trio.move_on_after(0.01) as s: await trio.sleep_forever()\ns.cancelled_caught",
    ],
    "threads": [
        "from threading import Thread\nt = Thread(target=print, args=('a',)); t.start(); t.join()"
    ],
    "progress": ["from tqdm import tqdm\nfor _ in tqdm(range(3), ncols=0, disable=True): pass"],
    "widgets": [
        "import ipywidgets as w\ns = w.IntSlider(value=3, description='n')\ns",
        "w.HBox([s, w.Button(description='go')])",
        "s.value = 7",
        "out = w.Output()\nout",
        "out.append_stdout('appended\\n')",
    ],
    "namespaces": ["x = 1", "%who_ls", "del x", ("x", ["raises-exception"])],
    "skipped": ["print('runs')", ("raise SystemExit", ["skip-execution"]), "print('runs too')"],
    "empty": ["", "   ", "print('x')", "# a comment only"],
    "carriage returns": ["print('50%\\r100%')", "print('a\\r\\nb')", "print('x\\by')"],
    "many outputs": ["for n in range(200): display(n)"],
    "rich text": ["from rich import print as rprint\nrprint('[bold]x[/]')"],
    "payloads": [
        "%load_ext autoreload",
        "from IPython.display import display_pretty\ndisplay_pretty(3)",
    ],
}


def build(name: str) -> Any:
    """The notebook of that name."""
    cells = [nbformat.v4.new_markdown_cell(f"# {name}")]
    for number, cell in enumerate(NOTEBOOKS[name]):
        source, tags = (cell, []) if isinstance(cell, str) else cell
        metadata = {"tags": tags} if tags else {}
        cells.append(nbformat.v4.new_code_cell(source, metadata=metadata, id=f"cell-{number}"))
    cells[0]["id"] = "title"
    return nbformat.v4.new_notebook(cells=cells)
