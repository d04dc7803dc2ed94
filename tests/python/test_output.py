"""Output stays in its cell, whole and in order, whoever writes it and however much."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..processes import TIMEOUT, KernelProcess, kernel_process


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import threading, time, trio\nfrom trikernel.notebook import nursery")
        yield kernel


def streams(outputs: list[dict[str, Any]]) -> list[str]:
    return [one["content"]["text"] for one in outputs if one["msg_type"] == "stream"]


@pytest.mark.promise(3, 9)
def test_a_million_lines_arrive_complete_and_in_order_in_a_few_hundred_messages(
    kernel: KernelProcess,
) -> None:
    begun = time.monotonic()
    _, outputs = kernel.execute("for number in range(1_000_000): print(number)")
    flushes = (time.monotonic() - begun) / 0.02  # beside those messages that are full
    texts = streams(outputs)
    assert "".join(texts) == "".join(f"{number}\n" for number in range(1_000_000))
    assert len(texts) < 500 + 4 * flushes  # threads that take turns on a loaded machine send some


@pytest.mark.promise(3)
def test_text_and_displays_keep_their_order(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute(
        "import sys\n"
        "for n in range(20):\n"
        "    print('out', n)\n"
        "    print('err', n, file=sys.stderr)\n"
        "    display(n)"
    )
    seen = []
    for one in outputs:
        content = one["content"]
        if one["msg_type"] == "stream":
            seen.append(content["text"])
        elif one["msg_type"] == "display_data":
            seen.append(content["data"]["text/plain"])
    assert seen == [text for n in range(20) for text in (f"out {n}\n", f"err {n}\n", str(n))]


WRITERS = {
    "a task": "async def work():\n    WAIT\n    print('late')\nnursery.start_soon(work)",
    "a thread": (
        "def work():\n    go.wait()\n    print('late')\n"
        "thread = threading.Thread(target=work)\nthread.start()"
    ),
    "a timer": (
        "def work():\n    go.wait()\n    print('late')\n"
        "thread = threading.Timer(0.01, work)\nthread.start()"
    ),
    "a thread of a thread": (
        "def inner():\n    go.wait()\n    print('late')\n"
        "def outer():\n    thread = threading.Thread(target=inner)\n    thread.start()\n"
        "threading.Thread(target=outer).start()"
    ),
    "a thread of a task": (
        "def work():\n    go.wait()\n    print('late')\n"
        "nursery.start_soon(trio.to_thread.run_sync, work)"
    ),
    "a pool": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def work():\n    go.wait()\n    print('late')\n"
        "pool = ThreadPoolExecutor()\npool.submit(work)"
    ),
    "a log": (
        "import logging\n"
        "def work():\n    go.wait()\n    logging.getLogger('mine').warning('late')\n"
        "thread = threading.Thread(target=work)\nthread.start()"
    ),
    "a warning": (
        "import warnings\n"
        "def work():\n    go.wait()\n    warnings.warn('late')\n"
        "thread = threading.Thread(target=work)\nthread.start()"
    ),
    "a display": (
        "def work():\n    go.wait()\n    display('late')\n"
        "thread = threading.Thread(target=work)\nthread.start()"
    ),
}  # fmt: skip


@pytest.mark.promise(5)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written_long_after_a_cell_appears_under_it(
    kernel: KernelProcess, writer: str
) -> None:
    kernel.execute("go = threading.Event()")
    code = WRITERS[writer].replace("WAIT", "await trio.to_thread.run_sync(go.wait)")
    msg_id = kernel.send(code)
    kernel.finish(msg_id)
    kernel.execute("print('another cell')")
    kernel.send("go.set()")
    while True:
        message = kernel.client.get_iopub_msg(timeout=TIMEOUT)
        if "late" in str(message["content"]):
            break
    assert message["parent_header"]["msg_id"] == msg_id


@pytest.mark.promise(5)
def test_many_threads_print_whole_lines_under_their_own_cell(kernel: KernelProcess) -> None:
    code = (
        "def work(name):\n"
        "    for n in range(2000): print(f'{name} {n}\\n', end='')\n"
        "threads = [threading.Thread(target=work, args=(name,)) for name in 'abcd']\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()"
    )
    lines = kernel.text(code).splitlines()
    for name in "abcd":
        assert [line for line in lines if line[0] == name] == [f"{name} {n}" for n in range(2000)]
    assert len(lines) == 8000


def test_a_display_is_updated_and_an_output_cleared_from_another_cell(
    kernel: KernelProcess,
) -> None:
    kernel.execute("shown = display('first', display_id='the one')")
    _, outputs = kernel.execute(
        "from IPython.display import clear_output, update_display\n"
        "shown.update('second')\n"
        "update_display('third', display_id='the one')\n"
        "clear_output(wait=True)\n"
        "print('fourth')"
    )
    updates = [one["content"] for one in outputs if one["msg_type"] == "update_display_data"]
    assert [one["data"]["text/plain"] for one in updates] == ["'second'", "'third'"]
    assert {one["transient"]["display_id"] for one in updates} == {"the one"}
    assert [one["content"] for one in outputs if one["msg_type"] == "clear_output"] == [
        {"wait": True}
    ]


def test_an_awaiting_cell_costs_no_cpu(kernel: KernelProcess) -> None:
    text = kernel.text(
        "before = time.process_time()\nawait trio.sleep(1)\nprint(time.process_time() - before)"
    )
    assert float(text) < 0.1


def test_a_threads_uncaught_exception_shows_the_users_lines_only(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute(
        "def work():\n    1/0\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start()\nthread.join()"
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", "".join(streams(outputs)))
    assert "ZeroDivisionError" in text
    assert "in work" in text
    assert "trikernel" not in text


def test_what_a_pool_raises_shows_the_users_lines_only(kernel: KernelProcess) -> None:
    text = kernel.text(
        "import traceback\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def work():\n    1/0\n"
        "with ThreadPoolExecutor() as pool:\n"
        "    error = pool.submit(work).exception()\n"
        "print(''.join(traceback.format_exception(error)))"
    )
    assert "ZeroDivisionError" in text
    assert "in work" in text
    assert "trikernel" not in text


def test_what_a_thread_raises_is_shown_under_the_cell_that_started_it(
    kernel: KernelProcess,
) -> None:
    msg_id = kernel.send(
        "import threading\n"
        "go = threading.Event()\n"
        "def fail():\n"
        "    go.wait()\n"
        "    1 / 0\n"
        "thread = threading.Thread(target=fail)\n"
        "thread.start()"
    )
    kernel.finish(msg_id)
    kernel.send("go.set(); thread.join()")
    late = kernel.until("stream")
    kernel.client.get_shell_msg(timeout=TIMEOUT)
    assert late["content"]["text"].startswith("Exception in thread")
    assert late["parent_header"]["msg_id"] == msg_id
