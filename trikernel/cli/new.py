"""``trikernel new NAME``: makes a folder with a kernel package whose tests pass.

It contains pyproject, kernel, kernelspec, tests with this package's test kit, and CI. Instead of
the author's language it has a small calculator, as a library or as a program that is started. The
folder is made under a temporary name and then renamed, so that there never is an incomplete one.

The files in ``templates`` end in ``.txt``, because they are no modules of this package.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import os
import re
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from ..errors import UsageError

__all__ = ["add_new_flags", "new"]

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*")
_LIBRARY, _SUBPROCESS = "library", "subprocess"
_TAKEN = {"tests", "kernelspec", "conftest"}  # folders of the package, and a module of pytest's

_JUPYTERS = {"python", "python2", "python3"}  # Jupyter uses these for its own Python kernel

_IN_EVERY_PACKAGE = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/tests.yml": "tests.yml",
    "kernelspec/kernel.json": "kernel.json",
    "__MODULE__/__init__.py": "init.py",
    "__MODULE__/__main__.py": "main.py",
    "tests/conftest.py": "conftest.py",
    "tests/test_kernel.py": "test_kernel.py",
}
"""The path of each file, and its template."""

_COMPLETION = """

async def test_it_completes(kernel_client):
    await kernel_client.expect("width = 3")
    assert (await kernel_client.complete("1 + wi")).content["matches"] == ["width"]
"""
_HOUR = """

async def test_an_hour_takes_no_time_under_the_virtual_clock(kernel_client, autojump_clock):
    await kernel_client.expect("wait 3600")
    assert trio.current_time() == pytest.approx(3600)


async def test_it_is_as_good_as_new_wherever_it_is_cancelled(autojump_clock):
    async def scenario(scope):
        async with open_memory_client(__CLASS__()) as client:
            with scope:
                await client.execute("wait 1\\nsay done")
            await client.expect("1 + 1", stdout="2")

    assert await at_every_checkpoint(scenario) > 0
"""


def add_new_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``trikernel new``."""
    parser.add_argument("name", metavar="NAME", help="of the package, my-kernel for example")
    choices = [_LIBRARY, _SUBPROCESS]
    over = "what runs the code: Python code in this process, or a program (default: library)"
    parser.add_argument("--over", choices=choices, default=_LIBRARY, help=over)
    parser.add_argument("--sync", action="store_true", help="plain verbs, which block, not async")
    into = "the folder in which a folder NAME is made (default: here)"
    parser.add_argument("--into", metavar="DIR", default=".", help=into)


def new(options: argparse.Namespace) -> Path:
    """Make the folder. Returns its path. Raises `UsageError`."""
    words = _words(options.name, options.over, is_async=not options.sync)
    made: Path = Path(options.into) / options.name
    if "\0" in str(made):
        raise UsageError("cannot write there: no folder has a NUL in its name; nothing was written")
    if os.path.lexists(made):
        raise UsageError(f"{made} exists; nothing was written")
    files = _files(options.over, is_async=not options.sync)
    staged = made.with_name(f".{made.name}-{uuid.uuid4().hex}")
    try:
        staged.mkdir()
        for path, template in files.items():
            file = staged / _filled(path, words)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = (_TEMPLATES / f"{template}.txt").read_text("utf-8")
            file.write_text(_filled(text, words), "utf-8", newline="\n")
        staged.rename(made)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write {made}: {reason}; nothing was written") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return made


def _words(name: str, over: str, *, is_async: bool) -> dict[str, str]:
    """The replacement for each placeholder in the templates. Raises `UsageError` if the package's
    name is not valid.
    """
    module = re.sub(r"[-.]", "_", name).lower()
    spec = name.lower()
    title = re.sub(r"[-_.]+", " ", name).strip()
    class_name = "".join(word[:1].upper() + word[1:] for word in title.split())
    _check_name(name, module)
    is_library = over == _LIBRARY
    is_timed = is_library and is_async
    more = (_COMPLETION if is_library else "") + (_HOUR if is_timed else "")
    return {
        "__TEST_MORE__": more,
        "__TEST_IMPORTS__": "import pytest\nimport trio\n" if is_timed else "",
        "__TEST_NAMES__": ", at_every_checkpoint, open_memory_client" if is_timed else "",
        "__COMPLETING__": ', completing="sa"' if is_library else "",
        "__ERROR__": "CalculatorError" if is_library else "ProgramError",
        "__NAME__": name,
        "__MODULE__": module,
        "__SPEC__": spec,
        "__TITLE__": title[:1].upper() + title[1:],
        "__CLASS__": class_name if class_name.endswith("Kernel") else f"{class_name}Kernel",
        "__ASYNC__": "async " if is_async else "",
        "__AWAIT__": "await " if is_async else "",
        "__IMPORT__": "\nimport trio\n" if is_async else "import time\n",
        "__SLEEP__": "trio" if is_async else "time",
        "__WHAT__": _what(module, is_library=is_library),
    }


def _what(module: str, *, is_library: bool) -> str:
    if is_library:
        return f"`{module}/language.py` is a calculator: put your language in its place."
    return f"`{module}/program.py` is a calculator: start your program in its place."


def _check_name(name: str, module: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no package's name: it must begin with a letter, and have letters, "
            "digits, and single - _ . between them"
        )
    if module in _JUPYTERS:
        raise UsageError(f"{name!r} would hide Jupyter's own Python kernel, which has that name")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise UsageError(f"{name!r} cannot be imported: {module} is a word of Python's")
    if module in sys.stdlib_module_names or module in _TAKEN:
        raise UsageError(f"{name!r} cannot be imported: the name {module} is taken")
    if importlib.util.find_spec(module) is not None:
        raise UsageError(f"{name!r} would hide the module {module}, which is installed")


def _files(over: str, *, is_async: bool) -> dict[str, str]:
    package = dict(_IN_EVERY_PACKAGE)
    if over == _LIBRARY:
        package["__MODULE__/language.py"] = "language.py"
        package["__MODULE__/kernel.py"] = "kernel_library.py"
    else:
        package["__MODULE__/program.py"] = "program.py"
        kind = "async" if is_async else "sync"
        package["__MODULE__/kernel.py"] = f"kernel_subprocess_{kind}.py"
    return package


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, what in words.items():
        text = text.replace(word, what)
    return text
