"""From frames to the lane that will handle a request.

::

    frames ── receive ── decode ──┬─ not valid: counted, logged, dropped (or refused, if
                                  │  nothing but its content is wrong)
                       deliver: the table of message types says which lane
                                  │
            ┌─────────────────────┴──────────────────────┐
        ShellLane                                  ControlQueue
    in the user loop: cells,                   in order, in the
    and comms beside them                      service loop
            │                                            │
            └──── `ShellLane.perform` does each ─────────┘

The shell channels are read in the user loop. A cell that blocks that loop must not keep a subshell
waiting. So while there are subshells, and only then, the service loop reads in its place for as
long as the user loop does not turn. The reading loop may change at any time, and still each message
is read once, and in order:

- `ShellReaders` keeps the token of the loop whose turn it is. A receiver compares it with its own
  under a lock that it holds for each batch. Receiving never waits, so no message is half read when
  the turn changes.
- A receiver in the loop that is blocked stays parked; when it wakes it finds that it is not its
  turn, and reads nothing.
- What the service loop has read for the main shell is in the lane's mailbox before the turn goes
  back, and the user loop empties that before it reads on.

Requests for a shell lane that come over control are posted to the user loop. What happens to a
request from there on is in `shell_lane`. The tables of states are in `request` (a request), `stop`
(how it is stopped) and `peers` (clients that do not read).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar
from weakref import ref

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..errors import ContentError, NoSubshell, QueueFull, UnknownSubshellError, WireError
from ..system import Latch, RepeatedEvent, run_in, runs_here
from ..transport import Channel
from ..wire import LaneName, Message, MessageType, Priority
from .application import Handlers
from .comm_queue import comm_id_of
from .connection import Connection, Rejections
from .lanes import ControlQueue
from .request import Request, RequestBudget
from .shell_lane import ShellLane
from .stop import Stopper
from .user_code import OutermostScope

__all__ = ["Dispatcher", "find_subshell", "route"]

T = TypeVar("T")

IN_ORDER_TIMEOUT = 0.5  # seconds that one of the requests ``in_order`` waits for the one before it
READ_BATCH = 64  # messages that are read before other tasks have their turn
FIRST_CHECK, LAST_CHECK = 0.005, 0.04  # seconds between two checks whether the user loop turns
SWEEP_BATCH = 50_000  # messages that an abort reads at most, to abort them with the rest
REFUSAL_COST = 16  # messages as which a refused one counts: so a client that sends many is slowed
REQUEST_OVERHEAD = 2048  # bytes that a queued request takes beside its frames


@attrs.define(eq=False)
class _Place:
    """One loop that may read: ``changed`` is set when the turn has changed, and ``scope`` is around
    its receivers.
    """

    changed: RepeatedEvent = attrs.field(factory=RepeatedEvent)
    scope: trio.CancelScope | None = None


class ShellReaders:
    """Reads channels in one of several loops: in the one of ``token`` at first, and until `move`.

    ``read`` is called with a channel and a number of messages, and delivers at most so many that
    have arrived there. `is_away` says whether another loop than the first one reads.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        read: Callable[[Channel, int], object],
        token: trio.lowlevel.TrioToken,
    ) -> None:
        self._channels = channels
        self._read = read
        self._turn = self._home = token
        self.is_away = False
        self._lock = threading.RLock()
        self._places: dict[trio.lowlevel.TrioToken, _Place] = {}

    def move(self, token: trio.lowlevel.TrioToken | None = None) -> None:
        """Have the loop of ``token`` read from now on, or the first one; from any thread.

        When it returns, no other loop reads any more.
        """
        with self._lock:
            self._turn = token or self._home
            self.is_away = self._turn is not self._home
        for token, place in tuple(self._places.items()):
            place.changed.set()
            run_in(token, self._leave)

    @enable_ki_protection
    async def run(self) -> None:
        """Read in this loop whenever it is its turn. Cancelled, it loses no message."""
        token = trio.lowlevel.current_trio_token()
        place = self._places[token] = _Place()
        try:
            while True:
                while self._turn is token:
                    with trio.CancelScope() as place.scope:
                        async with trio.open_nursery() as nursery:
                            for one in self._channels:
                                name = f"{one.name} receiver"
                                nursery.start_soon(self._receive, one, token, name=name)
                    if self._turn is not token:  # what was parked here last is woken no more
                        run_in(self._turn, self._leave)
                await place.changed.wait()
        finally:
            del self._places[token]

    @enable_ki_protection
    async def stand_in(
        self, is_needed: Callable[[], bool], take_over: Callable[[], object]
    ) -> None:
        """Read in this loop whenever the first one does not turn, until ``is_needed`` says no.

        ``take_over`` is called each time before anything is read here.
        """
        token, pause = trio.lowlevel.current_trio_token(), FIRST_CHECK
        while is_needed():
            turned = Latch()
            run_in(self._home, partial(self._come_home, turned))
            await trio.sleep(pause)
            pause = min(2 * pause, LAST_CHECK)
            if not turned.is_set:
                self.move(token)
                if turned.is_set:  # at that very moment
                    self.move()
                else:
                    take_over()
                await turned.wait()
                pause = FIRST_CHECK

    def _come_home(self, turned: Latch) -> None:
        """The first loop turns: it reads again. Called in it."""
        turned.set()
        if self.is_away:
            self.move()

    def sweep(self, budget: int) -> None:
        """Read what has arrived, if it is this loop's turn."""
        with self._lock:
            if runs_here(self._turn):
                for channel in self._channels:
                    self._read(channel, budget)

    def _leave(self) -> None:
        """Cancel the receivers of the calling loop, because the turn has changed.

        If it is this loop's turn again by now, `run` starts them anew. That is necessary: a channel
        wakes only the receiver that has parked last, which may have been another loop's. That one
        may be there still, and take what has come: so a loop that has lost its turn has this done
        once more when its own receivers are gone.
        """
        place = self._places.get(trio.lowlevel.current_trio_token())
        if place is not None and place.scope is not None:
            place.scope.cancel()

    @enable_ki_protection
    async def _receive(self, channel: Channel, token: trio.lowlevel.TrioToken) -> None:
        while True:
            await channel.wait_readable()
            with self._lock:
                if self._turn is not token:
                    return
                self._read(channel, READ_BATCH)


