"""Others' wrapper kernels, unmodified, with ipykernel and with this kernel in its place.

::

    python -m tests.compat.wrappers                  # all of them: a quarter of an hour
    python -m tests.compat.wrappers bash octave      # some
    python -m tests.compat.wrappers --without-ipykernel
    python -m tests.compat.wrappers --suite          # metakernel's own test suite: ten minutes

They come from PyPI into an environment in ``.compat/wrappers``, which is kept. What they wrap
(gnuplot, octave) has to be installed; where it is not, a kernel is skipped, and that is said. Each
one is installed as its authors install it, and wrapped by ``trikernel install --wrap``. Then both
kernelspecs are driven over the wire, and a table says what either answers. What fails here and not
there makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import venv
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import attrs
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parent.parent.parent
HOME = ROOT / ".compat" / "wrappers"
PYTHON = HOME / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
SECONDS = 30.0

PACKAGES = [
    "bash_kernel",
    "calysto_scheme",
    "gnuplot_kernel",
    "ipykernel",
    "metakernel",
    "octave_kernel",
    "pytest",
    "pytest-timeout",
    "requests",
]
# Their setup.py needs an IPython of ten years ago: the modules are taken as they are.
SOURCES = ["metakernel_echo", "metakernel_python"]


@attrs.frozen
class Wrapper:
    """One kernel: its module, the program that it needs, and code in its language.

    ``slow`` runs until it is interrupted, ``asking`` asks for a line. None: there is no such code.
    """

    module: str
    program: str | None
    code: str
    failing: str
    slow: str
    completing: str
    asking: str | None = None


WRAPPERS = {
    "bash": Wrapper("bash_kernel", "bash", "echo hi", "false", "sleep 100", "unali"),
    "echo": Wrapper(
        "metakernel_echo",
        None,
        "hi",
        "%%python\n1/0",
        "%python import time; time.sleep(99)",
        "%pyt",
    ),
    "metapython": Wrapper(
        "metakernel_python",
        None,
        "1 + 1",
        "1 / 0",
        "import time; time.sleep(100)",
        "impor",
        "input('who? ')",
    ),
    "scheme": Wrapper(
        "calysto_scheme",
        None,
        "(+ 1 1)",
        "(car 5)",
        "(define f (lambda () (f))) (f)",
        "(defi",
        "(input)",
    ),
    "gnuplot": Wrapper(
        "gnuplot_kernel", "gnuplot", "print 1 + 1", "plot nosuch(x)", "pause 100", "%gnu"
    ),
    "octave": Wrapper(
        "octave_kernel", "octave", "1 + 1", "nosuch(1)", "pause(100)", "sin", "x = input('who? ')"
    ),
}


class Driven:
    """A kernel in a process, and jupyter_client's own client of it."""

    def __init__(self, name: str) -> None:
        found = KernelSpecManager(kernel_dirs=[str(HOME / "kernels")])
        found.ensure_native_kernel = False
        self.manager = KernelManager(kernel_name=name, kernel_spec_manager=found)
        self.manager.start_kernel(cwd=str(HOME), stderr=subprocess.DEVNULL, env=environment())
        self.client: Any = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def end(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def execute(self, code: str, *, interrupt: float = 0, answer: str | None = None) -> str:
        """What a cell says and how it ends, in a line."""
        msg_id = self.client.execute(code, allow_stdin=answer is not None)
        said: list[str] = []
        while True:
            message = self.client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            content = message["content"]
            if content.get("execution_state") == "idle":
                break
            if message["msg_type"] == "execute_input":
                if interrupt:
                    threading.Timer(interrupt, self.manager.interrupt_kernel).start()
                if answer is not None:
                    self.client.get_stdin_msg(timeout=SECONDS)
                    self.client.input(answer)
            said += _words(message["msg_type"], content)
        reply = self.reply_to(msg_id)
        return " ".join([*said, "->", reply["status"], reply.get("ename", "")]).strip()

    def ask(self, kind: str, *args: Any, **options: Any) -> dict[str, Any]:
        return self.reply_to(getattr(self.client, kind)(*args, **options))

    def reply_to(self, msg_id: str) -> dict[str, Any]:
        while True:
            reply: dict[str, Any] = self.client.get_shell_msg(timeout=SECONDS)
            if reply["parent_header"].get("msg_id") == msg_id:
                return reply["content"]  # type: ignore[no-any-return]

    def restart(self, code: str) -> str:
        self.manager.restart_kernel(now=False)
        self.client.wait_for_ready(timeout=SECONDS)
        return self.execute(code)


def _words(msg_type: str, content: dict[str, Any]) -> list[str]:
    if msg_type == "stream":
        return str(content["text"]).split()
    if msg_type in ("execute_result", "display_data"):
        return [content["data"].get("text/plain", "a picture")]
    return [f"{content['ename']}:", *content["evalue"].split()] if msg_type == "error" else []


def situations(one: Wrapper) -> dict[str, Callable[[Driven], str]]:
    """What a kernel is asked, in this order."""
    found: dict[str, Callable[[Driven], str]] = {
        "execute": lambda kernel: kernel.execute(one.code),
        "error": lambda kernel: kernel.execute(one.failing),
        "completion": lambda kernel: str(
            sorted(kernel.ask("complete", one.completing, len(one.completing))["matches"])[:4]
        ),
        "is_complete": lambda kernel: kernel.ask("is_complete", one.code)["status"],
        "history": lambda kernel: kernel.ask("history", hist_access_type="tail", n=2)["status"],
        "interrupt": lambda kernel: kernel.execute(one.slow, interrupt=1),
        "after it": lambda kernel: kernel.execute(one.code),
        "restart": lambda kernel: kernel.restart(one.code),
    }
    if one.asking is not None:
        asking = one.asking
        found["input"] = lambda kernel: kernel.execute(asking, answer="7")
    return found


def answers(name: str, one: Wrapper) -> dict[str, str]:
    """What the kernel of a kernelspec answers in each situation; an exception begins with FAIL."""
    found: dict[str, str] = {}
    try:
        kernel = Driven(name)
    except Exception as error:
        return dict.fromkeys(situations(one), f"FAIL to start: {error!r:.80}")
    try:
        for situation, ask in situations(one).items():
            try:
                found[situation] = ask(kernel)
            except (Empty, Exception) as error:
                found[situation] = f"FAIL {error!r:.80}"
    finally:
        with suppress(Exception):
            kernel.end()
    return found


# The environment


def environment() -> dict[str, str]:
    folders = [str(path) for path in sorted((HOME / "sources").glob("metakernel_*"))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, str(ROOT)])}


