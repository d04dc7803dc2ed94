"""What Python kernels replace in the process that they live in, and put back: its one owner.

While at least one Python kernel is served, in memory too:

===============================================  ==================================================
name                                             what stands there
===============================================  ==================================================
``sys.stdout``, ``sys.stderr``                   text of a cell goes to its kernel
``input``, ``getpass.getpass``                   a cell asks by its kernel
``threading.Thread.start``,                      a thread keeps the request that started it
``ThreadPoolExecutor.submit``
``comm.create_comm``, ``comm.get_comm_manager``  widgets of a cell belong to its kernel
``InteractiveShell``'s instance                  `get_ipython` finds the shell that was served last
``trio.run``, ``sniffio.current_async_library``  their code: `nested_runs`
``GLOBAL_NURSERY``                               ipykernel's name for the background nursery
``display``, ``get_ipython``, ``__IPYTHON__``    IPython puts them among the builtins
``sys.ps1``, ``sys.ps2``, ``sys.ps3``            IPython says by these that it is interactive
===============================================  ==================================================

Each of the functions asks the calling context whose cell it runs in; code that runs in none gets
what it got before. What was there before comes back when the last kernel ends, in whatever order
they end, unless somebody else has put something in its place since: that stays. Whoever has kept
one of ours (a logging handler, a library that wraps `sys.stdout`) goes on with what it stood in
for.

A kernel that has the process to itself takes more: see `OwnProcess`.
"""

from __future__ import annotations

import builtins
import contextvars
import getpass
import importlib
import inspect
import os
import pdb
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import FunctionType, ModuleType
from typing import Any

import comm

from ..core import BackgroundNursery, current_request
from ..errors import TrikernelError
from ..kernel import Sender
from ..system import on_fork, with_working_folder
from .fd_capture import FdCapture
from .global_nursery import GlobalNursery
from .nested_runs import runs
from .streams import OutStream, carrying_start, carrying_submit

__all__ = ["ENVIRONMENT", "OwnProcess", "Replacements", "served"]

