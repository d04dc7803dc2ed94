"""The command line of an engine: to which controller it connects, with which number, and what it
runs at its start.

It takes the flags of ``ipengine`` that have a meaning here, by their short and their long names,
and reads ``ipengine_config.py`` in the profile's folder. All other flags are passed to the kernel,
as IPython's flags are.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from ..errors import ConnectionFileError, SettingError, UsageError
from ..kernel import log_to_stderr, run_over
from ..system import end_within, report_crash, run_to_the_end
from ..transport import Controller, EngineTransport, Transport, read_controller
from .light import import_serializer
from .registrar import Registered, Registrar
from .watcher import Watcher

__all__ = ["Options", "find_controller", "main", "read_options"]

_log = logging.getLogger("trikernel")

_NAMES = {
    "file": "url_file",
    "c": "startup_command",
    "s": "startup_script",
    "profile-dir": "profile_dir",
    "ipython-dir": "ipython_dir",
    "cluster-id": "cluster_id",
    "log-level": "log_level",
    "work-dir": "work_dir",
}
_HELP = """\
usage: python -m trikernel.engine [--file FILE] [MORE ...]

An engine of the ipyparallel controller whose file is FILE, or which the profile names.

  --file FILE           what the controller has written: ipcontroller-engine.json
  --profile NAME, --profile-dir DIR, --ipython-dir DIR, --cluster-id ID
                        where it is found if no file is named
  --timeout SECONDS     how long a registration may take (default: 5)
  --id N                the number to ask for
  --location ADDRESS    where the controller's machine is reached, if not as the file says
  -c CODE, -s FILE      what is run first
  --mpi                 take the number from MPI's rank
  --work-dir DIR        where it works
  --log-level LEVEL     DEBUG, INFO (the default), WARNING, ERROR

Other flags are IPython's. ipengine_config.py in the profile's folder is read, too.
"""
_OWNERS = ("IPEngine.", "BaseParallelApplication.", "ProfileDir.", "Application.")
_LEVELS = {"0": "DEBUG", "10": "DEBUG", "20": "INFO", "30": "WARNING", "40": "ERROR"}
_TOLD = "IPP_CONNECTION_INFO"
_GRACE = 10.0  # seconds within which the process must exit when its kernel has ended
MOST = 1 << 40  # bytes: no bound of ours, the controller and the machine bound the size of a call
MERGED = 1 << 20  # characters in one stream message: a client copies its whole text for each one


@attrs.define
class Options:
    """The options of a command line and a profile; ``ipengine --help-all`` describes each.

    ``others`` are the flags for the kernel.
    """

    url_file: str = ""
    profile: str = "default"
    profile_dir: str = ""
    ipython_dir: str = ""
    cluster_id: str = ""
    work_dir: str = ""
    log_level: str = "INFO"
    location: str = ""
    startup_command: str = ""
    startup_script: str = ""
    id: int | None = None
    timeout: float = 5.0
    wait_for_url_file: float = 10.0
    max_heartbeat_misses: int = 50
    use_mpi: bool = False
    others: list[str] = attrs.field(factory=list)

    @property
    def folder(self) -> Path:
        """The profile's folder."""
        if self.profile_dir:
            return Path(self.profile_dir).expanduser()
        home = self.ipython_dir or os.environ.get("IPYTHONDIR") or "~/.ipython"
        return Path(home).expanduser() / f"profile_{self.profile}"

    @property
    def connection_file(self) -> Path:
        """The file in which the controller has written its addresses."""
        if self.url_file:
            return Path(self.url_file).expanduser()
        cluster = f"-{self.cluster_id}" if self.cluster_id else ""
        return self.folder / "security" / f"ipcontroller{cluster}-engine.json"

    def set(self, name: str, value: Any) -> None:
        """Set an option from text or from a configuration file. Raises `SettingError`."""
        kind = {"id": int, "timeout": float, "wait_for_url_file": float}.get(name)
        kind = int if name == "max_heartbeat_misses" else kind
        if name == "use_mpi":
            value = value in (True, "True", "true", "1")
        try:
            setattr(self, name, kind(value) if kind and value is not None else value)
        except (TypeError, ValueError):
            raise SettingError(f"--{name}: {value!r:.80} is no number") from None


def read_options(argv: Sequence[str]) -> Options:
    """The options of a command line; those that it does not give, from the profile's
    ``ipengine_config.py``.

    Raises `SettingError` for a value of a wrong type.
    """
    options = Options(
        profile_dir=os.environ.get("IPP_PROFILE_DIR", ""),
        cluster_id=os.environ.get("IPP_CLUSTER_ID", ""),
    )
    given = set()
    words = list(argv)
    while words:
        word = words.pop(0)
        name, separator, value = word.lstrip("-").partition("=")
        for owner in _OWNERS:
            name = name.removeprefix(owner)
        name = "profile_dir" if word.lstrip("-").startswith("ProfileDir.location") else name
        name = _NAMES.get(name, name)
        if not word.startswith("-") or not (name in _FIELDS or name in ("debug", "mpi")):
            options.others.append(word)
            continue
        if name == "debug":
            name, value = "log_level", "DEBUG"
        elif name == "mpi":
            name, value = "use_mpi", "True"
        elif not separator:
            value = words.pop(0) if words else ""
        options.set(name, value)
        given.add(name)
    config = options.folder / "ipengine_config.py"
    if config.exists():
        _read_config(config, options, given)
    return options


_FIELDS = {field.name for field in attrs.fields(Options)} - {"others"}


