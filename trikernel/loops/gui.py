"""Loops of window systems, which handle their events in turns that Trio's loop gives them.

What is wanted
    A window reacts while the kernel is idle and while a cell awaits, within some 10 ms. Cells run
    no slower because a window is open.

What does not work
    To run the window system's loop while nothing else runs, as ipykernel does: a window does not
    react while a cell waits, and a notebook that is run as a whole hangs in that loop. To have Trio
    be a guest of that loop (`trio.lowlevel.start_guest_run`): Trio waits in a thread then, so every
    cell, also without a window, would pay two changes of thread each time that it waits; an
    interrupt would have to pass through the other loop; and that loop would have to be chosen
    before the kernel starts.

What is done
    Every ``interval`` seconds a Trio task has the window system handle the events that have come,
    without waiting. Window systems do not tell in Python which descriptor would wake them, so they
    are polled. First it is checked whether there is a display. For Qt this is done in a process of
    its own, as Qt ends the process if it finds none. PyQt also ends the process when a slot raises
    while `sys.excepthook` is Python's own; so a hook is set that reports the error.

    A cell may run a loop of the window system itself (``mainloop()``, ``exec()``, ``Gtk.main()``),
    and an interrupt has to end it. While no Python code runs there, Python handles no signals, so a
    timer wakes such a loop now and then. What is raised in a callback never reaches the cell, as C
    code is in between, which hands it to `sys.excepthook`: the hook ends the loop, and has the cell
    interrupted once more.

What remains
    While a cell computes, windows do not react. A dialog that runs a loop of its own (``exec()``)
    holds up the kernel until it is closed. macOS' own loop has not been tried.
"""

from __future__ import annotations

import importlib
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..core import call_unprotected, current_request, is_cancel
from ..errors import CellStopped, UsageError

__all__ = ["GUIS", "Windows", "follow_gui", "open_gui", "report_uncaught"]

_QT = ("PyQt6", "PySide6", "PyQt5", "PySide2")
_QT_OF = {"qt6": _QT[:2], "qt5": _QT[2:]}
_NO_WINDOWS = ("offscreen", "minimal", "vnc", "linuxfb")  # Qt platforms that need no display
_PROBE = "import {0}.QtWidgets as q, sys; q.QApplication(sys.argv[:1])"
_PROBE_SECONDS = 20
_TK_DONT_WAIT = 2  # the value of Tcl's TCL_DONT_WAIT
_MOST = 500  # events in one turn

# In milliseconds. After so long without a turn, a cell is taken to run a window system's loop by
# itself (``mainloop()``, ``exec()``); and how often Tk's is woken then, to hear Python's signals.
_HELD, _AWAKE = 300, 100
_TK_AWAKE = "trikernel_awake"
_kept: list[object] = []  # references to applications, whose windows would end with them

_LIVELY = 0.1  # seconds after an event in which turns come more often

Turn = Callable[[], bool]


@attrs.frozen
class Windows:
    """A window system. ``turn`` handles the events that have come, and returns whether there was
    one. ``quit`` ends the loops that the calling code has been called from.
    """

    turn: Turn
    quit: Callable[[], object] = lambda: None


@enable_ki_protection
async def follow_gui(
    turn: Turn, interval: float, report: Callable[[BaseException], object]
) -> None:
    """Call ``turn`` again and again until cancelled; what it raises is given to ``report``.

    ``turn`` returns whether there was an event. For a short time after an event turns come every
    ``interval`` seconds, else at twice that interval.
    """
    lively_until = -math.inf
    while True:
        happened = False
        try:
            happened = call_unprotected(turn)
        except BaseException as raised:
            if is_cancel(raised):
                raise
            report(raised)
        now = trio.current_time()
        if happened:
            lively_until = now + _LIVELY
        await trio.sleep(interval if now < lively_until else 2 * interval)


def report_uncaught(
    report: Callable[[BaseException], object], interrupt_again: Callable[[], bool]
) -> Callable[[], None]:
    """Have the errors of callbacks reported, unless another `sys.excepthook` is set already.
    Returns a function that undoes it.

    ``interrupt_again`` is called for an interrupt that was raised in a callback. It returns False
    if the callback was not called from a cell: then the interrupt is reported, too.
    """
    before = sys.excepthook
    if before is not sys.__excepthook__:
        return lambda: None

    @enable_ki_protection
    def hook(kind: type[BaseException], error: BaseException, tb: Any) -> None:
        if not (isinstance(error, (KeyboardInterrupt, CellStopped)) and interrupt_again()):
            report(error.with_traceback(tb))

    def undo() -> None:
        if sys.excepthook is hook:
            sys.excepthook = before

    sys.excepthook = hook
    return undo


