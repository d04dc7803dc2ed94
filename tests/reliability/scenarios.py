"""What clients do to a kernel: each scenario is one client's doings, run under every fault.

A scenario sends and waits for what it must get: the idle of each request. Whatever else should
come of it, it asserts only where nothing is injected (`Rig.undisturbed`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio

from trikernel.core import Server, current_request
from trikernel.debugger import Debugger
from trikernel.kernel import Application
from trikernel.transport import MemoryTransport
from trikernel.wire import Message

from ..harness import Peer
from ..kernel.kernels import Recorder
from .recording import RecordingTransport
from .stand_in import THREAD, StandIn, StandInDebuggee, ask

__all__ = ["SCENARIOS", "Rig", "Scenario", "Workhorse"]

TICK = 0.005  # seconds; short, since with a service thread time is real


class Workhorse(Recorder):
    """Does what people's cells do: waits, asks, fails, starts tasks, handles messages within."""

    stop_on_error_timeout = 4 * TICK
    shutdown_grace = 20 * TICK
    flush_interval = TICK

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.comm_manager = _Comms(self)

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        verb, _, rest = code.partition(" ")
        special = getattr(self, f"cell_{verb}", None)
        if special is None:
            return await super().do_execute(code, silent, **options)
        self.ran.append(code)
        return await special(rest)

    def say(self, text: str) -> None:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})

    async def cell_ask(self, prompt: str) -> None:
        self.say(await self.async_input(prompt))

    async def cell_pump(self, rest: str) -> None:
        for _ in range(int(rest)):
            await self.process_one(wait=False)
            await trio.sleep(TICK)

    async def cell_iterate(self, rest: str) -> None:
        await trio.sleep(TICK)
        await self.do_one_iteration()

    async def cell_children(self, rest: str) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(self._child, number)

    async def _child(self, number: int) -> None:
        try:
            await trio.sleep(TICK * (number + 1))
        finally:
            self.say(f"{number} ")

    async def cell_group(self, rest: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 10 * TICK)
            await trio.sleep(TICK)
            raise KeyError("in the nursery")

    async def cell_shield(self, rest: str) -> None:
        try:
            await trio.sleep(100 * TICK)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(12 * TICK)

    async def cell_background(self, rest: str) -> None:
        self.nursery.start_soon(self._tell, 3)

    async def _tell(self, times: int) -> None:
        for number in range(times):
            await trio.sleep(TICK)
            self.say(f"later {number}")

    async def cell_crash(self, rest: str) -> None:
        self.nursery.start_soon(self._fall)

    async def _fall(self) -> None:
        await trio.sleep(TICK)
        raise OSError("crashed")

    async def cell_odd(self, rest: str) -> Any:
        return {"status": "ok", "user_expressions": {"a": object()}, "payload": [{"a": {1, 2}}]}

    async def cell_keyboard(self, rest: str) -> None:
        await trio.sleep(TICK)
        raise KeyboardInterrupt

    async def cell_scope(self, rest: str) -> None:
        with trio.move_on_after(TICK):
            await trio.sleep_forever()
        self.say("out of it")

    async def cell_chatter(self, rest: str) -> None:
        for number in range(10):
            self.say(f"{number}\n")
            if number % 3 == 0:
                self.send_response(self.iopub_socket, "display_data", {"data": {}, "metadata": {}})
                await trio.lowlevel.checkpoint()

    def do_clear(self) -> Any:
        self.ran.append("clear")
        return {"status": "ok"}

    async def do_apply(self, content: Any, bufs: Any, msg_id: str, reply_metadata: Any) -> Any:
        await trio.sleep(TICK)
        return {"status": "ok"}, [bytes(one) for one in bufs]

    async def do_complete(self, code: str, cursor_pos: int) -> Any:
        await trio.sleep(TICK)
        return {"status": "ok", "matches": [], "cursor_start": 0, "cursor_end": 0, "metadata": {}}

    async def do_shutdown(self, restart: bool) -> Any:
        await trio.sleep(TICK)
        return {"status": "ok", "restart": restart}


