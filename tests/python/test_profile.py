"""The person's own IPython: profiles, configuration, extensions, startup files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ..processes import TIMEOUT, kernel_process, wait_until

STARTUP = {
    "startup/10-plain.py": "started = [1]\nprint('from a startup file')\n",
    "startup/20-magic.ipy": "%time started.append(2)\n",
    "ipython_config.py": (
        "c = get_config()\n"
        "c.InteractiveShellApp.exec_lines = ['started.append(3)']\n"
        "c.InteractiveShellApp.extensions = ['autoreload']\n"
        "c.InteractiveShell.ast_node_interactivity = 'all'\n"
    ),
    "ipython_kernel_config.py": (
        "c = get_config()\nc.InteractiveShell.cache_size = 17\nc.IPKernelApp.exec_files = []\n"
    ),
}


def write_profile(home: Path, name: str, files: dict[str, str]) -> None:
    for file, text in files.items():
        path = home / f"profile_{name}" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def results(reply_and_outputs: tuple[dict[str, object], list[dict[str, object]]]) -> list[str]:
    reply, outputs = reply_and_outputs
    assert reply["status"] == "ok", reply
    return [
        one["content"]["data"]["text/plain"]  # type: ignore[index]
        for one in outputs
        if one["msg_type"] == "execute_result"
    ]


@pytest.mark.parametrize("name", ["default", "mine"])
def test_configuration_startup_files_and_extensions_are_honoured(tmp_path: Path, name: str) -> None:
    write_profile(tmp_path, name, STARTUP)
    with kernel_process(
        "trikernel.python:PythonKernel", "--profile", name, IPYTHONDIR=str(tmp_path)
    ) as kernel:
        shown = results(
            kernel.execute("started\nget_ipython().cache_size\nget_ipython().profile\nIn[1][:7]")
        )
        assert shown == ["[1, 2, 3]", "17", repr(name), "'started'"]
        assert kernel.text("%autoreload 0") == ""
        assert "started" not in kernel.text("%who")


def test_an_unknown_profile_is_named(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "trikernel", "start", "--profile", "nobody"],
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ended.returncode == 2
    assert "there is no IPython profile 'nobody': `ipython profile create nobody`" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("startup/bad.py", "1 / 0\n"),
        ("startup/bad.ipy", "await nothing\n"),
        ("startup/exit.py", "import sys; sys.exit(3)\n"),
        ("ipython_config.py", "this is no python\n"),
        ("ipython_config.py", "c.InteractiveShellApp.extensions = ['no.such.extension']\n"),
        ("ipython_config.py", "c.InteractiveShellApp.exec_lines = ['1 / 0']\n"),
        ("ipython_config.py", "c.ZMQInteractiveShell.autocall = 'x'\n"),
        ("ipython_config.py", "c.InteractiveShell.loop_runner = 'asyncio'\n"),
    ],
)
def test_what_is_wrong_with_a_persons_files_ends_nothing(
    tmp_path: Path, file: str, text: str
) -> None:
    write_profile(tmp_path, "default", {file: text})
    with kernel_process(IPYTHONDIR=str(tmp_path)) as kernel:
        assert kernel.text("print('alive')") == "alive\n"


def test_startup_code_that_hangs_can_be_interrupted(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"import os\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\nwhile True: pass\n"
    write_profile(tmp_path, "default", {"startup/10-hang.py": text})

    def interrupt() -> None:
        pid = wait_until(lambda: mark.exists() and mark.read_text(), "the startup file")
        os.kill(int(pid), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with kernel_process(IPYTHONDIR=str(tmp_path)) as kernel:
        assert kernel.text("print('alive')") == "alive\n"
    thread.join()


def test_a_backend_in_the_environment_is_honoured(tmp_path: Path) -> None:
    with kernel_process(MPLBACKEND="agg") as kernel:
        assert kernel.text("import matplotlib; print(matplotlib.get_backend())") == "agg\n"
    with kernel_process() as kernel:
        assert "matplotlib_inline" in kernel.text(
            "import matplotlib; print(matplotlib.get_backend())"
        )


def test_what_files_say_of_ipkernelapp_counts(tmp_path: Path) -> None:
    line = "get_config().IPKernelApp.exec_lines = ['said = 1']\n"
    write_profile(tmp_path, "default", {"ipython_kernel_config.py": line})
    with kernel_process(IPYTHONDIR=str(tmp_path)) as kernel:
        assert kernel.text("print(said)") == "1\n"


def test_everything_is_given_back_when_the_kernel_has_ended(tmp_path: Path) -> None:
    code = (
        "import builtins, comm, os, pdb, signal, sys, threading\n"
        "from trikernel.python import PythonKernel\n"
        "import trikernel\n"
        "def state():\n"
        "    return (dict(os.environ), sys.path[:], sys.stdout, sys.__dict__.get('ps1'), pdb.Pdb,\n"
        "            pdb.set_trace, sys.modules['__main__'], comm.create_comm,\n"
        "            vars(builtins).copy(), 'ipykernel.zmqshell' in sys.modules,\n"
        "            signal.getsignal(signal.SIGINT))\n"
        "class Short(PythonKernel):\n"
        "    async def started(self):\n"
        "        await super().started()\n"
        "        self.server.stop()\n"
        "kernel = Short()\n"
        "before = state()\n"
        "for _ in range(2):\n"
        "    trikernel.run(kernel)\n"
        "changed = [n for n, (a, b) in enumerate(zip(before, state())) if a != b]\n"
        "print('changed', changed)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ended.stdout == "changed []\n", ended.stderr