class Subshell(Protocol):
    """Where requests go whose header names a subshell."""

    @property
    def has_comms(self) -> bool:
        """Whether it has comm messages that are not handled yet; from any thread."""

    def deliver(self, request: Request, lane: LaneName) -> None:
        """Queue a request there."""


class Dispatcher:
    """Reads the channels of one kernel, and gives each request to its lane.

    Made in the user loop: ``user_token`` is that loop's, ``outermost`` the scope around all that is
    ours in it. `main` is the main shell's lane, `subshells` has those with a lane of their own, by
    the id that a header names.
    """

    def __init__(
        self,
        application: Handlers,
        connection: Connection,
        stopper: Stopper,
        user_token: trio.lowlevel.TrioToken,
        outermost: OutermostScope,
    ) -> None:
        self.application = application
        self.connection = connection
        self.rejected = Rejections(application.kernel.log)
        self.control = ControlQueue()
        self.budget = RequestBudget()
        self.main = ShellLane(
            application,
            connection,
            stopper,
            user_token,
            outermost,
            budget=self.budget,
            sweep=self.sweep,
        )
        self.subshells: Mapping[str, Subshell] = {}
        self._prepared: Latch | None = None  # set at the end of `answering_early`; None outside it
        self.readers = ShellReaders(
            [one for one in connection.transport.shell if one is not connection.transport.control],
            self.read,
            user_token,
        )
        self._kernel_ref = ref(application.kernel)

    # What comes in

    @enable_ki_protection
    async def receive(self, channel: Channel) -> None:
        """Deliver what arrives on a channel, forever. Cancelled, it loses no message.

        For control. The shell channels are read by `readers`, in a loop that may change.
        """
        while True:
            await channel.wait_readable()
            self.read(channel, READ_BATCH)

    def read(self, channel: Channel, budget: int = SWEEP_BATCH) -> None:
        """Deliver what has arrived on a channel, within the budget; in its receiver's loop."""
        while budget > 0:
            try:
                frames = channel.receive_nowait()
            except (trio.WouldBlock, trio.ClosedResourceError):
                return
            budget -= 1 if self.deliver(channel, frames) else REFUSAL_COST

    def sweep(self) -> None:
        """Deliver what has already arrived on the shell channels; in the loop that reads them."""
        self.readers.sweep(SWEEP_BATCH)

    def deliver(self, channel: Channel, frames: Sequence[bytes]) -> bool:
        """Decode one message and put it on its lane. False if it cannot be decoded."""
        try:
            message = self.connection.codec.decode(frames)
        except WireError as error:
            self.rejected.note(channel.name, error)
            if isinstance(error.message, Message):
                row = self.application.find(error.message.header.msg_type)
                request = Request(error.message, channel, row, Priority.SHELL, self._kernel_ref)
                words = f"{request.msg_type}: {error}"
                self.main.refuse(request, ContentError(words))
            return False
        row = self.application.find(message.header.msg_type)
        on_control = channel is self.connection.transport.control
        lane, priority = route(row, on_control)
        size = sum(map(len, frames)) + REQUEST_OVERHEAD
        request = Request(message, channel, row, priority, self._kernel_ref, size=size)
        limit = self.application.kernel.max_queue_bytes
        if not self.budget.take(request, limit):
            words = "bytes of requests wait already: ask again when some of them have run"
            self.main.refuse(request, QueueFull(f"{limit} {words}"))
        elif lane is LaneName.CONTROL:
            refused = self.control.admit(request)
            if refused is not None:
                self.main.refuse(refused)
        elif on_control and (wrong := self.application.content_error(request)) is not None:
            self.application.kernel.log.warning("%s", wrong)
            self.main.refuse(request, wrong)
        elif message.header.subshell_id is not None:
            self._deliver_to_subshell(request, lane)
        elif on_control or self.readers.is_away:
            self.main.deliver(request, lane)
        else:
            if self.main.posted.waiting:  # the service loop has read these before
                self.main.posted.drain()
            self.main.admit(request, lane)
        return True

    def _deliver_to_subshell(self, request: Request, lane: LaneName) -> None:
        try:
            subshell = find_subshell(self.subshells, request.message.header.subshell_id)
        except NoSubshell as error:
            self.main.refuse(request, error)
            return
        if lane is LaneName.COMM and self._main_takes_comms(subshell, request):
            self.main.deliver(request, lane)
        else:
            subshell.deliver(request, lane)

    def take_over_comms(self) -> None:
        """Hand comm messages for a subshell that the main lane has not begun to handle over to the
        subshell. In the service loop, when it begins to read because the main loop is blocked.
        """
        comm = self.main.comm
        for request in comm.withdraw(lambda one: one.message.header.subshell_id is not None):
            try:
                subshell = find_subshell(self.subshells, request.message.header.subshell_id)
            except NoSubshell as error:
                self.main.refuse(request, error)
            else:
                subshell.deliver(request, LaneName.COMM)
        self.main.posted.post(comm.note_started)

    def _main_takes_comms(self, subshell: Subshell, request: Request) -> bool:
        """Whether a comm message for a subshell is handled in the main loop all the same.

        JupyterLab sends those of widgets to a subshell, so that they are handled while a cell
        blocks. As long as no cell blocks, their handlers are called in the main loop, where they
        may set events, start tasks and send to channels of the cells: Trio allows that in one loop
        only. No message overtakes one that came before it.
        """
        if self.readers.is_away:
            return self.main.comm.has(comm_id_of(request))
        return not subshell.has_comms

    @asynccontextmanager
    async def answering_early(self, may_answer: Callable[[Request], bool]) -> AsyncIterator[None]:
        """While the kernel is prepared, in the block, requests are queued, and answered in order up
        to the first one for which ``may_answer`` is false. On control all but those of an ``early``
        type wait for the end of the block.
        """
        prepared = self._prepared = Latch()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.readers.run, name="early receivers")
                nursery.start_soon(self.main.answer_early, may_answer, name="early answers")
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._prepared = None
            prepared.set()

    # Control

    @enable_ki_protection
    async def run_control_lane(self) -> None:
        """Handle the requests of the control lane, in order of arrival; in the service loop.

        One whose handler may wait (an author's may, too) is handled in a task of its own. Of the
        types that are ``in_order`` the next one waits even then for the end of the one before, at
        most `IN_ORDER_TIMEOUT`. All but ``early`` types wait until the kernel is prepared.
        """
        before: tuple[trio.Event, trio.Event] | None = None
        async with trio.open_nursery() as nursery:
            async for request in self.control:
                row, prepared = request.type, self._prepared
                if row is not None and row.early:
                    prepared = None
                if prepared is None and (row is None or not row.may_wait):
                    await self.main.perform(request)
                    continue
                task = partial(self.main.perform, request)
                if row is not None and row.in_order:
                    states = trio.Event(), trio.Event()
                    task = partial(self._perform_after, before, request, states)
                    before = states
                if prepared is not None:
                    task = partial(_wait_and_call, prepared, task)
                nursery.start_soon(task, name=request.msg_type)

    async def _perform_after(
        self,
        before: tuple[trio.Event, trio.Event] | None,
        request: Request,
        states: tuple[trio.Event, trio.Event],
    ) -> None:
        """Handle a request after the one before it. Each pair of events is set when its request has
        begun, and when it has ended.
        """
        begun, ended = states
        if before is not None and not before[1].is_set():
            await before[0].wait()
            with trio.move_on_after(IN_ORDER_TIMEOUT):
                await before[1].wait()
        begun.set()
        try:
            await self.main.perform(request)
        finally:
            ended.set()


async def _wait_and_call(latch: Latch, task: Callable[[], Awaitable[object]]) -> None:
    await latch.wait()
    await task()


def find_subshell(subshells: Mapping[str, T], subshell_id: object) -> T:
    """The subshell of that id. Raises `UnknownSubshellError`."""
    found = subshells.get(subshell_id) if isinstance(subshell_id, str) else None
    if found is None:
        raise UnknownSubshellError(f"Unknown subshell_id {subshell_id!r:.80}")
    return found


def route(row: MessageType | None, on_control: bool) -> tuple[LaneName, int]:
    """The lane of a message type, and how urgent it is there."""
    if on_control and (row is None or row.concurrent):
        return LaneName.CONTROL, Priority.CONTROL
    if row is None:
        return LaneName.SHELL, Priority.SHELL
    if row.lane is LaneName.COMM:
        return LaneName.COMM, row.priority
    return LaneName.SHELL, Priority.CONTROL if on_control else row.priority
