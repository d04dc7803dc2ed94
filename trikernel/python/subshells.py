"""What of IPython's shell each subshell has its own of: numbers, history, results, errors.

What is wanted: one shell, with its magics, extensions and formatters, for all subshells; and each
counts, remembers and shows its own cells. What does not work: a shell for each, which know nothing
of each other's magics; one for all, whose cells would take each other's numbers and results.

What is done: with the first subshell the shell becomes one of a class of the same name, in which
these attributes are looked up by the calling code's subshell. Without subshells nothing is looked
up. The names that IPython keeps for a session (``In``, ``Out``, ``_``, ``_i`` and so on) lie over
the shared namespace; everything else that a cell binds is in that.

What remains: a function that a cell defines finds the main shell's ``In``, ``Out`` and ``_``, for
it looks for globals in the shared namespace. The history of a subshell is not written to the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack
from functools import partial
from types import new_class
from typing import Any
from weakref import WeakKeyDictionary, ref

from ..core import SubshellKey, current_subshell

__all__ = ["SubshellNames", "enter_subshell"]

_is_of_session = re.compile(r"_{1,3}|_i{1,3}|_i?\d+|In|Out|_[io]h").fullmatch


class SubshellNames(MutableMapping[str, Any], dict[str, Any]):  # type: ignore[misc, metaclass]
    """The namespace of a subshell's cells: the shared one, with a session's names in front.

    A dictionary by its class only, because Python takes nothing else as the globals of code.
    """

    def __init__(self, shared: MutableMapping[str, Any]) -> None:
        self._shared = shared
        self.own: dict[str, Any] = {}

    def _place(self, name: str) -> MutableMapping[str, Any]:
        return self.own if _is_of_session(name) else self._shared

    def __getitem__(self, name: str) -> Any:
        return self._place(name)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._place(name)[name] = value

    def __delitem__(self, name: str) -> None:
        del self._place(name)[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from [name for name in tuple(self._shared) if not _is_of_session(name)]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def copy(self) -> dict[str, Any]:
        """What a cell of the subshell sees, as a dictionary."""
        return {**self._shared, **self.own}


class _State:
    """What a subshell has in the place of the shell's own attributes."""

    def __init__(self, shell: Any) -> None:
        from IPython.core.payload import PayloadManager

        from .fast_paths import HistoryManager
        from .tracebacks import CellErrors

        self.user_ns = SubshellNames(shell.user_module.__dict__)
        self.execution_count = 1
        self.errors = CellErrors()
        self.runs_synchronously = False
        self.last_execution_succeeded = True
        self.last_execution_result: Any = None
        self.payload_manager = PayloadManager(parent=shell)
        self.history_manager = history = HistoryManager(shell=shell, parent=shell, enabled=False)
        history.outputs = type(history.outputs)(list)
        history.get_tail = partial(_tail, history)
        for names, value in (
            ("_ih In", history.input_hist_parsed),
            ("_oh Out", history.output_hist),
        ):
            for name in names.split():
                self.user_ns[name] = value
        hidden = shell.user_ns_hidden.copy()  # at once: the main shell's cells write there
        hidden = {name: value for name, value in hidden.items() if not _is_of_session(name)}
        self.user_ns_hidden = {**hidden, **self.user_ns.own}
        self.compile = compiler = shell.compiler_class()
        vars(compiler).update(
            {name: value for name, value in vars(shell.compile).items() if name == "_filename_map"}
        )
        self.displayhook: Any = None


def _tail(
    history: Any,
    n: int | None = 10,
    raw: bool = True,
    output: bool = False,
    include_latest: bool = False,
) -> list[Any]:
    """The last cells of a subshell, which are not in IPython's database."""
    end = len(history.input_hist_parsed) - (not include_latest)
    count = 10 if n is None else n
    return list(history.get_range(0, max(1, end - count), end, raw, output)) if end > 1 else []


_OWN = (
    "user_ns",
    "user_ns_hidden",
    "execution_count",
    "errors",
    "runs_synchronously",
    "last_execution_succeeded",
    "last_execution_result",
    "payload_manager",
    "history_manager",
    "compile",
    "displayhook",
)


class _OfSubshell:
    """An attribute that is looked up by the calling code's subshell; ``main`` is what stands in the
    class for the main shell's.
    """

    def __init__(
        self, name: str, main: Any, states: WeakKeyDictionary[SubshellKey, _State]
    ) -> None:
        self._name = name
        self._main = main
        self._states = states

    def _state(self) -> _State | None:
        subshell = current_subshell.get()
        return None if subshell is None else self._states.get(subshell.key)

    def __get__(self, shell: Any, owner: type | None = None) -> Any:
        if shell is None:
            return self
        state = self._state()
        if state is not None:
            return getattr(state, self._name)
        if hasattr(self._main, "__set__"):
            return self._main.__get__(shell, owner)
        return vars(shell).get(self._name, self._main)

    def __set__(self, shell: Any, value: Any) -> None:
        state = self._state()
        if state is not None:
            setattr(state, self._name, value)
        elif hasattr(self._main, "__set__"):
            self._main.__set__(shell, value)
        else:
            vars(shell)[self._name] = value


def enter_subshell(shell: Any, at_end: ExitStack) -> None:
    """The calling code is a subshell's, which begins: have ``shell`` know it. ``at_end`` is closed
    when the kernel ends.
    """
    subshell = current_subshell.get()
    states = getattr(type(shell), "subshell_states", None)
    if states is None:
        states = _have_subshells(shell, at_end)
    if subshell is None or subshell.key in states:
        return  # its loop is a new one
    state = _State(shell)
    states[subshell.key] = state
    hook = shell.displayhook_class(shell=shell, parent=shell, cache_size=shell.cache_size)
    state.displayhook = hook


def _have_subshells(shell: Any, at_end: ExitStack) -> WeakKeyDictionary[SubshellKey, _State]:
    """Make it a shell that has them."""
    cls, states = type(shell), WeakKeyDictionary[SubshellKey, _State]()
    members: dict[str, Any] = {"__module__": cls.__module__, "subshell_states": states}
    for name in _OWN:
        main = next((vars(one)[name] for one in cls.__mro__ if name in vars(one)), None)
        members[name] = _OfSubshell(name, main, states)
    members["__qualname__"] = cls.__qualname__
    find = ref(shell)

    def show(value: object = None) -> None:
        found = find()
        if found is not None:
            found.displayhook(value)

    trap = shell.display_trap
    if trap.hook is shell.displayhook:
        trap.hook = show
    shell.__class__ = new_class(cls.__name__, (cls,), {}, lambda body: body.update(members))
    shell.builtin_trap.__enter__()  # cells that end beside each other must not undo it, nor that
    at_end.callback(_undo_for_good, shell.builtin_trap)
    at_end.enter_context(trap)
    return states


def _undo_for_good(trap: Any) -> None:
    """The kernel ends: a cell that is left behind, and ends later, must not undo what another shell
    of this process has set by then.
    """
    trap.deactivate()
    trap.deactivate = lambda: None
