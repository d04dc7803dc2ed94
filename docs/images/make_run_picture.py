"""Draws `run.svg`: what ``trikernel run docs/examples/quickstart.ipynb`` shows in a terminal."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COMMAND = ["trikernel", "run", "docs/examples/quickstart.ipynb"]


def main() -> None:
    run = subprocess.run(
        [sys.executable, "-m", *COMMAND],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    console = Console(record=True, width=72, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), " ".join(COMMAND)))
    console.print(Text(run.stdout.rstrip()))
    console.save_svg(str(HERE / "run.svg"), title="trikernel")


if __name__ == "__main__":
    main()
