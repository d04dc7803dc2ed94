"""Cells that do what no cell should: a clear error under the right cell, and the next one runs."""

from __future__ import annotations

import marshal
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..processes import TIMEOUT, KernelProcess, kernel_process, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses signals and forks")

SETUP = """\
import os, signal, threading, time, trio
from trikernel.notebook import nursery
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute(SETUP)
        yield kernel


@pytest.fixture(autouse=True)
def alive(kernel: KernelProcess) -> Iterator[None]:
    yield
    assert kernel.text("print('alive')") == "alive\n"


ERRORS = {
    "a circle of causes": (
        "a, b = ValueError(1), ValueError(2)\na.__cause__, b.__cause__ = b, a\nraise a",
        "ValueError",
    ),
    "its own cause": ("a = ValueError(1)\na.__cause__ = a\nraise a", "ValueError"),
    "a text that raises": (
        "class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd",
        "Odd",
    ),
    "a text that exits": (
        "class Odd(Exception):\n    def __str__(self): raise SystemExit\nraise Odd",
        "Odd",
    ),
    "a text that is none": (
        "class Odd(Exception):\n    def __str__(self): return 5\nraise Odd",
        "Odd",
    ),
    "a text with surrogates": ("raise ValueError('\\ud800')", "ValueError"),
    "a metaclass with a name of its own": (
        "class Meta(type):\n    __name__ = 5\n"
        "class Odd(Exception, metaclass=Meta): pass\nraise Odd('x')",
        "Odd",
    ),
    "the end of a generator": ("raise GeneratorExit", "GeneratorExit"),
    "an endless recursion": ("def f(): f()\nf()", "RecursionError"),
    "no memory": ("bytearray(1 << 60)", "MemoryError"),
    "an exit": ("import sys; sys.exit(3)", "SystemExit"),
    "a deep group": (
        "e = ValueError('leaf')\nfor n in range(50): e = ExceptionGroup(str(n), [e])\nraise e",
        "ExceptionGroup",
    ),
    "a nursery left open": (
        "manager = trio.open_nursery()\nleft = await manager.__aenter__()\n"
        "left.start_soon(trio.sleep_forever)",
        "LeftOpenError",
    ),
    "a nursery in a generator that is not finished": (
        "async def ticks():\n    async with trio.open_nursery() as inner:\n"
        "        inner.start_soon(trio.sleep_forever)\n        yield 1\n        yield 2\n"
        "generator = ticks()\nasync for _ in generator: break",
        "LeftOpenError",
    ),
    "a cancel of its parent": (
        "trio.lowlevel.current_task().parent_nursery.cancel_scope.cancel()\nawait trio.sleep(1)",
        "Cancelled",
    ),
    "a coroutine for a function": ("nursery.start_soon(trio.sleep(0))", "TypeError"),
    "a display of a number": ("display(5, raw=True)", "TypeError"),
    "null bytes": ("x = '\0'", "SyntaxError"),
    "a wrong indent": ("  x = 1\n y = 2", "IndentationError"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", ERRORS)
def test_an_error_of_every_kind(kernel: KernelProcess, case: str) -> None:
    code, ename = ERRORS[case]
    reply, outputs = kernel.execute(code)
    errors = [one["content"] for one in outputs if one["msg_type"] == "error"]
    assert reply["status"] == "error", reply
    assert reply["ename"] == ename or (ename == "SyntaxError" and "Error" in reply["ename"])
    assert errors[0]["ename"] == reply["ename"]
    assert errors[0]["evalue"] == reply["evalue"]


BACKGROUND = {
    "ends like a generator": "async def f(): raise GeneratorExit",
    "exits": "async def f(): raise SystemExit",
    "cannot say what went wrong": (
        "class Odd(Exception):\n    def __str__(self): raise RuntimeError\n"
        "async def f(): raise Odd"
    ),
}  # fmt: skip


@pytest.mark.promise(13)
@pytest.mark.parametrize("case", BACKGROUND)
def test_a_background_task_that_fails_oddly(kernel: KernelProcess, case: str) -> None:
    msg_id = kernel.send(f"{BACKGROUND[case]}\nnursery.start_soon(f)\nawait trio.sleep(0.05)")
    reply, outputs = kernel.finish(msg_id)
    assert reply["status"] == "ok"
    assert [one["msg_type"] for one in outputs].count("error") == 1


@pytest.mark.promise(17)
def test_cancelling_the_background_nursery_ends_its_tasks_only(kernel: KernelProcess) -> None:
    text = kernel.text(
        "async def wait(name):\n"
        "    try: await trio.sleep_forever()\n"
        "    finally: print(name, 'ends')\n"
        "nursery.start_soon(wait, 'one')\n"
        "await trio.sleep(0)\n"
        "nursery.cancel_scope.cancel()\n"
        "nursery.start_soon(wait, 'two')\n"
        "await trio.sleep(0.05)"
    )
    assert text == "one ends\n"
    assert kernel.text("%cancel wait").endswith(" wait\n")
    shown = "await trio.sleep(0.05)\nprint(get_ipython().run_line_magic('tasks', ''))"
    assert kernel.text(shown) == "no tasks\n"


@pytest.mark.promise(16)
@pytest.mark.parametrize("by", ["signal", "message"])
def test_a_question_is_interrupted_once(kernel: KernelProcess, by: str) -> None:
    msg_id = kernel.send(
        "try: input('first? ')\nexcept KeyboardInterrupt: print(input('second? '))",
        allow_stdin=True,
    )
    assert kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]["prompt"] == "first? "
    kernel.interrupt(by)
    assert kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]["prompt"] == "second? "
    kernel.client.input("answer")
    reply, outputs = kernel.finish(msg_id)
    assert reply["status"] == "ok"
    assert "answer\n" in [one["content"].get("text") for one in outputs]


@pytest.mark.parametrize("by", ["signal", "message", "deadline"])
def test_the_debugger_is_left(kernel: KernelProcess, by: str) -> None:
    head = "%%timeout 0.3\n" if by == "deadline" else ""
    msg_id = kernel.send(f"{head}value = 5\nbreakpoint()\nvalue = 6", allow_stdin=True)
    question = kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]
    assert question["prompt"] == "ipdb> "
    if by != "deadline":
        kernel.interrupt(by)
    reply, _ = kernel.finish(msg_id)
    assert reply["ename"] == ("DeadlineExceeded" if by == "deadline" else "BdbQuit")
    assert kernel.text("print(value)") == "5\n"


@pytest.mark.promise(16)
def test_a_question_of_a_thread_ends_with_its_cell(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "thread = threading.Thread(target=input, args=('thread? ',))\nthread.start()",
        allow_stdin=True,
    )
    kernel.finish(msg_id)
    kernel.execute("thread.join()")
    while kernel.client.stdin_channel.msg_ready():
        kernel.client.get_stdin_msg(timeout=TIMEOUT)
    msg_id = kernel.send("print(input('again? '))", allow_stdin=True)
    assert kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]["prompt"] == "again? "
    kernel.client.input("yes")
    _, outputs = kernel.finish(msg_id)
    assert "yes\n" in [one["content"].get("text") for one in outputs]


def test_getpass_takes_its_prompt_by_name(kernel: KernelProcess) -> None:
    msg_id = kernel.send("import getpass; getpass.getpass(prompt='pw: ');", allow_stdin=True)
    asked = kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]
    assert asked == {"prompt": "pw: ", "password": True}
    kernel.client.input("x")
    assert kernel.finish(msg_id)[0]["status"] == "ok"


def test_a_cell_that_swallows_everything_ends_soon_after_its_deadline(
    kernel: KernelProcess,
) -> None:
    reply, _ = kernel.execute(
        "%%timeout 0.1\nfor _ in range(3):\n    try: time.sleep(50)\n    except BaseException: pass"
    )
    assert reply["ename"] == "DeadlineExceeded"


def test_a_deadline_waits_for_a_thread_and_says_so(kernel: KernelProcess) -> None:
    reply, _ = kernel.execute("%%timeout 0.1\nawait trio.to_thread.run_sync(time.sleep, 0.4)")
    assert reply["ename"] == "DeadlineExceeded"


SPINNING = {
    "a background task beside it": (
        "async def spin():\n    print('begun', flush=True)\n    while True: pass\n"
        "nursery.start_soon(spin)\nawait trio.sleep_forever()",
        "KeyboardInterrupt",
    ),
    "the text of its exception": (
        "class Odd(Exception):\n    def __str__(self):\n        print('begun', flush=True)\n"
        "        while True: pass\nraise Odd",
        "Odd",
    ),
    "a finalizer": (
        "class Odd:\n    def __del__(self):\n        print('begun', flush=True)\n"
        "        while True: pass\nodd = Odd()\ndel odd\nawait trio.sleep(0)\n1 / 0",
        "KeyboardInterrupt",  # Python drops it, but not the kernel
    ),
    "an input transformer": (
        "def spin(lines):\n    get_ipython().input_transformers_cleanup.remove(spin)\n"
        "    print('begun', flush=True)\n    while True: pass\n"
        "get_ipython().input_transformers_cleanup.append(spin)",
        None,
    ),
    "many tasks that turn the loop": (
        "async def turn():\n    while True: await trio.lowlevel.checkpoint()\n"
        "async with trio.open_nursery() as inner:\n"
        "    for _ in range(50): inner.start_soon(turn)\n"
        "    print('begun', flush=True)",
        "KeyboardInterrupt",
    ),
}  # fmt: skip


@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("case", SPINNING)
def test_what_spins_is_interrupted(kernel: KernelProcess, case: str, by: str) -> None:
    code, ename = SPINNING[case]
    if ename is None:
        kernel.execute(code)
        code, ename = "1 / 1", "KeyboardInterrupt"
    msg_id = kernel.send(code)
    kernel.until("stream")
    kernel.interrupt(by)
    assert kernel.finish(msg_id)[0]["ename"] == ename


def test_an_interrupt_hits_the_cell_that_runs_when_it_comes(kernel: KernelProcess) -> None:
    ids = [kernel.send(f"print({n}, flush=True)\ntime.sleep(0.3)") for n in range(6)]
    kernel.until("stream")
    kernel.interrupt("message")
    replies = [kernel.client.get_shell_msg(timeout=TIMEOUT)["content"] for _ in ids]
    statuses = [one["status"] for one in replies]
    assert statuses.count("error") == 1, statuses
    kernel.until("status")


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.default_int_handler"])
def test_a_handler_of_an_earlier_cell_does_not_stay(kernel: KernelProcess, handler: str) -> None:
    kernel.execute(f"signal.signal(signal.SIGINT, {handler});")
    msg_id = kernel.send("print('begun', flush=True)\nawait trio.sleep_forever()")
    kernel.until("stream")
    kernel.interrupt()
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"


def test_a_forked_child_exits_with_its_own_code(kernel: KernelProcess) -> None:
    code = (
        "pid = os.fork()\nif not pid:\n    import sys; sys.exit(4)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert kernel.text(code).endswith("4\n")


def test_a_display_without_an_end(kernel: KernelProcess) -> None:
    started = time.monotonic()
    reply, outputs = kernel.execute(
        "import itertools\n"
        "display({'text/plain': 'x', 'application/json': itertools.count()}, raw=True)"
    )
    assert reply["status"] == "ok"
    (shown,) = [one["content"]["data"] for one in outputs if one["msg_type"] == "display_data"]
    assert shown["application/json"].startswith("count(")
    assert time.monotonic() - started < TIMEOUT


def test_a_cell_of_ten_million_characters(kernel: KernelProcess) -> None:
    assert kernel.text(f"text = '{'x' * 10_000_000}'\nprint(len(text))") == "10000000\n"


def test_surrogates_in_output(kernel: KernelProcess) -> None:
    assert kernel.text("print('a\\ud800b')")[0] == "a"


def test_a_representation_that_raises_or_is_of_the_wrong_type(kernel: KernelProcess) -> None:
    for body in ("raise ValueError('in a repr')", "return 5"):
        kernel.execute(f"class Odd:\n    def _repr_html_(self): {body}\n")
        _, outputs = kernel.execute("Odd()")
        results = [one["content"] for one in outputs if one["msg_type"] == "execute_result"]
        assert "text/plain" in results[0]["data"]
        assert "text/html" not in results[0]["data"]


def test_an_update_of_an_unknown_display(kernel: KernelProcess) -> None:
    reply, outputs = kernel.execute(
        "from IPython.display import update_display\nupdate_display('x', display_id='nobody')"
    )
    assert reply["status"] == "ok"
    (update,) = [one["content"] for one in outputs if one["msg_type"] == "update_display_data"]
    assert update["transient"] == {"display_id": "nobody"}


@pytest.mark.parametrize("position", [-5, 10_000, 8])
def test_a_cursor_that_is_nowhere(kernel: KernelProcess, position: int) -> None:
    for ask in (kernel.client.complete, kernel.client.inspect):
        assert kernel.finish(ask("x = '😀😀'; prin", position))[0]["status"] == "ok"


def test_comm_messages_for_comms_that_are_not_open(kernel: KernelProcess) -> None:
    client = kernel.client
    for name, content in [
        ("comm_msg", {"comm_id": "nobody", "data": {}}),
        ("comm_close", {"comm_id": "nobody", "data": {}}),
        ("comm_open", {"comm_id": "new", "target_name": "no such target", "data": {}}),
    ]:
        client.shell_channel.send(client.session.msg(name, content))
    assert kernel.until("comm_close")["content"]["comm_id"] == "new"


def test_an_answer_that_nobody_asked_for(kernel: KernelProcess) -> None:
    kernel.client.input("unasked")
    msg_id = kernel.send("print(input('asked? '))", allow_stdin=True)
    kernel.client.get_stdin_msg(timeout=TIMEOUT)
    kernel.client.input("answer")
    _, outputs = kernel.finish(msg_id)
    assert "answer\n" in [one["content"].get("text") for one in outputs]


def test_finalizers_that_print_and_close_comms_at_any_moment(kernel: KernelProcess) -> None:
    text = kernel.text(
        "import comm, gc\n"
        "gone = 0\n"
        "class Noisy:\n"
        "    def __init__(self):\n"
        "        self.me, self.comm = self, comm.create_comm(target_name='noisy')\n"
        "    def __del__(self):\n"
        "        global gone\n"
        "        gone += 1\n"
        "        print('gone')\n"
        "        self.comm.close()\n"
        "gc.set_threshold(20)\n"
        "for _ in range(500):\n"
        "    Noisy()\n"
        "    print('line')\n"
        "gc.set_threshold(700)\n"
        "gc.collect();"
    )
    assert text.count("line") == 500
    assert "gone" in text
    # a collection that another thread has begun may go on after the cell
    wait_until(lambda: kernel.text("gc.collect()\nprint(gone)").endswith("500\n"), "finalizers")


def test_an_abandoned_cell_takes_nothing_from_the_next_one(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "print('begun', flush=True)\nwith trio.CancelScope(shield=True): await trio.sleep(1.5)"
    )
    kernel.until("stream")
    kernel.interrupt()
    time.sleep(0.3)  # the second one has to come after the first was delivered
    kernel.interrupt()
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
    reply, _ = kernel.execute("get_ipython().set_next_input('x')\nawait trio.sleep(2)")
    assert [one["source"] for one in reply["payload"]] == ["set_next_input"]


def test_comm_messages_outlive_a_cell_that_cancels_its_nursery(kernel: KernelProcess) -> None:
    kernel.execute(
        "import comm\nheard = []\n"
        "async def slowly(message):\n"
        "    await trio.sleep(0.5)\n    heard.append(message['content']['data'])\n"
        "comm.get_comm_manager().register_target('slow', lambda one, _: one.on_msg(slowly))"
    )
    client = kernel.client

    def send(kind: str, **content: object) -> None:
        client.shell_channel.send(client.session.msg(kind, {"comm_id": "slow", **content}))

    send("comm_open", target_name="slow", data={})
    send("comm_msg", data={"n": 1})
    msg_id = kernel.send(
        "await trio.sleep(0.2)\n"
        "trio.lowlevel.current_task().parent_nursery.cancel_scope.cancel()\n"
        "await trio.sleep(1)"
    )
    kernel.until("execute_input")
    send("comm_msg", data={"n": 2})
    kernel.finish(msg_id)
    assert "'n': 2" in kernel.text("await trio.sleep(1)\nprint(heard)")


def test_frames_of_packages_named_like_trio_are_shown(
    kernel: KernelProcess, tmp_path: Path
) -> None:
    import trio

    folder = Path(trio.__file__).parent.parent
    code = compile("def fail():\n    1 / 0\n", str(folder / "trio_other" / "module.py"), "exec")
    kernel.execute(f"import marshal\nexec(marshal.loads({marshal.dumps(code)!r}))")
    reply, _ = kernel.execute("fail()")
    assert "trio_other" in "".join(reply["traceback"])


def test_the_debugger_opens_the_one_error_of_a_group(kernel: KernelProcess) -> None:
    kernel.execute("def older(): return 1 / 0\nolder()")
    kernel.execute(
        "async def fail():\n    local = 'here'\n    raise ValueError(local)\n"
        "async with trio.open_nursery() as group: group.start_soon(fail)"
    )
    msg_id = kernel.send("%debug", allow_stdin=True)
    kernel.client.get_stdin_msg(timeout=TIMEOUT)
    kernel.client.input("p local")
    kernel.client.get_stdin_msg(timeout=TIMEOUT)
    kernel.client.input("q")
    _, outputs = kernel.finish(msg_id)
    text = "".join(one["content"].get("text", "") for one in outputs)
    assert "'here'" in text


@pytest.mark.parametrize("code", ["exit", "quit()"])
def test_exit_ends_the_process_once_it_is_answered(code: str) -> None:
    with kernel_process() as kernel:
        reply, _ = kernel.execute(code)
        assert reply["status"] == "ok"
        assert [one["source"] for one in reply["payload"]] == ["ask_exit"]
        assert kernel.process.wait(TIMEOUT) == 0


def test_an_interrupt_just_before_a_lock_is_not_lost(kernel: KernelProcess) -> None:
    chance = random.Random(5)
    for _ in range(60):
        msg_id = kernel.send(
            "print('begun', flush=True)\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()"
        )
        kernel.until("stream")
        time.sleep(chance.random() * 0.0005)  # as the main thread is about to block
        kernel.interrupt()
        assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
