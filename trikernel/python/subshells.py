"""What each subshell has for itself of IPython's shell: cell numbers, history, results, errors.

What is wanted: one shell, with its magics, extensions and formatters, for all subshells; but each
subshell counts, remembers and shows its own cells. What does not work: a shell for each, because
magics that are registered in one would not exist in the others; one shell for all without more, in
which cells of different subshells would mix their numbers and results.

What is done: when the first subshell begins, the class of the shell is replaced by a subclass of
the same name. In it the attributes of `_OWN` are descriptors that look up the value of the calling
code's subshell. Without subshells attribute access costs nothing more. The names that IPython keeps
for a session (``In``, ``Out``, ``_``, ``_i`` and so on) hide those in the shared namespace; all
other names that a cell binds are in the shared namespace.

What remains: a function that a cell defines finds the ``In``, ``Out`` and ``_`` of the main shell,
because its globals are the shared namespace. The history of a subshell is not written to the disk.
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
    """The namespace of a subshell's cells: the shared one, with the session's own names on top.

    It is a `dict` only by its class, because Python takes nothing else as the globals of code; its
    own dictionary stays empty.
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
        """A plain dictionary of all names that a cell of the subshell sees."""
        return {**self._shared, **self.own}


class _State:
    """A subshell's values of the attributes in `_OWN`."""

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
        hidden = shell.user_ns_hidden.copy()  # one step, because cells in other threads change it
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
    """`HistoryManager.get_tail` of a subshell: its cells are only in memory."""
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
    """An attribute whose value depends on the subshell of the calling code. ``main`` is what the
    class has under that name, and serves the main shell.
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
    """Give the subshell of the calling code, which begins, its own values in ``shell``.

    ``at_end`` is closed when the kernel ends.
    """
    subshell = current_subshell.get()
    states = getattr(type(shell), "subshell_states", None)
    if states is None:
        states = _have_subshells(shell, at_end)
    if subshell is None or subshell.key in states:
        return  # a known subshell whose loop was replaced by a new one
    state = _State(shell)
    states[subshell.key] = state
    hook = shell.displayhook_class(shell=shell, parent=shell, cache_size=shell.cache_size)
    state.displayhook = hook


def _have_subshells(shell: Any, at_end: ExitStack) -> WeakKeyDictionary[SubshellKey, _State]:
    """Replace the class of the shell by one whose attributes depend on the subshell."""
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
    # Entered once for all cells: these run at the same time, and one that ends must undo neither
    # this trap nor the display trap.
    shell.builtin_trap.__enter__()
    at_end.callback(_undo_for_good, shell.builtin_trap)
    at_end.enter_context(trap)
    return states


def _undo_for_good(trap: Any) -> None:
    """Deactivate the trap when the kernel ends, and never again: a cell that was left behind may
    end later, and must not undo what another shell of this process has set by then.
    """
    trap.deactivate()
    trap.deactivate = lambda: None
