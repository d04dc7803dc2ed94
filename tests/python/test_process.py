"""The Python kernel as a process of its own: what belongs to the process is the notebook's."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..processes import TIMEOUT, KernelProcess, kernel_process, wait_until


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        yield kernel


def result(kernel: KernelProcess, code: str, **options: Any) -> str:
    reply, outputs = kernel.execute(code, **options)
    assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))
    texts = [
        one["content"]["data"]["text/plain"]
        for one in outputs
        if one["msg_type"] == "execute_result"
    ]
    return str(texts[-1]) if texts else ""


@pytest.mark.seed(19)
@pytest.mark.parametrize(
    ("code", "password"), [("input('who? ')", False), ("getpass.getpass('who? ')", True)]
)
def test_input_and_getpass_ask_the_frontend(
    kernel: KernelProcess, code: str, password: bool
) -> None:
    msg_id = kernel.send(f"import getpass\nprint('hello', {code})", allow_stdin=True)
    question = kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]
    assert question == {"prompt": "who? ", "password": password}
    kernel.client.input("Ada")
    reply, outputs = kernel.finish(msg_id)
    assert reply["status"] == "ok"
    assert [one["content"]["text"] for one in outputs if one["msg_type"] == "stream"] == [
        "hello Ada\n"
    ]


@pytest.mark.seed(19)
def test_a_worker_thread_may_ask_while_other_tasks_go_on(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "import trio\n"
        "ticks = 0\n"
        "async def tick():\n"
        "    global ticks\n"
        "    while True:\n"
        "        ticks += 1\n"
        "        await trio.sleep(0.001)\n"
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(tick)\n"
        "    answer = await trio.to_thread.run_sync(input, 'who? ')\n"
        "    nursery.cancel_scope.cancel()\n"
        "print(answer, ticks > 5)",
        allow_stdin=True,
    )
    kernel.client.get_stdin_msg(timeout=TIMEOUT)
    time.sleep(0.1)  # the ticks are what is waited for
    kernel.client.input("Ada")
    _, outputs = kernel.finish(msg_id)
    assert "Ada True\n" in [one["content"].get("text") for one in outputs]


def test_main_is_the_namespace_of_the_notebook(kernel: KernelProcess) -> None:
    kernel.execute("import sys\nmarker = 5")
    assert result(kernel, "sys.modules['__main__'].marker, __name__") == "(5, '__main__')"
    kernel.execute("import pickle, dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int\n")
    assert result(kernel, "pickle.loads(pickle.dumps(Point(3)))") == "Point(x=3)"


def test_get_ipython_knows_its_kernel(kernel: KernelProcess) -> None:
    assert result(kernel, "type(get_ipython()).__name__") == "'ZMQInteractiveShell'"
    assert result(kernel, "'IPKernelApp' in get_ipython().config") == "True"
    assert result(kernel, "get_ipython().kernel.implementation") == "'trikernel'"
    parent = result(kernel, "get_ipython().kernel.get_parent()['header']['msg_type']")
    assert parent == "'execute_request'"


def test_logging_and_warnings_appear_under_their_cell(kernel: KernelProcess) -> None:
    assert "careful" in kernel.text("import warnings; warnings.warn('careful')")
    assert kernel.text("import logging; logging.warning('logged')") == "WARNING:root:logged\n"


def test_writing_nothing_sends_nothing(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute("import sys; sys.stdout.write(''); print('x', end='')")
    assert [one["content"]["text"] for one in outputs if one["msg_type"] == "stream"] == ["x"]


def test_shell_commands_show_their_output(kernel: KernelProcess) -> None:
    assert "from a child" in kernel.text("!echo from a child")
    assert kernel.text("%%bash\necho from bash") == "from bash\n"
    assert result(kernel, "out = !echo captured\nout[0]") == "'captured'"


def test_magics_time_and_capture(kernel: KernelProcess) -> None:
    assert "Wall time" in kernel.text("%time sum(range(10))")
    assert "Wall time" in kernel.text("%%time\nsum(range(10))")
    kernel.execute("%%capture captured\nprint('inside')\ndisplay(1)\n2")
    assert result(kernel, "captured.stdout, len(captured.outputs)") == "('inside\\n', 2)"


def test_a_thread_prints_under_the_running_cell(kernel: KernelProcess) -> None:
    text = kernel.text(
        "import threading\n"
        "thread = threading.Thread(target=print, args=('from a thread',))\n"
        "thread.start(); thread.join()"
    )
    assert text == "from a thread\n"


def test_the_history_is_on_the_disk_after_a_shutdown() -> None:
    with kernel_process() as kernel:
        where = result(kernel, "str(get_ipython().history_manager.hist_file)")
        kernel.execute("remembered = 'yes'")
        database = Path(where.strip("'"))
        kernel.client.shutdown()
        assert kernel.process.wait(TIMEOUT) == 0
        with contextlib.closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("select source_raw from history").fetchall()
    assert ("remembered = 'yes'",) in rows


def test_exit_functions_of_the_user_find_their_names(tmp_path: Path) -> None:
    path = tmp_path / "written"
    with kernel_process() as kernel:
        kernel.execute(
            f"import atexit\nPATH, text = {str(path)!r}, 'at the exit'\n"
            "@atexit.register\n"
            "def write():\n"
            "    with open(PATH, 'w') as file: file.write(text)"
        )
        kernel.client.shutdown()
        assert kernel.process.wait(TIMEOUT) == 0
    assert path.read_text("utf-8") == "at the exit"


def test_the_history_is_written_soon_after_a_cell_also_after_a_fork() -> None:
    with kernel_process() as kernel:
        where = result(kernel, "str(get_ipython().history_manager.hist_file)").strip("'")
        kernel.text("!echo a fork stops the thread that writes")
        kernel.execute("soon = 'written'")

        def written() -> bool:
            with contextlib.closing(sqlite3.connect(where)) as connection:
                rows = connection.execute("select source_raw from history").fetchall()
            return ("soon = 'written'",) in rows

        wait_until(written, "the history on the disk")
        assert kernel.text("print('alive')") == "alive\n"


def test_an_exception_that_escapes_a_thread_is_shown(kernel: KernelProcess) -> None:
    text = kernel.text(
        "import threading\n"
        "thread = threading.Thread(target=lambda: 1 / 0)\n"
        "thread.start(); thread.join()"
    )
    assert "ZeroDivisionError" in text
