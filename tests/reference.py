"""Writes the reference pages from the code's own tables: ``python -m tests.reference``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from trikernel.conformance import FEATURES, REQUIREMENTS
from trikernel.conformance.schema import CONTENTS
from trikernel.kernel import Kernel, settings_of
from trikernel.python import PythonKernel
from trikernel.remote import add_launch_flags
from trikernel.wire import IOPUB_TYPES, REQUESTS, STDIN_TYPES

FOLDER = Path(__file__).parent.parent / "docs" / "reference"


def messages() -> str:
    """The page of message types."""
    lines = [
        "# Message types",
        "",
        "Made from the table in `trikernel/wire/message_types.py` by `python -m tests.reference`.",
        "",
        "A smaller priority goes first. *Beside*: arriving on control, it is handled beside the",
        "running cell; anything else that arrives on control joins the shell lane at priority 1.",
        "",
        "| request | channels | lane | priority | abortable | beside | reply |",
        "|---|---|---|--:|---|---|---|",
    ]
    for row in REQUESTS.values():
        flags = ("yes" if row.abortable else "", "yes" if row.concurrent else "")
        lines.append(
            f"| `{row.name}` | {', '.join(row.channels)} | {row.lane.value} | {int(row.priority)} "
            f"| {flags[0]} | {flags[1]} | {f'`{row.reply_type}`' if row.reply else ''} |"
        )
    lines += [
        "",
        "`usage_request` is ipykernel's, and jupyter-resource-usage sends it. The reply has",
        "`hostname`, `pid` and `cpu_count`; where psutil is installed, also `kernel_cpu` and",
        "`host_cpu_percent` (percent of a processor since the last request, children included),",
        "`kernel_memory` (bytes) and `host_virtual_memory` (psutil's, by name).",
        "",
        "`tasks_request` is ours: `trikernel tasks` sends it. The reply has `tasks`, the first",
        "thousand that live, each before those within it, with `number`, `cell`, `origin`,",
        "`depth`, `name`, `age` (seconds) and `waits_on`; and `more`, how many there are beside.",
        "",
        "On iopub: " + ", ".join(f"`{name}`" for name in IOPUB_TYPES) + ".",
        "",
        "On stdin: " + ", ".join(f"`{name}`" for name in STDIN_TYPES) + ".",
    ]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """The page of settings."""
    lines = [
        "# Settings",
        "",
        "Made from the kernels' classes by `python -m tests.reference`. A keyword has the",
        "setting's name with underscores.",
        "",
        "| flag | environment | default | range | |",
        "|---|---|---|---|---|",
    ]
    python_only = settings_of(PythonKernel).keys() - settings_of(Kernel).keys()
    for one in settings_of(PythonKernel).values():
        limits = f"{one.minimum:g} to {one.maximum:g}" if one.kind in (int, float) else ""
        text = f"{one.help} (Python kernel)" if one.name in python_only else one.help
        lines.append(f"| `{one.flag}` | `{one.variable}` | `{one.default}` | {limits} | {text} |")
    return "\n".join(lines) + "\n"


def protocol() -> str:
    """The page of what a kernel must do: the manifest, and the contents of messages."""
    lines = [
        "# What a kernel must do",
        "",
        "Made from the manifest in `trikernel/conformance` by `python -m tests.reference`.",
        "`trikernel conform` and `trikernel.testing` [check it](../how-to/check-your-kernel.md).",
        "What is sent and answered is in [message types](messages.md).",
    ]
    for feature, what in FEATURES.items():
        rows = [one for one in REQUIREMENTS if one.feature == feature]
        lines += ["", f"## {feature}", "", f"{what[0].upper()}{what[1:]}.", ""]
        lines += ["| id | requirement | source |", "|---|---|---|"]
        lines += [f"| `{one.id}` | {_escaped(one.sentence)} | {one.source} |" for one in rows]
    lines += ["", "## Contents", ""]
    lines += [
        "What `messages.content` looks for. A field with a question mark may be left out.",
        "A reply that says `error` has `ename`, `evalue` and `traceback` instead.",
        "",
    ]
    lines += ["| message | fields |", "|---|---|"]
    for name, fields in CONTENTS.items():
        shown = ", ".join(f"`{field}`: {_words(kind)}" for field, kind in fields.items())
        lines.append(f"| `{name}` | {shown} |")
    return "\n".join(lines) + "\n"


def _words(kind: object) -> str:
    if isinstance(kind, tuple):
        return " or ".join(map(_words, kind))
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def launch() -> str:
    """The page of ``trikernel launch``."""
    parser = argparse.ArgumentParser()
    add_launch_flags(parser)
    lines = [
        "# `trikernel launch`",
        "",
        "Made from the flags in `trikernel/remote/flags.py` by `python -m tests.reference`.",
        "It takes `--kernel`, `--path`, `--log-level`, `--logfile` and one flag for each",
        "[setting](settings.md), too, as `trikernel start` does. What it is for:",
        "[remote kernels](../how-to/remote-kernels.md).",
        "",
        "| flag | value | |",
        "|---|---|---|",
    ]
    for one in parser._actions:
        if one.help != argparse.SUPPRESS and "--help" not in one.option_strings:
            old = [name for name in one.option_strings if "." in name]
            more = f"; also `{old[0]}`" if old else ""
            value = one.metavar or one.dest.upper()
            lines.append(f"| `{one.option_strings[0]}` | `{value}` | {one.help}{more} |")
    lines += [
        "",
        "`--cluster-type` is taken and means nothing. `--kernel-class-name package.module.Class`",
        "is `--kernel package.module:Class`, and ipykernel's own class is the Python kernel.",
        "",
        "Exit codes: 0 it was shut down, 2 something about the call is to be mended (one line on",
        "stderr says what), 1 the kernel has failed.",
    ]
    return "\n".join(lines) + "\n"


PAGES = {
    "messages.md": messages,
    "settings.md": settings,
    "protocol.md": protocol,
    "launch.md": launch,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), "utf-8")
    sys.exit(subprocess.run([sys.executable, "-m", "tests.evidence"]).returncode)