def open_gui(name: str) -> Windows:
    """The window system of that name. Raises `UsageError` if it is not installed or cannot start
    here.
    """
    opener = GUIS[name]
    try:
        return opener(name)
    except ImportError as error:
        raise UsageError(f"%gui {name}: {error}; it has to be installed") from None


# Whether there is a display


def _check_display(name: str) -> None:
    """Raise `UsageError` if there is no display that answers, on systems where X shows windows."""
    if sys.platform in ("win32", "darwin") or os.environ.get("WAYLAND_DISPLAY"):
        return
    display = os.environ.get("DISPLAY", "")
    if not display:
        raise UsageError(f"%gui {name}: there is no display (neither DISPLAY nor WAYLAND_DISPLAY)")
    if not _answers(display):
        raise UsageError(f"%gui {name}: the display {display} does not answer")


def _answers(display: str) -> bool:
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    if host not in ("", "unix"):
        with suppress(OSError), socket.create_connection((host, 6000 + int(number)), timeout=3):
            return True
        return False
    if sys.platform != "win32":
        path = f"/tmp/.X11-unix/X{number}"
        for address in (path, "\0" + path):
            with suppress(OSError), socket.socket(socket.AF_UNIX) as one:
                one.connect(address)
                return True
    return False


# The window systems


def _until_none(handle_one: Callable[[], object]) -> bool:
    """Call ``handle_one`` until it has no more events; returns whether there was one."""
    number = 0
    while number < _MOST and handle_one():
        number += 1
    return number > 0


def _open_tk(name: str) -> Windows:
    import tkinter

    _check_display(name)
    # A Tcl interpreter without windows: it handles the events of all interpreters of this thread.
    interpreter: Any = tkinter.Tcl().tk
    interpreter.eval(f"proc {_TK_AWAKE} {{}} {{after {_AWAKE} {_TK_AWAKE}}}")

    def turn() -> bool:
        interpreter.call("after", "cancel", _TK_AWAKE)
        happened = _until_none(partial(interpreter.dooneevent, _TK_DONT_WAIT))
        # A mainloop() that a cell runs is woken by this, so that Python can handle an interrupt.
        interpreter.call("after", _HELD, _TK_AWAKE)
        return happened

    return Windows(turn)


def _open_qt(name: str) -> Windows:
    package = _find_qt(name)
    widgets = importlib.import_module(f"{package}.QtWidgets")
    core = importlib.import_module(f"{package}.QtCore")
    app = widgets.QApplication.instance()
    if app is None:
        _check_qt(name, package)
        app = widgets.QApplication(sys.argv[:1] or ["trikernel"])
        app.setQuitOnLastWindowClosed(False)  # Qt's quit would also end the next dialog's loop
        app.lastWindowClosed.connect(core.QCoreApplication.quit)  # emitted only within app.exec()
    flags: Any = getattr(core.QEventLoop, "ProcessEventsFlag", core.QEventLoop).AllEvents
    dispatcher = core.QAbstractEventDispatcher.instance()
    deletion: Any = getattr(core.QEvent, "Type", core.QEvent).DeferredDelete
    deletion = getattr(deletion, "value", deletion)
    held = core.QTimer()
    held.setInterval(_HELD)
    held.timeout.connect(partial(_exit_if_stopped, core.QCoreApplication.exit))
    _kept.append(app)

    def turn() -> bool:
        held.start()
        happened = bool(dispatcher.processEvents(flags))
        app.sendPostedEvents(None, deletion)
        return happened

    return Windows(turn, core.QCoreApplication.exit)


@enable_ki_protection
def _exit_if_stopped(exit_loops: Callable[[], object]) -> bool:
    """Called by a timer in a loop that a cell runs by itself (``exec()``). As this is Python code,
    signal handlers run here. If the cell is to stop, the loops that it runs are ended. Returns
    True, for a timer to go on.
    """
    request = current_request.get()
    if request is not None and request.stop_reason is not None and not request.finished:
        exit_loops()
    return True


def _find_qt(name: str) -> str:
    """The Qt package to use: one that is imported already, else the one that the environment
    variable QT_API names, else one that is installed. Raises `ImportError`.
    """
    wanted = _QT_OF.get(name, _QT)
    chosen = [one for one in wanted if one.lower() == os.environ.get("QT_API", "").lower()]
    imported = [one for one in wanted if f"{one}.QtCore" in sys.modules]
    for package in (*imported, *chosen, *wanted):
        with suppress(ImportError):
            importlib.import_module(f"{package}.QtWidgets")
            return str(package)
    raise ImportError(f"none of {', '.join(wanted)} can be imported")


