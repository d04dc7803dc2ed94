"""Imports point one way, and what a layer offers is what its ``__all__`` says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from .processes import ROOT

PACKAGE = ROOT / "trikernel"
ORDER = [
    "errors",
    "system",
    "wire",
    "transport",
    "core",
    "timeline",
    "kernel",
    "loops",
    "debugger",
    "python",
    "engine",
    "compat",
    "cli",
]
MAY_IMPORT = {
    **{layer: set(ORDER[:number]) for number, layer in enumerate(ORDER)},
    "engine": {*ORDER[: ORDER.index("engine")], "warm"},
    "warm": {"errors", "system"},
    "remote": {"errors", "system", "wire", "transport", "core", "kernel"},
    "client": {"errors", "system", "wire", "transport", "warm"},
    "conformance": {"errors", "system", "wire", "transport", "client"},
    "testing": {*ORDER[:-1], "warm", "client", "conformance"},
    "cli": {*ORDER[:-1], "warm", "remote", "client", "conformance"},
    "__init__": {"errors", "system", "wire", "transport", "core", "kernel", "embedding"},
    "embedding": {"python"},
    "__main__": {"cli"},
    "notebook": {"errors", "core"},
}
ONLY_IN = {"zmq": "transport", "zmq_anyio": "transport", "anyio": "transport", "IPython": "python"}
NOT_IN = {"trio": "wire", "zmq": "wire"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports_of(path: Path) -> list[tuple[str, ...]]:
    """Every import in a module, wherever it stands, as absolute dotted parts."""
    package = path.relative_to(ROOT).with_suffix("").parts
    found: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else ()
            module = tuple(node.module.split(".")) if node.module else ()
            found += [(*base, *module, alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_layers_below(path: Path) -> None:
    layer = layer_of(path)
    for name in imports_of(path):
        if name[0] == "trikernel" and len(name) > 1:
            if name[1] == layer or (
                not (PACKAGE / name[1]).exists() and not (PACKAGE / f"{name[1]}.py").exists()
            ):
                continue
            assert name[1] in MAY_IMPORT[layer], f"{layer} imports {'.'.join(name)}"
        if name[0] in ONLY_IN:
            assert layer == ONLY_IN[name[0]], f"{layer} imports {name[0]}"
        if name[0] in NOT_IN:
            assert layer != NOT_IN[name[0]], f"{layer} imports {name[0]}"


def test_there_is_no_cycle_among_modules() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        targets = set()
        for parts in imports_of(path):
            for length in (len(parts), len(parts) - 1):
                dotted = ".".join(parts[:length])
                if dotted in names and dotted != name:
                    targets.add(dotted)
        graph[name] = targets
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert done == set(graph)


OFFERED = {
    "trikernel": {
        "ConnectionInfo", "Kernel", "MemoryTransport", "Reply", "Request", "StopReason",
        "ZmqTransport", "__version__", "current_request", "embed", "errors", "main", "message_type",
        "open_priority_channel", "run", "serve", "setting",
    },
    "trikernel.system": {
        "DroppedInterrupts", "Latch", "LeftOpen", "Mailbox", "RemoteNursery",
        "RepeatedEvent", "SignalArrivals", "SignalTimer",
        "call_in", "can_nest_runs", "can_signal", "cancel_for", "close_what_was_left_open",
        "exit_forked", "freeze", "gc_paused", "harmless", "has_debugpy", "interrupt_nested_run",
        "is_anything_left_open", "innermost_status", "is_nested_in", "leave_shield",
        "shield_within",
        "mark_untraced", "nested_token", "on_fork",
        "real_stderr", "report_crash", "run_in_own_thread", "run_in",
        "end_within", "run_nested", "run_to_the_end",
        "runs_here", "signal_at_parents_end", "signal_main_thread", "stderr_descriptor",
        "unblock_signal",
        "unused_signal", "wait_for_process_end", "with_working_folder",
    },
    "trikernel.wire": {
        "DELIMITER", "IOPUB_TYPES", "PROTOCOL_VERSION", "REQUESTS", "STDIN_TYPES", "Codec",
        "Header", "LaneName", "Limits", "Message", "MessageType", "Priority", "as_content",
        "parse", "place_in", "reply_type", "tell_place",
    },
    "trikernel.transport": {
        "BroadcastChannel", "Channel", "ClientTransport", "ConnectionInfo", "Controller",
        "EngineTransport", "MemoryClient", "MemoryTransport", "PortRange", "Registrar",
        "Registration", "Transport", "ZmqChannel", "ZmqClientTransport", "ZmqTransport",
        "bind_first", "new_connection_file", "offers_handshake", "read_connection_file",
        "read_controller", "read_startup_file", "receive", "register", "registration_of",
        "remove_stale_files", "write_connection_file",
    },
    "trikernel.remote": {
        "CommunicationPort", "Gateway", "Launch", "Launched", "Order", "add_launch_flags",
        "class_name_of", "gateway_of", "launch", "launch_of", "obey", "read_order", "seal",
        "send_response",
    },
    "trikernel.warm": {
        "ForkServer", "NotWarm", "WarmProcess", "open_fork_server", "warm_is_possible",
    },
    "trikernel.client": {
        "CellError", "Client", "Comm", "Execution", "connect", "open_client", "open_fork_server",
        "open_kernel", "room_for_kernels", "run_notebook",
    },
    "trikernel.conformance": {
        "FEATURES", "REQUIREMENTS", "Log", "NotChecked", "NotOffered", "Probe", "Requirement",
        "Result", "Samples", "Subject", "as_json", "as_junit", "as_lines", "assert_order",
        "check_samples", "find_kernelspec", "message_types", "open_file", "open_kernelspec",
        "read_samples", "result_of", "run_checks", "select", "summary",
    },
    "trikernel.timeline": {
        "Kind", "Limits", "NameOf", "Node", "OtherTask", "Recorder", "TaskTree", "Tasks",
        "Timeline", "age_of", "clip", "duration", "end_scope", "line_of_thread",
        "note_error", "origin_of", "place_of", "request_of_task", "source_of", "table", "title_of",
        "wait_of",
    },
    "trikernel.testing": {
        "REQUIREMENTS", "CheckedClient", "InjectedScope", "Requirement", "Samples",
        "assert_conforms", "assert_meets", "assert_order", "at_every_checkpoint", "message_types",
        "open_clients", "open_memory_client", "requirements_of",
    },
    "trikernel.loops": {
        "CellLoop",
        "GuestLoop",
        "TrioAwaitable",
        "in_asyncio_task",
        "take_over",
    },
    "trikernel.debugger": {
        "COMMANDS", "Debuggee", "Debugger", "Needs", "Traced", "as_json", "is_installed",
    },
    "trikernel.python": {"PythonKernel"},
    "trikernel.engine": {
        "TrioEngineLauncher", "TrioEngineSetLauncher", "abort_on_cancel", "bind_kernel",
        "open_cluster", "within",
    },
    "trikernel.compat": {"IPKernelApp", "IPythonKernel", "Kernel"},
    "trikernel.cli": {"main"},
}  # fmt: skip


@pytest.mark.parametrize("name", OFFERED)
def test_a_layer_offers_what_is_pinned_here(name: str) -> None:
    module = importlib.import_module(name)
    assert set(module.__all__) == OFFERED[name]
    assert all(hasattr(module, one) for one in module.__all__)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_importing_trikernel_loads_nothing_heavy() -> None:
    code = (
        "import sys, trikernel; "
        "print(sorted({'IPython', 'traitlets', 'jupyter_client', 'anyio', 'tornado', 'asyncio'}"
        " & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_python_kernel_leaves_ipython_to_when_it_is_served() -> None:
    code = "import sys, trikernel.python; print({'IPython', 'traitlets'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_wrapper_kernels_need_no_ipython_and_no_loop_before_they_are_served() -> None:
    heavy = {"IPython", "jupyter_client", "tornado", "asyncio"}
    code = f"import sys, trikernel.compat; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