def pip(*words: str) -> None:
    subprocess.run([PYTHON, "-m", "pip", "--quiet", *words], check=True)


def prepare() -> None:
    """Make the environment, the sources and the kernelspecs that are not there yet."""
    if not (HOME / "ready").exists():
        venv.create(HOME / "env", with_pip=True, clear=True)
        pip("install", "setuptools", "wheel", f"{ROOT}[python]", *PACKAGES)
        sources = HOME / "sources"
        options = ("download", "--no-deps", "--no-binary", ":all:", "--dest", str(sources))
        pip(*options, "--no-build-isolation", *SOURCES)
        pip(*options, "metakernel")  # for its tests
        for path in sources.iterdir():
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(sources)
            elif path.name.endswith(".tar.gz"):
                with tarfile.open(path) as tar:
                    tar.extractall(sources, filter="data")
        (HOME / "ready").touch()
    for name, one in WRAPPERS.items():
        folder = HOME / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        argv = [str(PYTHON), "-m", one.module, "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": name, "language": name}
        (folder / "kernel.json").write_text(json.dumps(spec), "utf-8")
        subprocess.run(
            [PYTHON, "-m", "trikernel", "install", "--wrap", name],
            env={**environment(), "JUPYTER_PATH": str(HOME)},
            stdout=subprocess.DEVNULL,
            check=True,
        )


def run_suite() -> int:
    """metakernel's own tests, with each; the exit code of the second run."""
    folder = next((HOME / "sources").glob("metakernel-*"))
    code = 0
    for ours in (False, True):
        first = (
            "from trikernel.python.ipykernel_modules import install_ipykernel_modules as install;"
            "install();"
            if ours
            else ""
        )
        words = ["-q", "tests", "--timeout", "120", "-p", "no:cacheprovider", "-p", "no:trikernel"]
        print("trikernel:" if ours else "ipykernel:", flush=True)
        code = subprocess.run(
            [PYTHON, "-c", f"{first}import pytest, sys; sys.exit(pytest.main({words!r}))"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # it knows newer ones than PyPI has
            check=False,
        ).returncode
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WRAPPERS))
    parser.add_argument("--without-ipykernel", action="store_true")
    parser.add_argument("--suite", action="store_true")
    options = parser.parse_args()
    prepare()
    if options.suite:
        return run_suite()
    if options.without_ipykernel:
        pip("uninstall", "--yes", "ipykernel")
    failures = 0
    try:
        for name in options.names or WRAPPERS:
            one = WRAPPERS[name]
            if one.program is not None and shutil.which(one.program) is None:
                print(f"{name:8} skipped: {one.program} is not installed")
                continue
            there = {} if options.without_ipykernel else answers(name, one)
            for situation, here in answers(f"{name}-trio", one).items():
                other = there.get(situation, "")
                same = "same" if here == other else f"ipykernel: {other}" if other else ""
                print(f"{name:8} {situation:12} {here:60.100} {same:.100}", flush=True)
                failures += here.startswith("FAIL") and not other.startswith("FAIL")
    finally:
        if options.without_ipykernel:
            pip("install", "ipykernel")
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
