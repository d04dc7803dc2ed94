"""Takes `lab.png`: JupyterLab in a headless Chromium, with a notebook that is run there."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

CELLS = [
    """\
import trio
from trikernel.notebook import nursery


async def count(name, pause):
    for number in range(1000):
        print(name, number, end="  ")
        await trio.sleep(pause)


nursery.start_soon(count, "a task that goes on", 0.4)""",
    """\
with trio.move_on_after(1) as scope:
    async with trio.open_nursery() as group:
        group.start_soon(trio.sleep, 0.2)
        group.start_soon(trio.sleep, 60)
scope.cancelled_caught""",
    "%tasks",
    'await trio.sleep(60)\nprint("an hour later")',
]
_HIDE = "window.jupyterapp.commands.execute('application:toggle-left-area')"


def main() -> None:
    sys.path.insert(0, str(HERE.parent.parent))
    from tests.frontends.lab import open_lab  # what the tests in a browser have

    folder = tempfile.TemporaryDirectory()
    with folder as name, open_lab(Path(name)) as lab, lab.open(CELLS) as notebook:
        notebook.page.set_viewport_size({"width": 1000, "height": 640})
        notebook.page.evaluate(_HIDE)
        notebook.run_all()
        notebook.expect_text(2, "waits on")
        notebook.expect_running(3)
        notebook.select(0)
        notebook.page.wait_for_timeout(1500)  # for the picture to have something to tell
        notebook.page.screenshot(path=HERE / "lab.png")


if __name__ == "__main__":
    main()
