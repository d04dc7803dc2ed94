"""The subshells of a kernel (JEP 91): created, found by their id, deleted.

Everything here runs in the service loop, but `Subshell.deliver`: that is called in whichever loop
reads the shell channels, the main one, or the service loop while a cell blocks the main one (see
`dispatch`). Each subshell has a loop of its own (`subshell_loop`). It is replaced when it is lost:
when its thread is in C code that does not return after a stop, or the user's code has crashed Trio
there.

A request for a subshell is kept until its ``idle`` is sent, so that it is answered whatever happens
to the loop. Source: JEP 91; messaging.rst, "Subshells".
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import LoopLost, NoSubshell
from ..system import Latch, RemoteNursery
from ..wire import LaneName
from .application import Application
from .connection import Connection
from .dispatch import Dispatcher, find_subshell
from .request import Request, State, StopReason
from .stop_signals import TURN_TIMEOUT
from .subshell_loop import SubshellKey, SubshellLoop

__all__ = ["Subshell", "Subshells"]


class Subshell:
    """One subshell. ``open_loop`` starts a loop for it, ``refuse`` answers a request that will not
    run.
    """

    def __init__(
        self,
        open_loop: Callable[[], SubshellLoop],
        refuse: Callable[[Request, BaseException | None], object],
    ) -> None:
        self._open_loop = open_loop
        self._refuse = refuse
        self.loop = open_loop()
        self._unanswered: dict[Request, LaneName] = {}
        self._early: list[Request] = []  # those that came before the loop was ready
        self._takes = self._has_ended = False  # whether the loop is ready for requests; all is over
        self._lock = threading.RLock()  # requests come from whichever loop reads

    @property
    def has_comms(self) -> bool:
        """Whether it has comm messages that are not handled yet; from any thread."""
        return LaneName.COMM in tuple(self._unanswered.values())

    def deliver(self, request: Request, lane: LaneName) -> None:
        """Queue a request there; from the loop that reads."""
        with self._lock:
            if self._has_ended:
                self._refuse(request, NoSubshell("the subshell was deleted meanwhile"))
                return
            self._unanswered[request] = lane
            request.after_idle(partial(self._unanswered.pop, request, None))
            if self._takes:
                self.loop.lane.deliver(request, lane)
            else:
                self._early.append(request)

    async def run(self) -> None:
        """Serve it until it is told to end, or no thread can be started for another loop."""
        while True:
            loop = self.loop
            await loop.ready.wait()
            self._send_early(loop)
            await self._watch(loop)
            if loop.stops_taking:
                return
            if loop.ended.is_set and not loop.has_begun:  # another loop would not begin, either
                self.lose(loop.crash or NoSubshell("it did not start"))
                return
            try:
                self._replace(loop)
            except RuntimeError as error:  # the limit of threads
                for request in self._leave(loop, error):
                    self._refuse(request, error)
                return

    def _send_early(self, loop: SubshellLoop) -> None:
        with self._lock:
            early, self._early, self._takes = self._early, [], True
            for request in (
                early if loop.crash is None else ()
            ):  # else `run` sees to them with the rest
                loop.lane.deliver(request, self._unanswered[request])

    async def _watch(self, loop: SubshellLoop) -> None:
        """Wait until it has ended, or is stuck: its code has not noticed a stop."""

        async def wait_until_stuck(scope: trio.CancelScope) -> None:
            await loop.stopper.stuck.wait()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            if loop.crash is None:
                nursery.start_soon(wait_until_stuck, nursery.cancel_scope)
            await loop.ended.wait()
            nursery.cancel_scope.cancel()

    def _replace(self, loop: SubshellLoop) -> None:
        """Go on in a new loop, with the requests that have not begun in the old one."""
        lost = None
        if loop.crash is not None:
            lost = LoopLost(
                f"Trio's loop of this subshell crashed by {type(loop.crash).__name__}: "
                f"{loop.crash}. A new one has been started; names are kept."
            )
            lost.__cause__ = loop.crash
        with self._lock:
            self._takes, self.loop = False, self._open_loop()
            for request in self._leave(loop, lost):
                again, lane = request.again(), self._unanswered.pop(request)
                self._unanswered[again] = lane
                again.after_idle(partial(self._unanswered.pop, again, None))
                self._early.append(again)

    def interrupt(self) -> str:
        """Interrupt what runs in it; the place in its code, if it was told to stop before."""
        if not self.loop.ready.is_set:
            return ""
        place = self.loop.stopper.stuck_at()
        self.loop.stopper.interrupt()
        return place

    def abort(self, msg_ids: set[str] | None) -> set[str]:
        """Abort requests by id, running or queued, or all that are queued; the ids found here."""
        found = set()
        for request in tuple(self._unanswered):
            if request.msg_id in (msg_ids or ()):
                found.add(request.msg_id)
            elif msg_ids is not None or request.type is None or not request.type.abortable:
                continue
            if request.state is State.QUEUED:
                request.mark(StopReason.ABORT)
            if request.state is State.RUNNING and (msg_ids or request.stop_reason):
                self.loop.stopper.stop(request, StopReason.ABORT)
        return found

    def _leave(self, loop: SubshellLoop, error: BaseException | None = None) -> list[Request]:
        return loop.leave(list(self._unanswered), error)

    async def end(self, reason: StopReason, grace: float) -> None:
        """End it, within the grace: what runs is stopped, and left if it does not stop."""
        loop = self.loop
        for request in tuple(self._unanswered):
            if request.state is State.QUEUED:
                request.mark(reason)
        loop.end(reason)
        with trio.move_on_after(grace + TURN_TIMEOUT):
            await loop.ended.wait()
        with self._lock:
            self._has_ended = True
            left = self._leave(loop) if self._unanswered or not loop.ended.is_set else []
        for request in left:
            self._refuse(request, None)

    def lose(self, error: BaseException) -> None:
        """Answer all of its requests with ``error``; its loop is left. From outside of any loop."""
        for request in self._leave(self.loop, error):
            self._refuse(request, error)


class Subshells:
    """The subshells of one kernel. ``inline`` is true when they run in the loop of everything else.
    ``dispatcher`` is given those that there are, by id.
    """

    def __init__(
        self,
        application: Application,
        connection: Connection,
        dispatcher: Dispatcher,
        services: RemoteNursery,
        *,
        inline: bool,
    ) -> None:
        self._application = application
        self._connection = connection
        self._dispatcher = dispatcher
        self._services = services
        self._inline = inline
        self._found: dict[str, Subshell] = {}
        self._made = WeakSet[Subshell]()
        dispatcher.subshells = self._found
        self._grace = application.kernel.shutdown_grace
        self._closing, self._closed = False, Latch()
        self._follows = self._stands_in = False  # whether the two tasks of these names run

    def create(self) -> str:
        """A new subshell's id. Raises `RuntimeError` where no thread can be had, `NoSubshell` once
        the kernel ends.
        """
        if self._closing:
            raise NoSubshell("the kernel is shutting down: it makes no more subshells")
        key = SubshellKey(str(uuid.uuid4()))

        def open_loop() -> SubshellLoop:
            loop = SubshellLoop(
                key,
                self._application,
                self._connection,
                self._dispatcher.budget,
                self._services,
                in_thread=not self._inline,
            )
            loop.start()
            return loop

        subshell = self._found[key.id] = Subshell(open_loop, self._dispatcher.main.refuse)
        self._made.add(subshell)
        if not self._inline and not self._stands_in:
            self._stands_in = True
            self._services.start_soon(self._stand_in)
        self._services.start_soon(self._serve, key.id, subshell)
        if not self._follows:
            self._follows = True
            self._services.start_soon(self._follow_signals)
        return key.id

    async def _stand_in(self) -> None:
        try:
            dispatcher = self._dispatcher
            await dispatcher.readers.stand_in(lambda: bool(self._found), dispatcher.take_over_comms)
        finally:
            self._stands_in = False

    @enable_ki_protection
    async def _serve(self, subshell_id: str, subshell: Subshell) -> None:
        await subshell.run()
        self._found.pop(subshell_id, None)

    @property
    def ids(self) -> list[str]:
        """The ids of the present subshells, the oldest first."""
        return list(self._found)

    @property
    def loops(self) -> list[SubshellLoop]:
        """All loops that have begun and not ended, those of subshells being deleted included."""
        loops = [one.loop for one in tuple(self._made)]
        return [one for one in loops if one.has_begun and not one.ended.is_set]

    async def delete(self, subshell_id: object) -> None:
        """End a subshell, within the grace. Raises `NoSubshell`."""
        subshell = find_subshell(self._found, subshell_id)
        self._found.pop(str(subshell_id), None)
        await subshell.end(StopReason.DELETION, self._grace)

    def interrupt(self, subshell_id: object = None) -> str:
        """Interrupt one of them, or all; the place in the code of one that was told to stop before.
        Raises `NoSubshell`.
        """
        one = find_subshell(self._found, subshell_id) if subshell_id is not None else None
        found = tuple(self._found.values()) if one is None else (one,)
        places = [subshell.interrupt() for subshell in found]
        return next(filter(None, places), "")

    def abort(self, msg_ids: set[str] | None) -> set[str]:
        """Abort requests by id, or all that is queued; which ids were found."""
        return {one for shell in tuple(self._found.values()) for one in shell.abort(msg_ids)}

    async def _follow_signals(self) -> None:
        """While there are any, interrupt them at each SIGINT: the main thread's handler interrupts
        the main shell only.
        """
        try:
            while self._found:
                await self._dispatcher.main.stopper.sigint_came.wait()
                self.interrupt()
        finally:
            self._follows = False

    @enable_ki_protection
    async def close(self, reason: StopReason) -> None:
        """End all of them, within the grace; in any loop, and a second time only wait."""
        if not self._closing:
            self._closing = True
            found = tuple(self._found.values())
            self._found.clear()
            self._dispatcher.readers.move()
            try:
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as nursery:
                        for subshell in found:
                            nursery.start_soon(subshell.end, reason, self._grace)
            finally:
                self._closed.set()
        with trio.CancelScope(shield=True):
            await self._closed.wait()

    def lose(self, error: BaseException) -> None:
        """The main loop is lost, and they go with it. From outside of any loop."""
        self._closing = True
        for subshell in self._found.values():
            subshell.lose(error)
        self._closed.set()