def _read_config(path: Path, options: Options, given: set[str]) -> None:
    """Set the options that a configuration file has, but not those in ``given``."""
    from traitlets.config.loader import PyFileConfigLoader

    config = PyFileConfigLoader(path.name, str(path.parent)).load_config()
    for name, value in config.get("IPEngine", {}).items():
        if name in _FIELDS - given:
            options.set(name, value)


def main(watcher: Watcher | None = None, argv: Sequence[str] | None = None) -> None:
    """Run an engine in this process until it ends, and with it the process.

    For an error that the user can correct, exits with code 1 and one line on stderr.
    """
    watcher = watcher or Watcher()
    arguments = sys.argv[1:] if argv is None else argv
    if not {"-h", "--help", "--help-all"}.isdisjoint(arguments):
        watcher.dismiss()
        print(_HELP, end="")
        return
    try:
        options = read_options(arguments)
        log_to_stderr(_LEVELS.get(options.log_level, options.log_level))
        if options.work_dir:
            os.chdir(options.work_dir)
        import_serializer()
        run_to_the_end(partial(_run, options, watcher), _GRACE, report_crash)
    except (UsageError, ImportError, OSError) as error:
        watcher.dismiss()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _run(options: Options, watcher: Watcher) -> None:
    """Register, and import the kernel's modules after that, while the controller waits for the
    first heartbeats.
    """
    controller = find_controller(options)
    _say_security(controller)
    with EngineTransport(controller, str(uuid.uuid4())) as transport:
        engine = _Engine(transport, watcher)
        wanted = options.id if options.id is not None else _mpi_rank(options)
        registrar = Registrar(
            transport,
            engine.note,
            wanted=wanted,
            timeout=options.timeout,
            most_missed=options.max_heartbeat_misses,
        )
        registered = trio.run(_registered, registrar)
        _log.info("Completed registration with id %d", registered.engine_id)
        application = _application(options, registered, registrar)
        engine.on_registered = application.note
        run_over(application.kernel, engine.open, application=application)
        _log.info("engine %d has ended", registered.engine_id)


@attrs.define(eq=False)
class _Engine:
    """An engine's transport, and what is told of each registration."""

    transport: EngineTransport
    watcher: Watcher
    on_registered: Callable[[Registered], object] = lambda registered: None

    def note(self, registered: Registered) -> None:
        """Tell the watcher what to send when this process has ended, and the application the
        engine's new name and number.
        """
        controller = self.transport.controller
        url = controller.url("registration")
        self.watcher.tell(url, registered.farewell, controller.curve_serverkey)
        self.on_registered(registered)

    def open(self, stack: ExitStack, before_exit: list[Callable[[], object]]) -> Transport:
        """The transport, which is open already. At the end it is closed, and then the watcher is
        dismissed.

        The end has `_GRACE` seconds: if a call has left a socket open in this process, closing the
        zmq context would wait for ever.
        """
        stack.callback(self.watcher.dismiss)
        stack.callback(self.transport.close)
        stack.callback(end_within, _GRACE)
        before_exit.append(self.watcher.dismiss)
        return self.transport


async def _registered(registrar: Registrar) -> Registered:
    return await registrar.register()


def _application(options: Options, registered: Registered, registrar: Registrar) -> Any:
    from ..python import PythonKernel
    from .application import EngineApplication

    lines = [f"--Profile.exec_lines={line}" for line in [options.startup_command] if line]
    files = [f"--Profile.exec_files={file}" for file in [options.startup_script] if file]
    place = [f"--ProfileDir.location={options.folder}"]
    history = ["--HistoryManager.hist_file=:memory:"]
    bounds = {"max_message_bytes": MOST, "max_queue_bytes": MOST, "max_frames": 1 << 20}
    kernel = PythonKernel(**bounds, max_merge=MERGED)
    kernel.flags = [*place, *history, *lines, *files, *options.others]
    return EngineApplication(kernel, registered, registrar, partial(_reread, options))


def find_controller(options: Options) -> Controller:
    """Where the controller is: from the environment, or from its file, for which this waits.
    Raises `ConnectionFileError`.
    """
    if _TOLD in os.environ:
        return _controller_told(options)
    until = time.monotonic() + options.wait_for_url_file
    while True:
        try:
            return _reread(options)
        except ConnectionFileError:  # the file does not exist yet, or is being written
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


def _controller_told(options: Options) -> Controller:
    """Where the controller is, by the variable that a launcher has set in the environment."""
    try:
        fields = json.loads(os.environ[_TOLD])
    except ValueError as error:
        raise ConnectionFileError(f"${_TOLD}: is no JSON: {error}") from None
    return Controller.of(fields, f"${_TOLD}", options.location or None)


def _reread(options: Options) -> Controller:
    """Where the controller is now, by its file; by the environment if that says it and no cluster
    id is known.
    """
    if _TOLD in os.environ and not options.cluster_id:
        return _controller_told(options)
    return read_controller(options.connection_file, options.location or None)


def _say_security(controller: Controller) -> None:
    if controller.curve_serverkey is None and not controller.key:
        _log.warning("%s has no key: anybody may run code here", controller.source)


def _mpi_rank(options: Options) -> int | None:
    """The rank that MPI gives this process, if MPI is to be used and has several processes. Raises
    `UsageError` if mpi4py cannot be imported.
    """
    if not options.use_mpi:
        return None
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise UsageError(f"--mpi needs mpi4py: {error}") from None
    return int(MPI.COMM_WORLD.rank) if MPI.COMM_WORLD.size > 1 else None
