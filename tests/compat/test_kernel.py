"""`Kernel` and `IPythonKernel`: traitlets' kernels over ours, in memory."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
import trio
from tornado.ioloop import IOLoop
from traitlets import TraitError, Type
from traitlets.config import Config

from trikernel.compat import IPythonKernel, Kernel
from trikernel.errors import KernelClassError
from trikernel.python.shell import ZMQInteractiveShell
from trikernel.testing import CheckedClient, Samples, assert_conforms, open_memory_client

from .kernels import Awaiting, Configured, Echo, Overriding

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_a_kernel_of_the_documentations_shape_answers() -> None:
    async with open_memory_client(Echo()) as client:
        await client.expect("hello", stdout="hello")
        info = (await client.kernel_info()).content
        again = await client.execute("again")
    assert info["implementation"] == "Echo"
    assert info["language_info"]["name"] == "echo"
    assert info["language_info"]["version"] == "0.1"
    assert again.execution_count == 2


async def test_what_it_displays_goes_out_as_it_is() -> None:
    class Shows(Kernel):
        def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> Any:
            self.send_response(self.iopub_socket, "display_data", {"data": {"text/plain": 42}})

    async with open_memory_client(Shows()) as client:
        shown = (await client.expect("x")).messages[2]
    assert shown.content == {"data": {"text/plain": 42}}


async def test_traits_come_from_a_configuration_and_observers_hear() -> None:
    config = Config({"Configured": {"word": "hi"}, "Kernel": {"cell_timeout": 3.0}})
    kernel = Configured(config=config)
    assert kernel.heard == ["hi"]
    assert kernel.trikernel_adapter.cell_timeout == 3
    kernel.cell_timeout = 5
    assert kernel.trikernel_adapter.cell_timeout == 5
    with pytest.raises(TraitError, match="cell_timeout must be a number from 0"):
        kernel.cell_timeout = -1
    async with open_memory_client(kernel) as client:
        await client.expect("you", stdout="hi, you")


# What wrapper kernels were seen to use, of a kernel that is served
USED = """
    _abort_queues _allow_stdin _parent_header _parent_ident _publish_status _send_abort_reply
    _shutdown_message _topic aborted comm_manager config control_handlers control_stream
    do_apply do_clear do_history do_one_iteration do_shutdown execution_count finish_metadata
    get_parent getpass ident init_metadata int_id io_loop iopub_socket kernel_info log msg_types
    parent post_handler_hook pre_handler_hook raw_input record_ports schedule_dispatch
    send_response session set_parent shell_handlers shell_stream shell_streams should_handle
    start stdin_socket user_ns
