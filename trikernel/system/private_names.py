"""Every private name of another library that this package touches, and why it has to.

A private name may be gone in that library's next release, so each is listed with what happens
then. Tests look up all of them in the installed versions, and find private names that are used
without being listed; the tour of the code shows the table. `left_open` and `nested_run` check at
run time that their names exist, and do without them if one is missing.
"""

from __future__ import annotations

import attrs

__all__ = ["PRIVATE_NAMES", "PrivateName"]


@attrs.frozen
class PrivateName:
    """One name, from its library's top module on.

    ``where`` are the modules of this package that use it, ``why`` is what it is needed for,
    ``without`` is what happens where it is missing. ``only`` says where the name exists: on one
    `sys.platform`, or from one version of Python on (``"3.14"``); empty means everywhere. With
    ``is_optional`` the library need not be installed.
    """

    name: str
    where: tuple[str, ...]
    why: str
    without: str
    only: str = ""
    is_optional: bool = False


PRIVATE_NAMES = (
    PrivateName(
        "trio._core._run.GLOBAL_RUN_CONTEXT",
        ("trikernel.system.fork", "trikernel.system.nested_run"),
        "a forked child finds the loop that it shares with its parent, to leave it; trio.run in a "
        "cell sets the loop around it aside",
        "a child that awaits takes events from its parent, as with any Trio program that forks; "
        "trio.run in a cell is refused, as inside of any Trio run",
    ),
    PrivateName(
        "trio._core._io_epoll.EpollIOManager._epoll",
        ("trikernel.system.fork",),
        "the child puts an epoll of its own in place of the shared one",
        "the same",
        only="linux",
    ),
    PrivateName(
        "trio._core._wakeup_socketpair.WakeupSocketpair.wakeup_sock",
        ("trikernel.system.fork",),
        "the child gets a wake-up of its own, else it would wake its parent",
        "the same",
    ),
    *(
        PrivateName(
            f"trio._core.{name}",
            ("trikernel.system.nested_run", *elsewhere),
            why,
            "trio.run in a cell is refused, as inside of any Trio run",
        )
        for name, why, *elsewhere in (
            ("_run.Runner.deliver_ki", "an interrupt reaches the main task of a loop that waits"),
            ("_run.Runner.main_task", "so does what is raised when it swallows that"),
            ("_run.Task._abort_func", "whether that task waits"),
            ("_run.Task._attempt_abort", "ends its wait by an exception"),
            ("_run.Runner.ki_manager", "Trio's handler of SIGINT is for the loop that set it"),
            ("_run.Runner.reschedule", "an inner task wakes one of the outer loop, in that loop"),
            (
                "_run.Runner.spawn_impl",
                "or starts one, in a nursery of the outer loop; no interrupt comes in the middle",
                "trikernel.core.schedulers",
            ),
            ("_run.Runner.tasks", "the tasks of an inner loop that has crashed are ended"),
            ("_run.Task._runner", "the loop that a task belongs to"),
        )
    ),
    PrivateName(
        "sys._current_frames",
        (
            "trikernel.core.places",
            "trikernel.core.thread_stop",
            "trikernel.debugger.tasks",
            "trikernel.timeline.sampler",
        ),
        "who waits for a stop is told in which line a thread stands; a subshell's thread is looked "
        "at, whether it executes the user's code, before that is stopped; a timeline tells the "
        "line that holds the loop",
        "the line is not told; code that computes in a subshell is left behind",
    ),
    PrivateName(
        "trio._core._run.Runner.task_exited",
        ("trikernel.timeline.steps",),
        "what a task has raised is read off the frame of this function, which calls instruments",
        "a timeline has no marks for errors of tasks",
    ),
    PrivateName(
        "trio._core._run.Task._next_send",
        ("trikernel.timeline.steps",),
        "a timeline marks when a task is cancelled, and by whom, also if it goes on after that",
        "such marks are missing",
    ),
    PrivateName(
        "trio._core._run.Task._schedule_points",
        ("trikernel.timeline.steps",),
        "how often a task ran while a timeline did not see each step",
        "it seems to have waited then",
    ),
    PrivateName(
        "asyncio.BaseEventLoop._run_once",
        ("trikernel.core.schedulers",),
        "whether an interrupt comes in the middle of what an asyncio loop of the user's does",
        "now and then a task is lost, and the cell waits for it until a second interrupt",
    ),
    PrivateName(
        "trio._core._ki._CODE_KI_PROTECTION_STATUS_WMAP",
        ("trikernel.core.thread_stop",),
        "which code of a subshell's thread may be interrupted, as Trio knows it of the main thread",
        "what computes within a comm's handler, a hook or a magic of ours is left behind there",
    ),
    PrivateName(
        "trio._core._run.Nursery._children",
        ("trikernel.system.nested_run",),
        "nurseries of a loop that has crashed wait for nobody any more",
        "Trio says on stderr, of each of them, that it had tasks when it was collected",
    ),
    PrivateName(
        "trio._core._run._r",
        ("trikernel.testing.checkpoints",),
        "a scenario runs in the same order of tasks each time; hypothesis takes the same way",
        "orders differ between runs, and a checkpoint may be left out",
    ),
    *(
        PrivateName(
            f"trio._core._run.{name}",
            ("trikernel.system.left_open", *elsewhere),
            why,
            "a scope that a cell leaves open is not found, and Trio's own errors come",
        )
        for name, why, *elsewhere in (
            (
                "Task._cancel_status",
                "the innermost scope that a task is in",
                "trikernel.core.left_behind",
                "trikernel.system.shielding",
            ),
            ("Task._child_nurseries", "a nursery that was left in a wrong order is put last"),
            (
                "CancelScope._cancel_status",
                "whether and where a scope is entered",
                "trikernel.core.user_code",
                "trikernel.system.shielding",
            ),
            ("CancelScope._close", "leaves a nursery's scope, and gives back the error"),
            (
                "CancelStatus._scope",
                "the scope that belongs to a place in the tree",
                "trikernel.core.left_behind",
            ),
            (
                "CancelStatus.encloses",
                "whether a scope is inside of ours",
                "trikernel.system.shielding",
            ),
            ("Nursery._nested_child_finished", "waits for the tasks, as its end does"),
        )
    ),
    *(
        PrivateName(
            f"trio._core._run.{name}",
            ("trikernel.system.shielding",),
            why,
            "an asyncio cell that leaves a scope of Trio's as it cleans up gets Trio's own error",
        )
        for name, why in (
            ("CancelStatus.parent", "a shield is put between a scope and what is around it"),
            ("CancelStatus.children", "what is in that shield when it is taken out again"),
            ("CancelStatus.close", "takes it out"),
        )
    ),
    PrivateName(
        "trio._core._run.CancelStatus.effectively_cancelled",
        ("trikernel.core.user_code", "trikernel.loops.steps"),
        "whether a cancel comes from outside of all that is ours, by which a lost loop is known, "
        "or from outside of what an asyncio cell runs",
        "a cell that runs when Trio crashes is answered as interrupted; the kernel goes on",
    ),
    PrivateName(
        "asyncio._set_running_loop",
        ("trikernel.loops.guest", "trikernel.python.asyncio_runs"),
        "a plain verb of a wrapper kernel has a running asyncio loop, as with ipykernel, and so "
        "have statements of asyncio cells; those who write loops are told to use it",
        "verbs of wrapper kernels that override ours, and io_loop, raise AttributeError",
    ),
    *(
        PrivateName(
            f"asyncio.{name}",
            ("trikernel.python.asyncio_runs",),
            "asyncio.run in an asyncio cell sets the running loop and its task aside, by what "
            "those who write loops are told to use",
            "asyncio.run in an asyncio cell raises AttributeError",
        )
        for name in ("_enter_task", "_leave_task")
    ),
    PrivateName(
        "asyncio.Task._log_traceback",
        ("trikernel.loops.cell_loop",),
        "whether somebody has asked for a failed task's exception, without asking for it",
        "that a task has failed is told when the task is collected, as in asyncio",
    ),
    PrivateName(
        "comm.base_comm.BaseComm._msg_callback",
        ("trikernel.kernel.comms",),
        "handlers may be async: what the callback returns has to be awaited",
        "messages reach no handler: an AttributeError is shown in its place",
    ),
    PrivateName(
        "comm.base_comm.BaseComm._close_callback",
        ("trikernel.kernel.comms",),
        "the same for the handler of a close",
        "a close reaches no handler, in the same way",
    ),
    PrivateName(
        "comm.base_comm.BaseComm._closed",
        ("trikernel.kernel.comms",),
        "a comm that the frontend closed, or whose kernel ends, says nothing when it is collected",
        "frontends get a comm_close for a comm that they do not know",
    ),
    PrivateName(
        "traitlets.config.configurable.SingletonConfigurable._instance",
        ("trikernel.python.process",),
        "the shell of the served kernel becomes what get_ipython() finds, and resigns at the end",
        "display() and magics of libraries find no shell",
    ),
    PrivateName(
        "traitlets.config.configurable.SingletonConfigurable._walk_mro",
        ("trikernel.python.process",),
        "it becomes that for every class whose instance() is asked",
        "the Python kernel does not start",
    ),
    PrivateName(
        "IPython.core.magics.code.CodeMagics._find_edit_target",
        ("trikernel.python.frontend_magics",),
        "%edit finds what there is to edit as it does in IPython's terminal",
        "%edit fails",
    ),
    PrivateName(
        "IPython.core.interactiveshell.InteractiveShell._atexit_once",
        ("trikernel.python.closing",),
        "the history is closed once the last task has cleaned up, not when the process exits",
        "that is logged; the history stays open until the process exits",
    ),
    PrivateName(
        "IPython.core.interactiveshell.InteractiveShell._get_exc_info",
        ("trikernel.python.shell",),
        "what IPython shows by itself, as %run does, has no frames of ours",
        "such tracebacks show frames of ours",
    ),
    PrivateName(
        "IPython.core.interactiveshell.InteractiveShell._showtraceback",
        ("trikernel.python.shell",),
        "an error goes out as a message; ipykernel replaces the same method",
        "tracebacks are printed",
    ),
    PrivateName(
        "IPython.core.displaypub.DisplayPublisher._is_publishing",
        ("trikernel.python.display",),
        "a MIME renderer of IPython's that displays in turn is not displayed twice",
        "display() raises AttributeError",
    ),
    PrivateName(
        "IPython.core.history.HistoryManager._restart_thread_if_stopped",
        ("trikernel.python.fast_paths",),
        "IPython stops the thread that writes around each fork",
        "the task that writes cells ends with an error; they are written at the end",
    ),
    PrivateName(
        "IPython.core.history.HistoryManager._writeout_input_cache",
        ("trikernel.python.fast_paths",),
        "many cells are written by one call, which leaves the interpreter to the user's code",
        "each is written by a call of its own",
    ),
    *(
        PrivateName(
            f"IPython.core.history.HistoryManager.{name}",
            ("trikernel.python.fast_paths",),
            "plain attributes instead of traits, which take longer to set than to compute",
            "nothing: a cell takes some microseconds longer",
        )
        for name in ("_i", "_ii", "_iii", "_i00")
    ),
    PrivateName(
        "stack_data.core._pygmented_with_ranges",
        ("trikernel.python.rendering",),
        "a lexer's tables are made once, and not for each frame of each error",
        "an error, and so an interrupt, takes three times as long",
    ),
    PrivateName(
        "IPython.core.magics.execution._format_time",
        ("trikernel.python.async_magics",),
        "%time and %timeit around an await print as IPython's do",
        "the two magics fail at their first use",
    ),
    PrivateName(
        "threading.Thread._set_native_id",
        ("trikernel.warm.taking_over",),
        "a fork's main thread has the number that the system gave to its parent's",
        "threading.main_thread().native_id is the template's, as after any fork",
    ),
    PrivateName(
        "threading.Thread._context",
        ("trikernel.kernel.streams",),
        "a thread may have been given a context of its own: that one is to know its cell",
        "each thread gets a context of ours, as before 3.14",
        only="3.14",
    ),
    PrivateName(
        "pdb.Pdb._cmdloop",
        ("trikernel.python.debugger",),
        "an interrupt leaves the debugger; in a notebook nobody presses Ctrl-C at a prompt",
        "an interrupt only prints a line, and the debugger asks again",
    ),
    PrivateName(
        "ipyparallel.cluster.launcher.LocalProcessLauncher._start_waiting",
        ("trikernel.engine.launcher",),
        "ipcluster learns of the end of an engine that was forked",
        "engines are started in the ordinary way only: set TrioEngineLauncher.warm = False",
    ),
    PrivateName(
        "subprocess.Popen._handle",
        ("trikernel.client.kernel_process",),
        "on Windows one waits for a process by its handle; a number may be reused",
        "the client cannot wait for a kernel's end there",
        only="win32",
    ),
    PrivateName(
        "zmq.backend.cython._zmq",
        ("trikernel.transport.held_calls",),
        "the file of pyzmq's own code leads to the libzmq that it has loaded, whose calls are made "
        "without giving away the interpreter lock",
        "a request over control waits for the lock several times while a cell computes",
    ),
    PrivateName(
        "gi._ossighelper._wakeup_fd_is_active",
        ("trikernel.loops.gui",),
        "PyGObject leaves waking a loop that a cell runs by itself, for a signal, to the kernel",
        "an interrupt of Gtk.main() in a cell ends it, but perhaps as another error",
        is_optional=True,
    ),
)