def _check_qt(name: str, package: str) -> None:
    """Raise `UsageError` if Qt cannot start here. It is tried in another process, because Qt ends
    the process if it finds no display, or not all of its own libraries.
    """
    if os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0] in _NO_WINDOWS:
        return
    _check_display(name)
    command = [sys.executable, "-c", _PROBE.format(package)]
    probe = subprocess.run(
        command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
    )
    if probe.returncode:
        said = [line for line in probe.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise UsageError(f"%gui {name}: Qt cannot start here: {said[0]}")


def _open_gtk(name: str) -> Windows:
    gi = importlib.import_module("gi")
    _check_display(name)
    for version in ("4.0",) if name == "gtk4" else ("3.0",) if name == "gtk3" else ("3.0", "4.0"):
        with suppress(ValueError):
            gi.require_version("Gtk", version)
            break
    gtk = importlib.import_module("gi.repository.Gtk")
    glib = importlib.import_module("gi.repository.GLib")
    if gtk.init_check() in (False, None) or gtk.init_check() == (False, None):
        raise UsageError(f"%gui {name}: GTK cannot start here")
    helper: Any = importlib.import_module("gi._ossighelper")
    # Else PyGObject wakes such a loop itself, by a callback of its own, and the interrupt is raised
    # in there, where C code drops it.
    helper._wakeup_fd_is_active = True
    quit_loops = partial(_quit_gtk, gtk)
    wake, iterate = partial(_exit_if_stopped, quit_loops), glib.MainContext.default().iteration
    held: list[int] = []

    def turn() -> bool:
        if held:
            glib.source_remove(held.pop())
        happened = _until_none(partial(iterate, False))
        held.append(glib.timeout_add(_HELD, wake))
        return happened

    return Windows(turn, quit_loops)


def _quit_gtk(gtk: Any) -> None:
    """GTK does not tell which loops run. But the methods that run them are Python code."""
    gio, glib = (importlib.import_module(f"gi.repository.{name}") for name in ("Gio", "GLib"))
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, (glib.MainLoop, gio.Application)):
            owner.quit()
        elif isinstance(owner, gtk.Dialog):
            owner.destroy()
        frame = frame.f_back
    if hasattr(gtk, "main_level") and gtk.main_level():  # GTK 3
        gtk.main_quit()


def _open_wx(name: str) -> Windows:
    wx = importlib.import_module("wx")
    _check_display(name)
    try:
        app = wx.GetApp() or wx.App(redirect=False)
    except SystemExit as error:  # so wx says that the display has gone, or refuses
        raise UsageError(f"%gui {name}: wx cannot start here: {error}") from None
    loop = wx.GUIEventLoop()

    def dispatch() -> bool:
        is_pending = bool(loop.Pending())
        if is_pending:
            loop.Dispatch()  # returns False where no main loop runs, also after an event
        return is_pending

    held = wx.Timer(app)
    app.Bind(wx.EVT_TIMER, lambda event: _exit_if_stopped(app.ExitMainLoop), held)
    _kept.append(app)

    def turn() -> bool:
        held.Start(_HELD)
        with wx.EventLoopActivator(loop):
            happened = _until_none(dispatch)
            app.ProcessIdle()
        return happened

    return Windows(turn, app.ExitMainLoop)


def _open_osx(name: str) -> Windows:
    """By the hook of IPython's terminal, which runs the loop of macOS until there is input: it is
    told that there is input already, so it returns at once.
    """
    if sys.platform != "darwin":
        raise UsageError(f"%gui {name}: only macOS has that")
    hook = importlib.import_module("IPython.terminal.pt_inputhooks.osx").inputhook
    readable, writable = os.pipe()
    os.write(writable, b"x")

    class Context:
        """What the hook needs to know of the input."""

        def fileno(self) -> int:
            """A descriptor that is readable."""
            return readable

        def input_is_ready(self) -> bool:
            """Always true."""
            return True

        _input_is_ready = staticmethod(lambda wait=False: True)

    def turn() -> bool:
        hook(Context())
        return False

    return Windows(turn)


GUIS: dict[str, Callable[[str], Windows]] = {
    "tk": _open_tk,
    **dict.fromkeys(("qt", "qt5", "qt6"), _open_qt),
    **dict.fromkeys(("gtk", "gtk3", "gtk4"), _open_gtk),
    "wx": _open_wx,
    "osx": _open_osx,
}
"""For each name that ``%gui`` takes, what opens its window system."""