class _Comms:
    """A comm manager whose handlers take their time."""

    def __init__(self, kernel: Workhorse) -> None:
        self._kernel = kernel
        self.comms: dict[str, Any] = {}

    async def comm_open(self, stream: Any, ident: Any, message: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def comm_msg(self, stream: Any, ident: Any, message: Any) -> None:
        data = message["content"]["data"]
        self._kernel.say("handled ")
        await trio.sleep(data.get("sleep", 0))
        if data.get("fail"):
            raise RuntimeError("handler failed")

    comm_close = comm_open


class _Careful(Workhorse):
    """Asks whether each request may run, and takes its time to say so."""

    async def should_handle(self, stream: Any, message: Any, idents: Any) -> bool:
        await trio.sleep(TICK)
        return "forbidden" not in str(message["content"])


class _Strict(Workhorse):
    """Every cell has a deadline."""

    cell_timeout = 3 * TICK


@attrs.define(eq=False)
class Rig:
    """A served kernel, its clients, and the record of all that went to and fro."""

    kernel: Workhorse
    server: Server
    recording: RecordingTransport
    peers: list[Peer]
    undisturbed: bool

    @property
    def peer(self) -> Peer:
        return self.peers[0]

    def connect(self, identity: bytes, shell: int = 0) -> Peer:
        client = self.recording.transport.connect(identity=identity, shell=shell)
        peer = Peer(client)
        self.peers.append(peer)
        return peer

    def run(self, *codes: str, peer: Peer | None = None, **options: Any) -> list[str]:
        """Send cells, without waiting; their ids."""
        client = peer or self.peer
        return [client.send("execute_request", {"code": code, **options}) for code in codes]

    async def idle(self, *msg_ids: str, peer: Peer | None = None) -> list[list[Message]]:
        """Wait for the idle of each; what iopub said about them."""
        client = peer or self.peer
        return [await client.until_idle(msg_id) for msg_id in msg_ids]

    async def busy(self, msg_id: str, peer: Peer | None = None) -> None:
        """Wait until the kernel has begun with it, if only to say that it does not run."""
        client = peer or self.peer
        while not any(one.parent_id == msg_id for one in client.iopub):
            await client.receive("iopub")

    async def ask(self, msg_type: str, content: Any = None, channel: str = "control") -> None:
        """A request on control (or another channel), until it is idle."""
        await self.idle(self.peer.send(msg_type, content or {}, channel=channel))

    def replies(self, peer: Peer | None = None) -> list[str]:
        """The status of each reply that has come on shell, in order."""
        client = peer or self.peer
        found: list[str] = []
        while True:
            try:
                frames = client.transport.shell.receive_nowait()
            except trio.WouldBlock:
                return found
            found.append(str(client.codec.decode(frames).content["status"]))

    def expect(self, *statuses: str) -> None:
        """Assert the replies' statuses, if nothing was injected."""
        found = self.replies()
        assert not self.undisturbed or found == list(statuses), found

    def expect_ran(self, *codes: str) -> None:
        assert not self.undisturbed or self.kernel.ran == list(codes), self.kernel.ran


Script = Callable[[Rig], Awaitable[None]]


@attrs.frozen
class Scenario:
    """A script, the kernel that it needs, and how many shell channels."""

    script: Script
    kernel: type[Workhorse] = Workhorse
    shells: int = 1
    settings: dict[str, Any] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        return self.script.__name__

    @asynccontextmanager
    async def connected(self, *, undisturbed: bool) -> AsyncIterator[Rig]:
        """A kernel that is yet to be served, and a client of it."""
        transport = MemoryTransport(key=b"key", shell_channels=self.shells)
        kernel = self.kernel(**self.settings)
        recording = RecordingTransport(transport, Application(kernel).connection_limits()[0])
        rig = Rig(kernel, None, recording, [], undisturbed)  # type: ignore[arg-type]
        rig.connect(b"first")
        try:
            yield rig
        finally:
            for peer in rig.peers:
                peer.transport.close()
            transport.close()


SCENARIOS: dict[str, Scenario] = {}


def scenario(**options: Any) -> Callable[[Script], Script]:
    """Add a script to the list."""

    def add(script: Script) -> Script:
        one = Scenario(script, **options)
        SCENARIOS[one.name] = one
        return script

    return add


@scenario()
async def one_cell(rig: Rig) -> None:
    (heard,) = await rig.idle(*rig.run("say hello"))
    texts = [one.content["text"] for one in heard if one.msg_type == "stream"]
    assert not rig.undisturbed or texts == ["hello"]
    rig.expect("ok")


@scenario()
async def queued_cells(rig: Rig) -> None:
    await rig.idle(*rig.run("say 1", f"sleep {TICK}", "say 3", "chatter", "say 5"))
    rig.expect(*["ok"] * 5)


@scenario()
async def an_error_aborts_the_queue(rig: Rig) -> None:
    codec = rig.peer.codec
    written = codec.header("execute_request", "on its way")  # before the failure could be known
    ids = rig.run("say 1", "fail", "say 3", "say 4")
    await rig.busy(ids[1])
    late = codec.encode("execute_request", {"code": "say 5"}, header=written)
    rig.peer.send_frames(late)
    await rig.idle(*ids, "on its way")
    await trio.sleep(6 * TICK)
    await rig.idle(*rig.run("say after"))
    rig.expect("ok", "error", "aborted", "aborted", "aborted", "ok")


@scenario()
async def an_error_that_aborts_nothing(rig: Rig) -> None:
    await rig.idle(*rig.run("fail", "say 2", stop_on_error=False))
    rig.expect("error", "ok")


@scenario()
async def a_question_and_its_answer(rig: Rig) -> None:
    (asking,) = rig.run("ask name", allow_stdin=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_answer, rig.peer)
        await rig.idle(asking)
        nursery.cancel_scope.cancel()
    rig.expect("ok")


async def _answer(peer: Peer) -> None:
    question = await peer.receive("stdin")
    peer.send("input_reply", {"value": "Ada"}, channel="stdin", parent=question.header)


@scenario()
async def a_question_that_is_interrupted(rig: Rig) -> None:
    asking, after = rig.run("ask name", "say after", allow_stdin=True, stop_on_error=False)
    await rig.busy(asking)
    await trio.sleep(TICK)
    await rig.ask("interrupt_request")
    await rig.idle(asking, after)
    rig.expect("error", "ok")


@scenario()
async def comm_messages_while_a_cell_awaits(rig: Rig) -> None:
    (cell,) = rig.run(f"sleep {4 * TICK}")
    await rig.busy(cell)
    send = partial(_comm, rig)
    ids = [send("comm_open", "c"), send("comm_msg", "c"), send("comm_msg", "c", sleep=TICK)]
    ids += [send("comm_msg", "d", sleep=2 * TICK), send("comm_msg", "d", fail=True)]
    ids += [send("comm_close", "c"), *rig.run("say after")]
    await rig.idle(cell, *ids)
    rig.expect("ok", "ok")


@scenario()
async def a_comm_message_before_a_cell(rig: Rig) -> None:
    ids = [_comm(rig, "comm_msg", "c", sleep=TICK), *rig.run("say 1")]
    ids += [_comm(rig, "comm_msg", "c"), *rig.run("say 2")]
    await rig.idle(*ids)
    rig.expect("ok", "ok")


def _comm(rig: Rig, msg_type: str, comm_id: str, **data: Any) -> str:
    content = {"comm_id": comm_id, "target_name": "t", "data": data}
    return rig.peer.send(msg_type, content)


@scenario()
async def an_interrupt(rig: Rig) -> None:
    cell, after = rig.run("sleep 1", "say after", stop_on_error=False)
    await rig.busy(cell)
    await trio.sleep(TICK)
    await rig.ask("interrupt_request")
    await rig.idle(cell, after)
    rig.expect("error", "ok")


@scenario()
async def an_interrupt_of_nothing(rig: Rig) -> None:
    await rig.ask("interrupt_request")
    await rig.idle(*rig.run("say on"))
    rig.expect("ok")


@scenario()
async def a_second_interrupt_abandons(rig: Rig) -> None:
    cell, after = rig.run("shield", "say after", stop_on_error=False)
    await rig.busy(cell)
    await trio.sleep(TICK)
    await rig.ask("interrupt_request")
    await trio.sleep(2 * TICK)
    await rig.ask("interrupt_request")
    await rig.idle(cell, after)
    rig.expect("error", "ok")


@scenario()
async def children_are_interrupted(rig: Rig) -> None:
    (cell,) = rig.run("children", stop_on_error=False)
    await rig.busy(cell)
    await rig.ask("interrupt_request")
    await rig.idle(cell, *rig.run("group", "children", stop_on_error=False))


@scenario()
async def an_abort_by_id(rig: Rig) -> None:
    running, queued, after = rig.run("sleep 1", "say queued", "say after")
    await rig.busy(running)
    await rig.ask("abort_request", {"msg_ids": [queued, running]})
    await rig.idle(running, queued, after)
    rig.expect("aborted", "aborted", "ok")


@scenario()
async def an_abort_of_everything(rig: Rig) -> None:
    running, *queued = rig.run(f"sleep {6 * TICK}", "say 1", "say 2")
    await rig.busy(running)
    await rig.ask("abort_request")
    await rig.idle(running, *queued, *rig.run("say after"))
    rig.expect("ok", "aborted", "aborted", "ok")


@scenario()
async def a_shutdown_of_an_idle_kernel(rig: Rig) -> None:
    await rig.idle(*rig.run("say hello"))
    await rig.ask("shutdown_request", {"restart": False})


@scenario()
async def a_shutdown_of_a_busy_kernel(rig: Rig) -> None:
    ids = rig.run("sleep 1", "say 2", "say 3")
    await rig.busy(ids[0])
    stop = rig.peer.send("shutdown_request", {"restart": True}, channel="control")
    await rig.idle(*ids, stop)
    rig.expect("aborted", "aborted", "aborted")


@scenario()
async def a_shutdown_on_shell(rig: Rig) -> None:
    (cell,) = rig.run("say hello")
    await rig.idle(cell, rig.peer.send("shutdown_request", {"restart": False}))
    rig.expect("ok", "ok")


@scenario()
async def a_shutdown_twice(rig: Rig) -> None:
    (cell,) = rig.run("shield")
    await rig.busy(cell)
    stop = rig.peer.send("shutdown_request", {"restart": False}, channel="control")
    rig.peer.send("shutdown_request", {"restart": False})
    rig.peer.send("shutdown_request", {"restart": False}, channel="control")
    await rig.idle(cell, stop)


@scenario(shells=2)
async def two_shell_channels(rig: Rig) -> None:
    second = rig.connect(b"second", shell=1)
    ours, theirs = rig.run("say 1", "chatter", "say 3"), rig.run("say a", "say b", peer=second)
    await rig.idle(*ours)
    await rig.idle(*theirs, peer=second)
    rig.expect("ok", "ok", "ok")


@scenario(shells=2)
async def an_error_aborts_on_both_shell_channels(rig: Rig) -> None:
    second = rig.connect(b"second", shell=1)
    ours = rig.run("fail", "say 2")
    theirs = rig.run("say a", "say b", peer=second)
    await rig.idle(*ours)
    await rig.idle(*theirs, peer=second)


@scenario()
async def a_background_task_that_outlives_its_cell(rig: Rig) -> None:
    await rig.idle(*rig.run("background", "say 2"))
    await trio.sleep(4 * TICK)
    await rig.idle(*rig.run("say 3"))
    rig.expect("ok", "ok", "ok")


@scenario()
async def a_background_task_that_crashes(rig: Rig) -> None:
    await rig.idle(*rig.run("background", "crash", f"sleep {2 * TICK}", "say on"))
    rig.expect(*["ok"] * 4)


@scenario()
async def a_client_that_leaves(rig: Rig) -> None:
    second = rig.connect(b"second")
    theirs = rig.run(f"sleep {TICK}", "say theirs", peer=second)
    await rig.busy(theirs[0])
    second.transport.close()
    await rig.idle(*theirs, *rig.run("say ours"))
    rig.expect("ok")


@scenario()
async def a_client_that_comes_back(rig: Rig) -> None:
    (cell,) = rig.run(f"sleep {2 * TICK}")
    await rig.busy(cell)
    again = rig.connect(b"first")
    await rig.idle(*rig.run("say on", peer=again), peer=again)


@scenario()
async def a_cell_that_handles_others_within(rig: Rig) -> None:
    await rig.idle(*rig.run("pump 3", "say 1", "fail", "say 3", "say 4"))


@scenario()
async def nested_cells_are_interrupted(rig: Rig) -> None:
    outer, inner, after = rig.run("iterate", "sleep 1", "say after", stop_on_error=False)
    await rig.busy(inner)
    await trio.sleep(TICK)
    await rig.ask("interrupt_request")
    await rig.idle(outer, inner, after)


@scenario(kernel=_Strict)
async def a_deadline(rig: Rig) -> None:
    await rig.idle(*rig.run("sleep 1", "say 2", "children", stop_on_error=False))
    statuses = rig.replies()
    assert not rig.undisturbed or statuses[:2] == ["error", "ok"]


@scenario()
async def bad_messages_among_good_ones(rig: Rig) -> None:
    peer = rig.peer
    good = rig.run("say 1")
    peer.send_frames([b"garbage"])
    frames = peer.codec.encode("execute_request", {"code": "say replayed"})
    peer.send_frames(frames)
    peer.send_frames(frames)
    peer.send_frames([*frames[:1], b"0" * 64, *frames[2:]])
    good += [peer.send("no_such_request"), peer.send("execute_request", {"code": 3})]
    peer.send("no_such_message")
    await rig.idle(*good, *rig.run("say last", stop_on_error=False))
    assert not rig.undisturbed or rig.kernel.ran.count("say replayed") == 1


@scenario()
async def control_beside_a_running_cell(rig: Rig) -> None:
    ids = rig.run(f"sleep {4 * TICK}", "say 2")
    await rig.busy(ids[0])
    for msg_type in ("kernel_info_request", "connect_request", "comm_info_request"):
        await rig.ask(msg_type)
    cleared = rig.peer.send("clear_request", channel="control")
    await rig.idle(cleared, *ids)
    rig.expect_ran(f"sleep {4 * TICK}", "clear", "say 2")


@scenario()
async def every_other_request(rig: Rig) -> None:
    peer = rig.peer
    ids = [
        peer.send("complete_request", {"code": "a"}),
        peer.send("inspect_request", {"code": "a"}),
        peer.send("history_request", {"hist_access_type": "tail"}),
        peer.send("is_complete_request", {"code": "a"}),
        peer.send("comm_info_request"),
        peer.send("connect_request"),
        peer.send("apply_request", buffers=[b"one", b"two"]),
    ]
    await rig.idle(*ids)


@scenario()
async def calls_are_scheduled(rig: Rig) -> None:
    rig.kernel.schedule_dispatch(20, trio.sleep, TICK)
    rig.kernel.schedule_dispatch(1, rig.kernel.ran.append, "scheduled")
    rig.kernel.schedule_dispatch(10, int, "no number")
    await rig.idle(*rig.run("say on"))
    rig.expect("ok")


@scenario(settings={"poll_interval": TICK})
async def an_event_loop_is_set(rig: Rig) -> None:
    turns: list[Any] = []
    rig.kernel.eventloop = turns.append
    await rig.idle(*rig.run("say 1"))
    await trio.sleep(2 * TICK)
    rig.kernel.eventloop = None
    await rig.idle(*rig.run("say 2"))
    assert not rig.undisturbed or turns


@scenario()
async def odd_ends(rig: Rig) -> None:
    await rig.idle(*rig.run("odd", "keyboard", "group", "scope", "say on", stop_on_error=False))
    rig.expect("ok", "error", "error", "ok", "ok")


@scenario(kernel=_Careful)
async def some_requests_are_not_allowed(rig: Rig) -> None:
    await rig.idle(*rig.run("say 1", "say forbidden", "say 3"))
    rig.expect("ok", "aborted", "ok")


@scenario(settings={"output_budget_seconds": 0.0})
async def a_subscriber_that_stalls(rig: Rig) -> None:
    ids = rig.run("chatter", "say 2")
    await rig.busy(ids[0])
    rig.recording.stalled = True
    await trio.sleep(2 * TICK)
    rig.recording.stalled = False
    await rig.idle(*ids, *rig.run("say on"))


@scenario()
async def two_clients_at_once(rig: Rig) -> None:
    second = rig.connect(b"second")
    async with trio.open_nursery() as nursery:
        for peer in (rig.peer, second):
            nursery.start_soon(_work, rig, peer)


async def _work(rig: Rig, peer: Peer) -> None:
    for code in ("say 1", "chatter", f"sleep {TICK}", "children"):
        await rig.idle(*rig.run(code, peer=peer), peer=peer)


@scenario()
async def an_interrupt_amid_queue_and_comms(rig: Rig) -> None:
    ids = rig.run("sleep 1", "say 2", stop_on_error=False)
    await rig.busy(ids[0])
    ids += [_comm(rig, "comm_msg", "c", sleep=3 * TICK), *rig.run("say 3", stop_on_error=False)]
    await rig.ask("interrupt_request")
    await rig.idle(*ids)


@scenario()
async def a_reconnect_between_a_question_and_its_answer(rig: Rig) -> None:
    (asking,) = rig.run("ask name", allow_stdin=True)
    await rig.busy(asking)
    await trio.sleep(TICK)
    again = rig.connect(b"first")
    again.send("input_reply", {"value": "Ada"}, channel="stdin")
    await rig.idle(*rig.run("say on", peer=again), peer=again)


class _WithSubshells(Workhorse):
    """Its clients may create subshells."""

    has_subshells = True


@scenario(kernel=_WithSubshells)
async def cells_in_subshells(rig: Rig) -> None:
    one = await _create_subshell(rig)
    ids = [_run_in(rig, one, "sleep 1"), *rig.run("say main"), _run_in(rig, "unknown", "say lost")]
    await rig.idle(*ids[1:])
    await rig.ask("interrupt_request")
    await rig.idle(ids[0])
    ids = [_run_in(rig, one, "shield"), _run_in(rig, one, "say queued")]
    await rig.ask("delete_subshell_request", {"subshell_id": one})
    await rig.idle(*ids)


@scenario(kernel=_WithSubshells)
async def a_shutdown_with_a_busy_subshell(rig: Rig) -> None:
    one = await _create_subshell(rig)
    ids = [_run_in(rig, one, "sleep 1"), *rig.run("sleep 1"), _run_in(rig, one, "say queued")]
    await rig.busy(ids[0])
    await rig.ask("shutdown_request", {"restart": False})
    await rig.idle(*ids)


async def _create_subshell(rig: Rig) -> str:
    """Its id; empty if something was injected in the way of the reply."""
    await rig.ask("create_subshell_request")
    with suppress(trio.WouldBlock):
        frames = rig.peer.transport.control.receive_nowait()
        return str(rig.peer.codec.decode(frames).content.get("subshell_id", ""))
    return ""


def _run_in(rig: Rig, subshell_id: str, code: str) -> str:
    header = rig.peer.codec.header("execute_request", subshell_id=subshell_id)
    return rig.peer.send("execute_request", {"code": code}, header=header)


class _Debugged(_WithSubshells):
    """Has a debugger, with which cells stop that say ``stand``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._stand_in = StandIn()
        self._debugger: Debugger | None = None
        self.debug_header: Any = None

    async def cell_stand(self, rest: str) -> None:
        self.say("before ")
        await self._stand_in.stand()
        self.say("behind ")

    async def do_debug_request(self, msg: Any) -> Any:
        if self._debugger is None:
            debuggee, services = StandInDebuggee(self, self._stand_in), self.server.stopper.services
            self._debugger = Debugger(debuggee, services.start_soon, self._stand_in.connect)
        request = current_request.get()
        self.debug_header = request.message.header if request is not None else None
        return await self._debugger.answer(msg)


async def _debug(rig: Rig, command: str, **arguments: Any) -> dict[str, Any]:
    """A response; empty if something was injected in the way of it."""
    await rig.ask("debug_request", ask(command, **arguments))
    found: dict[str, Any] = {}
    with suppress(trio.WouldBlock):
        while True:  # those of before, which nobody has read, come first
            frames = rig.peer.transport.control.receive_nowait()
            found = dict(rig.peer.codec.decode(frames).content)
    return found


async def _stopped(rig: Rig, *threads: int) -> None:
    """Wait until a cell had time to stop, and assert what is told of it."""
    await trio.sleep(2 * TICK)
    info = (await _debug(rig, "debugInfo")).get("body", {})
    assert not rig.undisturbed or info["stoppedThreads"] == list(threads), info


@scenario(kernel=_Debugged)
async def a_stop_at_a_breakpoint(rig: Rig) -> None:
    await _debug(rig, "initialize")
    await _debug(rig, "attach")
    await _debug(rig, "setBreakpoints", source={"path": "cell.py"}, breakpoints=[{"line": 1}])
    rig.run("background")
    (cell,) = rig.run("stand")
    await rig.busy(cell)
    await _stopped(rig, THREAD)
    await _debug(rig, "stackTrace", threadId=THREAD)
    await _debug(rig, "variables", variablesReference=3)
    await _debug(rig, "continue", threadId=THREAD)
    heard = await rig.idle(cell)
    events = [one.content["event"] for one in heard[0] if one.msg_type == "debug_event"]
    assert not rig.undisturbed or "stopped" in events
    await _stopped(rig)
    rig.expect("ok", "ok")
    await _debug(rig, "disconnect")


@scenario(kernel=_Debugged)
async def an_interrupt_at_a_breakpoint(rig: Rig) -> None:
    await _debug(rig, "initialize")
    cell, after = rig.run("stand", "say after", stop_on_error=False)
    await rig.busy(cell)
    await _stopped(rig, THREAD)
    await rig.ask("interrupt_request")
    await rig.idle(cell, after)
    await _stopped(rig)
    rig.expect("error", "ok")


@scenario(kernel=_Debugged)
async def a_debugger_that_leaves_at_a_breakpoint(rig: Rig) -> None:
    await _debug(rig, "initialize")
    cell, after = rig.run("stand", "stand")
    await rig.busy(cell)
    await _stopped(rig, THREAD)
    await _debug(rig, "disconnect")
    await rig.idle(cell, after)
    rig.expect("ok", "ok")
    await _debug(rig, "initialize")
    (cell,) = rig.run("stand")
    await rig.busy(cell)
    await _stopped(rig, THREAD)
    await _debug(rig, "continue", threadId=THREAD)
    await rig.idle(cell)


@scenario(kernel=_Debugged)
async def a_subshell_at_a_breakpoint(rig: Rig) -> None:
    one = await _create_subshell(rig)
    await _debug(rig, "initialize")
    cell, main = _run_in(rig, one, "stand"), *rig.run("say main")
    await rig.busy(cell)
    await _stopped(rig, THREAD)
    await rig.ask("delete_subshell_request", {"subshell_id": one})
    await rig.idle(cell, main)
    await _stopped(rig)


@scenario(kernel=_Debugged)
async def a_shutdown_at_a_breakpoint(rig: Rig) -> None:
    await _debug(rig, "initialize")
    cell, after = rig.run("stand", "say after")
    await rig.busy(cell)
    await _stopped(rig, THREAD)
    await rig.ask("shutdown_request", {"restart": True})
    await rig.idle(cell, after)
    rig.expect("aborted", "aborted")
