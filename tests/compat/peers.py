"""What other kernels miss of the requirements: a table that is made by a run, and read by hand.

::

    python -m tests.compat.peers             # all of them: a quarter of an hour
    python -m tests.compat.peers xpython     # one of them, anew
    python -m tests.compat.peers --page      # docs/reference/peers.md from what is kept

Each kernel is in an environment of its own, in ``.compat``, and is checked there by
``trikernel conform`` of this one. What each miss is stands in ``FAULTS``: it was looked at by hand,
with jupyter_client's client or in the messages that show it. A miss without a word there is an
error: it is looked at before it is told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from .peer_faults import FAULTS

ROOT = Path(__file__).parent.parent.parent
HOME = ROOT / ".compat" / "peers"
PAGE = ROOT / "docs" / "reference" / "peers.md"


@attrs.frozen
class Peer:
    """A kernel: the packages that make it, and the name of its kernelspec."""

    package: str
    spec: str
    besides: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Its environment."""
        return HOME / self.package


PEERS = {
    "ipykernel": Peer("ipykernel", "python3"),
    "xeus-python": Peer("xeus-python", "xpython", ("debugpy",)),
    "async-kernel": Peer("async-kernel", "async", ("debugpy",)),
}


def install(peer: Peer) -> None:
    """Its environment, with a kernelspec that names its own Python."""
    python = peer.folder / "bin" / "python"
    if not python.exists():
        venv.create(peer.folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", peer.package, *peer.besides]
        subprocess.run(command, check=True)
    path = peer.folder / "share" / "jupyter" / "kernels" / peer.spec / "kernel.json"
    spec = json.loads(path.read_text("utf-8"))
    spec["argv"][0] = str(python)
    path.write_text(json.dumps(spec, indent=2), "utf-8")


def run(name: str) -> None:
    """Check one, and keep the results, and the versions."""
    peer = PEERS[name]
    install(peer)
    env = {**os.environ, "JUPYTER_PATH": str(peer.folder / "share" / "jupyter")}
    command = [sys.executable, "-m", "trikernel", "conform", peer.spec, "--json"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    show = [str(peer.folder / "bin" / "python"), "-m", "pip", "list", "--format", "json"]
    listed = json.loads(subprocess.run(show, stdout=subprocess.PIPE, text=True, check=True).stdout)
    versions = {one["name"].lower(): one["version"] for one in listed}
    found["version"] = versions[peer.package]
    (HOME / f"{name}.json").write_text(json.dumps(found, indent=1), "utf-8")


def page(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's text. Raises `SystemExit` for a miss that nobody has looked at."""
    lines = [
        "# What other kernels miss",
        "",
        "Made by `python -m tests.compat.peers`: `trikernel conform` on each kernel in an",
        "environment of its own. Each miss was looked at by hand. Our own two kernels miss nothing",
        "(`tests/conformance/test_our_kernels.py`).",
        "",
        "| kernel | version | met | missed | not offered | not checked |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, found in kept.items():
        counts = Counter(one["outcome"] for one in found["results"])
        numbers = [counts[one] for one in ("met", "missed", "not offered", "not checked")]
        shown = " | ".join(map(str, numbers))
        lines.append(f"| {name} | {found['version']} | {shown} |")
    for name, found in kept.items():
        missed = [one for one in found["results"] if one["outcome"] == "missed"]
        unknown = [one["id"] for one in missed if one["id"] not in FAULTS[name]]
        if unknown:
            sys.exit(f"{name}: not looked at by hand: {', '.join(unknown)}")
        lines += ["", f"## {name}", "", "| missed | what it does |", "|---|---|"]
        lines += [f"| `{one['id']}` | {FAULTS[name][one['id']]} |" for one in missed]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and write the page."""
    parser = argparse.ArgumentParser(description="What other kernels miss.")
    parser.add_argument("peers", nargs="*", metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args(arguments)
    HOME.mkdir(parents=True, exist_ok=True)
    for name in () if options.page else options.peers or PEERS:
        run(name)
    kept = {}
    for name in PEERS:
        path = HOME / f"{name}.json"
        if path.exists():
            kept[name] = json.loads(path.read_text("utf-8"))
    PAGE.write_text(page(kept), "utf-8")


if __name__ == "__main__":
    main()