"""


async def test_the_names_that_wrapper_kernels_use_are_there() -> None:
    kernel = Echo()
    async with open_memory_client(kernel) as client:
        await client.execute("hi")
        assert [name for name in USED.split() if not hasattr(kernel, name)] == []
        assert kernel.execution_count == 1
        assert kernel.kernel_info["implementation"] == "Echo"
        assert kernel.get_parent()["header"]["msg_type"] == "execute_request"
        assert kernel._parent_header == kernel.get_parent("shell")
        assert [one.name for one in kernel.shell_streams] == [kernel.shell_stream.name]
        assert kernel._topic("stream").endswith(b".stream")


async def test_it_speaks_the_protocol() -> None:
    assert await assert_conforms(Echo(), Samples(code="hi", printing="hi"))


async def test_there_is_one_instance() -> None:
    assert not Configured.initialized()
    kernel = Configured.instance()
    try:
        assert Configured.instance() is kernel
        assert Kernel.instance() is kernel
        assert Configured.initialized()
    finally:
        Configured.clear_instance()


async def test_what_is_given_stands_before_what_the_kernel_has() -> None:
    session, socket, log = object(), object(), logging.getLogger("somebody")
    kernel = Echo(session=session, iopub_socket=socket, log=log)
    assert (kernel.session, kernel.iopub_socket, kernel.log) == (session, socket, log)
    assert kernel.trikernel_adapter.log is log
    assert kernel.parent is None


async def test_a_session_that_was_kept_early_becomes_the_kernels() -> None:
    class Early(Echo):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.kept = self.session
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "early"})

        def do_execute(self, code: str, *args: Any, **options: Any) -> Any:
            content = {"name": "stdout", "text": code}
            self.kept.send(self.iopub_socket, "stream", content, parent=self.get_parent())
            assert self.kept is self.session

    async with open_memory_client(Early()) as client:
        await client.expect("signed", stdout="signed")


async def test_handlers_of_an_authors_own_take_three_arguments_and_may_await_asyncio() -> None:
    class Handling(Awaiting):
        msg_types = [*Kernel.msg_types, "plain_request"]

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.shell_handlers["value_request"] = self.value_request

        async def value_request(self, stream: Any, ident: Any, message: Any) -> None:
            await self.do_sleep("1")
            self.session.send(stream, "value_reply", {"status": "ok", "n": 1}, message, ident)

        def plain_request(self, stream: Any, ident: Any, message: Any) -> dict[str, Any]:
            return {"status": "ok", "n": message["content"]["n"]}

        async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
            await super().execute_request(stream, ident, parent)

    async with open_memory_client(Handling()) as client:
        assert (await client.request("value_request")).content["n"] == 1
        assert (await client.request("plain_request", {"n": 2})).content["n"] == 2
        execution = await client.execute("sleep 1")
    assert (execution.stdout, execution.execution_count) == ("slept", 1)


async def test_a_wrong_class_is_told_by_its_name() -> None:
    class Wrong(Kernel):
        def do_execute(self) -> None: ...

    kernel = Wrong()
    with pytest.raises(KernelClassError, match=r"Wrong\.do_execute.* cannot be called as"):
        async with open_memory_client(kernel):
            pass


async def test_a_fact_that_cannot_be_computed_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Missing(Echo):
        @property
        def banner(self) -> str:  # type: ignore[override]
            raise FileNotFoundError(2, "No such file or directory", "bash")

    kernel = Missing()
    async with open_memory_client(kernel) as client:
        assert (await client.kernel_info()).content["status"] == "ok"
        await client.expect("lives", stdout="lives")


async def test_a_computed_kernel_info_has_supers() -> None:
    class More(Echo):
        @property
        def kernel_info(self) -> dict[str, Any]:
            return {**super().kernel_info, "more": 1}

    async with open_memory_client(More()) as client:
        info = (await client.kernel_info()).content
    assert (info["implementation"], info["more"]) == ("Echo", 1)


async def test_a_requests_hooks_are_the_authors_and_see_no_messages_of_the_kernels() -> None:
    heard: list[str] = []

    class Hooked(Echo):
        async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
            await super().execute_request(stream, ident, parent)

        def set_parent(self, ident: Any, parent: Any, channel: str = "shell") -> None:
            heard.append(f"{channel} {parent['header']['msg_type']}")
            super().set_parent(ident, parent, channel)

        def init_metadata(self, parent: Any) -> Any:
            return {**super().init_metadata(parent), "mine": 1}

        def finish_metadata(self, parent: Any, metadata: Any, reply_content: Any) -> Any:
            metadata["fin"] = 2
            return metadata

        def send_response(self, stream: Any, msg_type: Any, content: Any = None, **_: Any) -> None:
            heard.append(msg_type)
            super().send_response(stream, msg_type, content)

    async with open_memory_client(Hooked()) as client:
        await client.kernel_info()
        heard.clear()
        execution = await client.expect("said", stdout="said")
        assert execution.reply is not None
        assert execution.reply.metadata.keys() == {"started", "mine", "fin"}
        assert heard == ["shell execute_request", "stream"]


# asyncio


@pytest.fixture
async def awaiting() -> Any:
    async with open_memory_client(Awaiting()) as client:
        yield client


async def test_a_verb_awaits_asyncio_in_the_kernels_time(awaiting: CheckedClient) -> None:
    began = trio.current_time()
    await awaiting.expect("sleep 1000", stdout="slept")
    assert 1000 <= trio.current_time() - began < 1001


async def test_a_verb_awaits_both(awaiting: CheckedClient) -> None:
    began = trio.current_time()
    await awaiting.expect("both", stdout="both")
    assert 4 <= trio.current_time() - began < 4.1


async def test_what_a_verb_starts_goes_on_after_it(awaiting: CheckedClient) -> None:
    execution = await awaiting.execute("later")
    assert execution.stdout == ""
    await trio.sleep(15)
    assert execution.stdout == "later"
    await trio.sleep(15)
    assert execution.stdout == "laterlatest"


async def test_a_thread_has_something_done_in_the_kernels_loop() -> None:
    kernel = Echo()
    done = trio.Event()
    async with open_memory_client(kernel):
        await trio.to_thread.run_sync(lambda: kernel.io_loop.add_callback(done.set))
        await done.wait()


async def test_asyncios_time_out_ends_what_awaits_trio(awaiting: CheckedClient) -> None:
    began = trio.current_time()
    await awaiting.expect("late", error="TimeoutError")
    assert 1 <= trio.current_time() - began < 1.1


async def test_tornados_current_loop_is_the_kernels() -> None:
    class Asking(Kernel):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            self.current = IOLoop.current()

    kernel = Asking()
    async with open_memory_client(kernel) as client:
        await client.execute("x")
        assert kernel.io_loop is kernel.current


async def test_a_plain_verb_has_a_running_loop_and_starts_tasks_in_it() -> None:
    class Starting(Echo):
        def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> Any:
            assert asyncio.get_event_loop().is_running()
            assert asyncio.get_running_loop() is IOLoop.current().asyncio_loop  # type: ignore[attr-defined]
            self.task = asyncio.create_task(self.speak(code))
            never = self.speak("never")
            with pytest.raises(RuntimeError, match="from a running event loop"):
                asyncio.run(never)
            never.close()
            if code == "fail":
                raise ValueError
            return super().do_execute("", True)

        async def speak(self, text: str) -> None:
            await asyncio.sleep(1)
            super().do_execute(text, False)

    async with open_memory_client(Starting()) as client:
        for code in ("later", "fail"):
            execution = await client.execute(code)
            await trio.sleep(2)
            assert execution.stdout == code
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


async def test_a_thread_that_a_verb_awaits_sends(awaiting: CheckedClient) -> None:
    await awaiting.expect("thread", stdout="from a thread")


async def test_errors_and_replies_of_a_verb_that_awaits(awaiting: CheckedClient) -> None:
    await awaiting.expect("fail", error="ValueError: no such thing")
    execution = await awaiting.execute("reply")
    assert execution.error is not None
    assert execution.error.ename == "Wrong"


async def test_an_exit_in_a_verb_that_awaits_says_nothing_later() -> None:
    class Exiting(Awaiting):
        async def do_exit(self) -> None:
            raise SystemExit

        async def do_interrupt(self) -> None:
            raise KeyboardInterrupt

    async with open_memory_client(Exiting()) as client:
        await client.expect("exit", error="SystemExit")
        await client.expect("interrupt", error="KeyboardInterrupt")
    tasks = [one for one in gc.get_objects() if isinstance(one, asyncio.Task)]
    raised = [one for one in tasks if one.done() and not one.cancelled()]
    assert raised
    assert not any(one._log_traceback for one in raised)


async def test_the_traceback_has_no_frames_of_the_loops() -> None:
    async with open_memory_client(Awaiting()) as client:
        execution = await client.execute("fail")
    assert execution.error is not None
    text = "\n".join(execution.error.traceback)
    assert "do_fail" in text
    assert "run_forever" not in text
    assert "guest.py" not in text


@pytest.mark.parametrize("code", ["sleep 60", "both", "spin"])
async def test_an_interrupt_ends_what_awaits_asyncio(code: str) -> None:
    kernel = Awaiting()
    async with open_memory_client(kernel) as client:
        async with client.executing(code) as execution:
            await execution.wait_started()  # no time passes while it spins
            await client.interrupt()
        assert execution.error is not None
        assert execution.error.ename == "KeyboardInterrupt"
        assert kernel.ended == code
        await client.expect("sleep 1", stdout="slept")


@pytest.mark.parametrize("code", ["sleep 60", "trio"])
async def test_an_interrupts_traceback_says_where_the_verb_awaited(code: str) -> None:
    class Both(Awaiting):
        async def do_trio(self) -> None:
            await trio.sleep(60)

    async with open_memory_client(Both()) as client, client.executing(code) as execution:
        await execution.wait_started()
        await trio.sleep(1)
        await client.interrupt()
    assert execution.error is not None
    text = "\n".join(execution.error.traceback)
    assert "await verb(*code.split()[1:])" in text
    assert f"do_{code[:5].strip()}" in text
    assert "guest.py" not in text


async def test_who_cleans_up_for_long_is_told_by_the_authors_line() -> None:
    class Slow(Awaiting):
        async def do_slow(self) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(5)

    async with open_memory_client(Slow()) as client, client.executing("slow") as execution:
        await execution.wait_started()
        await trio.sleep(1)
        await client.interrupt()
    assert "it still waits in asyncio.sleep (line " in execution.stderr
    assert "Slow.do_slow)" in execution.stderr


async def test_a_deadline_ends_what_awaits_asyncio() -> None:
    kernel = Awaiting(config=Config({"Awaiting": {"cell_timeout": 2.0}}))
    async with open_memory_client(kernel) as client:
        began = trio.current_time()
        await client.expect("sleep 60", error="DeadlineExceeded")
        assert 2 <= trio.current_time() - began < 2.5


async def test_comms_live_while_a_verb_awaits_asyncio() -> None:
    kernel = Awaiting()
    heard: list[Any] = []
    async with open_memory_client(kernel) as client:
        kernel.comm_manager.register_target("t", lambda comm, message: heard.append(comm))
        async with client.executing("sleep 60") as execution:
            await execution.wait_started()
            client.comm_open("t")
            await trio.sleep(1)
            assert len(heard) == 1


# A Python kernel


async def test_a_python_kernels_verbs_are_overridden_and_called() -> None:
    kernel = Overriding()
    async with open_memory_client(kernel) as client:
        execution = await client.expect("x = 6 * 7; x?!", result="42")
        assert execution.reply is not None
        assert execution.reply.content["user_expressions"] == {"asked": {"status": "ok"}}
        assert (await client.complete("kernel.xy")).content["metadata"] == {"ours": True}
        await client.expect("import asyncio; asyncio.run(asyncio.sleep(0, 5))", result="5")
        await client.expect("1 / 0", error=ZeroDivisionError)
        assert (await client.kernel_info()).content["banner"] == "ours"
        assert kernel.user_ns["x"] == 42
        assert kernel.shell.kernel is kernel


async def test_a_python_kernels_shell_is_of_the_authors_class() -> None:
    class Shell(ZMQInteractiveShell):
        pass

    class Shelled(IPythonKernel):
        shell_class = Type(Shell)

    kernel = Shelled()
    async with open_memory_client(kernel) as client:
        await client.expect("type(get_ipython()).__name__", result="'Shell'")
        assert kernel.user_module is kernel.shell.user_module


async def test_cells_know_the_authors_object_as_the_kernel() -> None:
    class Friendly(IPythonKernel):
        def hello(self) -> str:
            return "hello"

    kernel = Friendly()
    async with open_memory_client(kernel) as client:
        await client.expect("kernel = get_ipython().kernel; kernel.hello()", result="'hello'")
        await client.expect("get_ipython().parent.hello()", result="'hello'")
        await client.expect("from IPython.display import display; display(1)")
        await client.expect("1 / 0", error=ZeroDivisionError)
        assert kernel.user_ns["kernel"] is kernel
        assert isinstance(kernel.shell.kernel, IPythonKernel)