# Colours yes, pagers no: for the programs that cells start. And plots in the notebook.
ENVIRONMENT = {
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
_SHELL_MODULE = "ipykernel.zmqshell"
_MISSING: Any = object()
_PROMPTS = ("ps1", "ps2", "ps3")
_BUILTINS = ("display", "get_ipython", "exit", "quit", "__IPYTHON__")


class Replacements:
    """Attributes and keys that are replaced, until `undo` puts them back, the last one first."""

    def __init__(self) -> None:
        self._undo = ExitStack()

    def replace(self, owner: Any, name: str, value: Any) -> Any:
        """Put ``value`` there; what was there before. `undo` leaves what is another's by then."""
        before = _get(owner, name)

        def put_back() -> None:
            if _get(owner, name) is value:
                _put(owner, name, before)

        self._undo.callback(put_back)
        _put(owner, name, value)
        return before

    def replace_code(self, function: FunctionType, replacement: FunctionType) -> FunctionType:
        """Have ``function``, under whatever names it is kept, do what ``replacement`` does.

        The replacement runs in the namespace of ``function``. Returns what ``function`` was.
        """
        before, code = function.__code__, replacement.__code__
        original = FunctionType(
            before, function.__globals__, function.__name__, function.__defaults__
        )
        original.__kwdefaults__ = function.__kwdefaults__
        signature = inspect.signature(function)

        def put_back() -> None:
            if function.__code__ is code:
                function.__code__ = before
                del vars(function)["__signature__"]

        self._undo.callback(put_back)
        function.__code__ = code
        vars(function)["__signature__"] = signature
        return original

    def keep(self, owner: Any, *names: str) -> None:
        """Have `undo` put these back as they are now, whatever becomes of them."""
        for name in names:
            self._undo.callback(_put, owner, name, _get(owner, name))

    def callback(self, function: Callable[[], object]) -> None:
        """Have `undo` call this in its turn."""
        self._undo.callback(function)

    def undo(self) -> None:
        """Put everything back. What one of the calls raises is raised once all are done."""
        self._undo.close()


def _get(owner: Any, name: str) -> Any:
    """An attribute of its own, or a key; `_MISSING` if there is none."""
    return (owner if isinstance(owner, MutableMapping) else vars(owner)).get(name, _MISSING)


def _put(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, MutableMapping):
        if value is _MISSING:
            owner.pop(name, None)
        else:
            owner[name] = value
    elif value is not _MISSING:
        setattr(owner, name, value)
    elif name in vars(owner):
        delattr(owner, name)


def become_instance(shell: Any) -> None:
    """Have ``get_ipython()`` and ``display()`` find this shell, unless there is one already."""
    if not type(shell).initialized():
        for cls in type(shell)._walk_mro():
            cls._instance = shell


def resign(shell: Any) -> bool:
    """Have them find it no longer; whether it was the one."""
    cls = type(shell)
    if cls.initialized() and cls._instance is shell:
        cls.clear_instance()
        return True
    return False


class _Served:
    """The Python kernels that are served in this process, and what is replaced meanwhile.

    There is one, `served`. What it puts somewhere knows it by that name and does not hold it.
    """

    def __init__(self) -> None:
        self._kernels: list[Any] = []
        self._replaced, self._kept = Replacements(), Replacements()
        self._streams: list[OutStream] = []
        self._create_comm: Callable[..., Any] | None = None
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: text goes to the process's own streams.

        What IPython has put somewhere stays: a cell of the child may be running.
        """
        for stream in self._streams:  # a logging handler may hold one
            stream.forget()
        if self._kernels:
            is_cell = self.kernel() is not None
            self._kernels.clear()
            self._replaced.undo()
            if is_cell:
                runs.replace_in_child(Replacements().replace_code)
            sys.stdout = getattr(sys, "__stdout__", None)
            sys.stderr = getattr(sys, "__stderr__", None)

    def kernel(self) -> Any:
        """The kernel that the calling code runs for, or None."""
        request = current_request.get()
        if request is not None:
            called = request.application
            for kernel in self._kernels:
                if kernel is called:
                    return kernel
        last = self._kernels[-1] if self._kernels else None
        return last if last is not None and last.owns_process else None

    def add(self, kernel: Any) -> None:
        """This one is served, too, if it is not already. Makes its shell."""
        if kernel in self._kernels:
            return
        if not self._kernels:
            self._replaced, self._kept = Replacements(), Replacements()
            self._kept.keep(builtins.__dict__, *_BUILTINS)
            self._kept.keep(sys.__dict__, *_PROMPTS)
            self._replace()
        self._kernels.append(kernel)
        become_instance(kernel.shell)

    def remove(self, kernel: Any) -> None:
        """No longer this one; the last one puts everything back."""
        if kernel not in self._kernels:
            return
        self._kernels.remove(kernel)
        if resign(kernel.shell) and self._kernels:
            become_instance(self._kernels[-1].shell)
        if not self._kernels:
            self._replaced.undo()
            self._kept.undo()

    def retake_comms(self) -> None:
        """Again: importing ipykernel's own kernel puts its comms in place."""
        if comm.create_comm is not self._create_comm:
            self._replace_comms()

    def _replace(self) -> None:
        replace = self._replaced.replace
        streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        self._streams = [OutStream(name, old, _sender) for name, old in streams.items()]
        for name, stream in zip(streams, self._streams, strict=True):
            replace(sys, name, stream)
        replace(builtins, "input", _asking(builtins.input))
        replace(builtins, "GLOBAL_NURSERY", GlobalNursery(_nursery))
        replace(getpass, "getpass", _asking_password(getpass.getpass))
        replace(threading.Thread, "start", carrying_start(threading.Thread.start))
        replace(ThreadPoolExecutor, "submit", carrying_submit(ThreadPoolExecutor.submit))
        runs.replace(self._replaced.replace_code, self.kernel)
        self._replace_comms()

    def _replace_comms(self) -> None:
        replace = self._replaced.replace
        self._create_comm = _creating(comm.create_comm)
        replace(comm, "create_comm", self._create_comm)
        replace(comm, "get_comm_manager", _finding_manager(comm.get_comm_manager))


served = _Served()


def _sender() -> Sender | None:
    """The sender of the kernel that the calling code runs for."""
    kernel = served.kernel()
    return kernel.sender if kernel is not None else None


def _nursery() -> BackgroundNursery:
    """The background nursery of the kernel that the calling code runs for."""
    kernel = served.kernel()
    if kernel is None:
        raise TrikernelError("GLOBAL_NURSERY works in a cell of a trikernel Python kernel only")
    nursery: BackgroundNursery = kernel.nursery
    return nursery


def _asking(original: Callable[..., str]) -> Callable[..., str]:
    def input(prompt: object = "", /) -> str:
        """Ask the person at the frontend."""
        kernel = served.kernel()
        return str(original(prompt) if kernel is None else kernel.raw_input(str(prompt)))

    return input


def _asking_password(original: Callable[..., str]) -> Callable[..., str]:
    def getpass(prompt: str = "Password: ", stream: Any = None) -> str:
        """Ask the person at the frontend, without showing what is typed."""
        kernel = served.kernel()
        return str((original if kernel is None else kernel.getpass)(prompt, stream))

    return getpass


def _creating(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_comm(*args: Any, **kwargs: Any) -> Any:
        """Create a comm of the kernel whose cell asks."""
        kernel = served.kernel()
        return (original if kernel is None else kernel.comm_manager.create)(*args, **kwargs)

    return create_comm


def _finding_manager(original: Callable[[], Any]) -> Callable[[], Any]:
    def get_comm_manager() -> Any:
        """The comms of the kernel whose cell asks."""
        kernel = served.kernel()
        return original() if kernel is None else kernel.comm_manager

    return get_comm_manager


class OwnProcess:
    """What a kernel takes that has the process to itself: from its creation to `stop`.

    The environment of `ENVIRONMENT`, ``__main__``, ``sys.path``, `pdb`, descriptors 1 and 2, and
    the name of ipykernel's shell among the modules. ``profile`` is the person's IPython.
    """

    def __init__(self, profile: Any) -> None:
        self.profile = profile
        self._replaced = Replacements()
        self._capture: FdCapture | None = None
        keep = self._replaced.keep
        keep(sys.modules, "__main__", _SHELL_MODULE)
        keep(pdb.__dict__, "Pdb", "set_trace")
        keep(sys.__dict__, "path", "displayhook", "excepthook", *_PROMPTS)
        if not profile.ignore_cwd:
            sys.path = with_working_folder(sys.path)
        missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
        keep(os.environ, *missing)
        os.environ.update(missing)

    def start(self, shell: Any, sender: Sender) -> None:
        """Begin. The person's startup files run here."""
        from . import debugger

        if sys.platform != "win32" and self.profile.capture_fd_output:
            iopub = sender.connection.iopub
            nobody = contextvars.Context()

            def write(name: str, text: str) -> None:
                iopub.write(nobody.copy().run(sender.text_key, name), text)

            self._capture = FdCapture(write, lambda: iopub.wait_until_not_full())
            self._capture.install()
            self._replaced.callback(self._capture.restore)
        if _SHELL_MODULE not in sys.modules:
            sys.modules[_SHELL_MODULE] = _shell_module(type(shell))
        debugger.install()
        self.profile.start_in(shell)

    def tasks(self) -> list[Callable[[], Awaitable[None]]]:
        """What has to run in the service loop, once `start` was called."""
        return [self._capture.run] if self._capture is not None else []

    def collect(self) -> None:
        """Read what programs and C code have written so far."""
        if self._capture is not None:
            self._capture.collect()

    def stop(self) -> None:
        """Put everything back."""
        self._replaced.undo()


def _shell_module(shell_class: type) -> ModuleType:
    """What libraries look for to tell a notebook, as tqdm does: ipykernel's shell.

    They look whether that module is loaded, or whether the shell is of its class. ipykernel need
    not be installed; where it is, everything but that class is its own.
    """
    module = ModuleType(_SHELL_MODULE, "The shell of this kernel, which is not ipykernel.")
    module.__spec__ = ModuleSpec(_SHELL_MODULE, None)

    def load(name: str) -> Any:
        try:
            package = importlib.import_module("ipykernel")
            spec = PathFinder.find_spec(_SHELL_MODULE, package.__path__)
        except ImportError:
            spec = None
        if spec is None or spec.loader is None or name.startswith("__"):
            raise AttributeError(f"module {_SHELL_MODULE!r} has no attribute {name!r}")
        real = module_from_spec(spec)
        spec.loader.exec_module(real)
        return getattr(real, name)

    vars(module).update({"ZMQInteractiveShell": shell_class, "__getattr__": load})
    return module
