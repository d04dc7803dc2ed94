"""What ipykernel's command line takes, ours takes, too; what is wrong in it ends nothing."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trikernel.errors import UsageError
from trikernel.python import PythonKernel
from trikernel.python.flags import ALIASES, FLAGS
from trikernel.python.profile import Profile

from ..processes import ROOT, TIMEOUT, kernel_process

MEANT = {
    "-c print(1)": ("Profile", "code_to_run", "print(1)"),
    "-c -1": ("Profile", "code_to_run", "-1"),
    "-m this": ("Profile", "module_to_run", "this"),
    "--autocall=1": ("InteractiveShell", "autocall", 1),
    "--autocall 1": ("InteractiveShell", "autocall", 1),
    "--cache-size=5": ("InteractiveShell", "cache_size", 5),
    "--colors=Linux": ("InteractiveShell", "colors", "Linux"),
    "--theme=linux": ("InteractiveShell", "colors", "linux"),
    "--logfile=log.py": ("InteractiveShell", "logfile", "log.py"),
    "--logappend=log.py": ("InteractiveShell", "logappend", "log.py"),
    "--config=mine.py": ("Profile", "extra_config_file", "mine.py"),
    "--ext=autoreload": ("Profile", "extra_extensions", ["autoreload"]),
    "--gui=tk": ("Profile", "gui", "tk"),
    "--matplotlib": ("Profile", "matplotlib", "auto"),
    "--matplotlib=inline": ("Profile", "matplotlib", "inline"),
    "--pylab": ("Profile", "pylab", "auto"),
    "--pylab=inline": ("Profile", "pylab", "inline"),
    "--pdb": ("InteractiveShell", "pdb", True),
    "--no-pdb": ("InteractiveShell", "pdb", False),
    "--pprint": ("PlainTextFormatter", "pprint", True),
    "--no-pprint": ("PlainTextFormatter", "pprint", False),
    "--automagic": ("InteractiveShell", "automagic", True),
    "--no-automagic": ("InteractiveShell", "automagic", False),
    "--autoindent": ("InteractiveShell", "autoindent", True),
    "--no-autoindent": ("InteractiveShell", "autoindent", False),
    "--nosep": ("InteractiveShell", "separate_in", ""),
    "--ignore-cwd": ("Profile", "ignore_cwd", True),
    "--no-ignore-cwd": ("Profile", "ignore_cwd", False),
    "--init": ("Profile", "copy_config_files", True),
    "--debug": ("Profile", "log_level", logging.DEBUG),
    "--quiet": ("Profile", "log_level", logging.CRITICAL),
    "--HistoryManager.hist_file=:memory:": ("HistoryManager", "hist_file", ":memory:"),
    "--ZMQInteractiveShell.ast_node_interactivity=all": (
        "ZMQInteractiveShell",
        "ast_node_interactivity",
        "all",
    ),
    "--IPCompleter.use_jedi=False": ("IPCompleter", "use_jedi", False),
    "--Completer.use_jedi=False": ("Completer", "use_jedi", False),
    "--DisplayFormatter.active_types=['text/plain']": (
        "DisplayFormatter",
        "active_types",
        ["text/plain"],
    ),
    "--InlineBackend.figure_formats={'svg'}": ("InlineBackend", "figure_formats", {"svg"}),
    "--StoreMagics.autorestore=True": ("StoreMagics", "autorestore", True),
    "--IPKernelApp.exec_lines=a=1": ("Profile", "exec_lines", ["a=1"]),
    "--IPKernelApp.exec_lines=['a=1','b=2']": ("Profile", "exec_lines", ["a=1", "b=2"]),
    "--IPKernelApp.exec_files=mine.py": ("Profile", "exec_files", ["mine.py"]),
    "--IPKernelApp.extensions=autoreload": ("Profile", "extensions", ["autoreload"]),
    "--IPKernelApp.code_to_run=1": ("Profile", "code_to_run", "1"),
    "--IPKernelApp.module_to_run=this": ("Profile", "module_to_run", "this"),
    "--IPKernelApp.matplotlib=inline": ("Profile", "matplotlib", "inline"),
    "--InteractiveShellApp.hide_initial_ns=False": ("Profile", "hide_initial_ns", False),
    "--IPKernelApp.capture_fd_output=False": ("Profile", "capture_fd_output", False),
}

NOTHING = (
    "--ident=me --user=me --keyfile=none --secure --no-secure --no-stdout --no-stderr "
    "--Session.username=me --IPKernelApp.outstream_class=ipykernel.iostream.OutStream "
    "--IPKernelApp.trio_loop=True --IPKernelApp.quiet=False --color-info --no-color-info "
    "--IPythonKernel.use_experimental_completions=False --Kernel._poll_interval=0.1"
)


@pytest.fixture
def ipython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    return tmp_path


def words(line: str) -> list[str]:
    return line.split(" ", 1) if line.startswith("-c") else line.split()


@pytest.mark.parametrize("line", MEANT)
def test_each_flag_is_understood(
    line: str, ipython: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("trikernel"), "level", logging.WARNING)
    section, name, value = MEANT[line]
    assert Profile.read("default", words(line)).cli_config[section][name] == value
    assert [
        one for one in caplog.records if one.levelno >= logging.WARNING
    ] == [] or line == "--init"


def test_no_flag_of_ipython_is_left_out() -> None:
    tried = {line.lstrip("-").replace("=", " ").split()[0] for line in MEANT}
    tried |= {one.lstrip("-").partition("=")[0] for one in NOTHING.split()}
    elsewhere = {"log-level", "profile", "profile-dir", "ipython-dir", "show-config"}
    assert ALIASES.keys() | FLAGS.keys() <= tried | elsewhere | {"show-config-json"}


def test_what_means_nothing_here_is_accepted(
    ipython: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Profile.read("default", NOTHING.split())
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--no-such", "flag --no-such has no effect: nobody knows it"),
        ("--no-such=1", "flag --no-such=1 has no effect: nobody knows it"),
        ("--no-such value", "flag --no-such has no effect: nobody knows it"),
        ("-x", "flag -x has no effect: nobody knows it"),
        ("--ext", "flag --ext has no effect: it needs a value"),
        ("--cache-size=many", "flag --cache-size has no effect: The 'cache_size' trait expected"),
        (
            "--InteractiveShell.nope=1",
            "flag --InteractiveShell.nope has no effect: there is no such",
        ),
        *(
            (
                f"--ZMQInteractiveShell.{name}=abc",
                f"flag --{flag} has no effect: The '{name}' trait expected",
            )
            for name, flag in (
                ("cache_size", "cache-size"),
                ("autocall", "autocall"),
                ("xmode", "ZMQInteractiveShell.xmode"),
            )
        ),
        ("--IPKernelApp.nope=1", "flag --IPKernelApp.nope has no effect: there is no such setting"),
        ("--Kernel.nope=1", "flag --Kernel.nope has no effect: Kernel has no such setting"),
        ("--Kernel.stop_on_error_timeout=-1", "Kernel: stop_on_error_timeout must be a number"),
        ("--debug=1", "flag --debug=1 has no effect: it takes no value"),
        ("--no-pdb=yes", "flag --no-pdb=yes has no effect: it takes no value"),
        ("--a.b.c.d=1", "flag --a.b.c.d=1 has no effect: nobody knows it"),
        (
            "--cache-size=1 --cache-size=2",
            "flag --cache-size has no effect: cache_size only accepts",
        ),
        ("-log-level=10", "flag -log-level=10 has no effect: "),
        ("--a.b=1", "flag --a.b=1 has no effect: nobody knows it"),
        ("--profile-dir=no/such", "flag --profile-dir has no effect: there is no folder 'no/such'"),
        ("--ipython-dir=no/such", "flag --ipython-dir has no effect: there is no folder 'no/such'"),
        ("--matplotlib=paper", "flag --matplotlib has no effect: The 'matplotlib' trait expected"),
    ],
)
def test_what_is_wrong_is_one_warning_and_the_rest_counts(
    line: str, said: str, ipython: Path, caplog: pytest.LogCaptureFixture
) -> None:
    profile = Profile.read("default", ["--autocall=1", *line.split(), "--colors=Linux"])
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert said in warning
    assert profile.config.InteractiveShell.keys() == {"autocall", "colors"}


@pytest.mark.parametrize(
    "line", ["--colors=bad", "--InteractiveShell.colors=bad", "--ZMQInteractiveShell.colors=bad"]
)
def test_colors_that_nobody_knows_are_one_warning(
    line: str, ipython: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = ipython / "profile_default" / "ipython_config.py"
    file.parent.mkdir()
    for text in ("", "c.InteractiveShell.colors = 'Linux'\n", "c.InteractiveShell.colors = 'bad'"):
        caplog.clear()
        file.write_text(text, "utf-8")
        config = Profile.read("default", [line] if "bad" not in text else []).config
        (warning,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
        assert "colors has no effect: there are no colors 'bad'" in warning
        assert config.InteractiveShell.get("colors") == ("Linux" if "Linux" in text else None)
        assert "colors" not in config.ZMQInteractiveShell


FITTING = """
c.InteractiveShell.cache_size = 3
c.InteractiveShell.ast_transformers.append(print)
c.InteractiveShell.autocall = 1
c.ZMQInteractiveShell.xmode = "plain"
c.ZMQInteractiveShell.banner1 = "mine"
c.HistoryManager.hist_file = ":memory:"
c.IPCompleter.limit_to__all__ = True
c.DisplayFormatter.active_types = ["text/plain"]
c.Mine.value = None
"""


@pytest.mark.parametrize(
    "setting",
    [
        "ZMQInteractiveShell.autocall = 'x'",
        "InteractiveShell.autocall = 'x'",
        "InteractiveShell.cache_size = None",
        "HistoryManager.db_cache_size = 'many'",
        "DisplayFormatter.active_types = 3",
    ],
)
def test_a_value_in_a_file_that_does_not_fit_is_one_warning(
    setting: str, ipython: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = ipython / "profile_default" / "ipython_config.py"
    file.parent.mkdir()
    file.write_text(FITTING, "utf-8")
    config = Profile.read("default").config
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
    name = setting.partition(" ")[0]
    section, _, trait = name.partition(".")
    config[section].pop(trait, None)
    file.write_text(f"{file.read_text('utf-8')}c.{setting}\n", "utf-8")
    left = Profile.read("default").config
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert warning.startswith(f"{name} has no effect: The '{trait}' trait expected")
    assert str(left) == str(config)


def test_flags_count_where_the_profile_cannot_be_made(
    ipython: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (ipython / "profile_default").touch()
    profile = Profile.read("default", ["--cache-size=5"])
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert "the IPython folder cannot be used" in warning
    assert profile.config.InteractiveShell.cache_size == 5
    assert profile._folder is not None
    with profile._folder as folder:
        assert Path(profile.profile_dir.location).is_relative_to(folder)


def test_a_setting_that_ipykernel_has_may_come_by_its_name(
    ipython: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = ipython / "profile_default" / "ipython_kernel_config.py"
    file.parent.mkdir()
    file.write_text("c.IPythonKernel.stop_on_error_timeout = 3\n", "utf-8")

    def configured(*flags: str, **settings: float) -> float:
        kernel = PythonKernel(**settings)
        Profile.read("default", flags).configure(kernel)
        return kernel.stop_on_error_timeout

    assert configured() == 3
    assert configured("--IPythonKernel.stop_on_error_timeout=4.5") == 4.5
    assert configured("--Kernel.stop_on_error_timeout=2") == 3  # the nearer class
    assert configured(stop_on_error_timeout=1) == 1
    default = PythonKernel().stop_on_error_timeout
    assert configured(stop_on_error_timeout=default) == default
    file.write_text("c.Kernel.stop_on_error_timeout = 'soon'\n", "utf-8")
    assert configured() == PythonKernel().stop_on_error_timeout
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert "Kernel.stop_on_error_timeout has no effect: " in warning


def test_a_profile_that_is_not_there_is_named(ipython: Path) -> None:
    with pytest.raises(UsageError, match="there is no IPython profile 'nobody'"):
        Profile.read("default", ["--IPKernelApp.profile=nobody"])


def test_a_command_line_goes_before_files(ipython: Path) -> None:
    file = ipython / "profile_default" / "ipython_config.py"
    file.parent.mkdir()
    file.write_text("c.InteractiveShell.cache_size = 3\nc.InteractiveShell.autocall = 2\n", "utf-8")
    shell = Profile.read("default", ["--cache-size=5"]).config.InteractiveShell
    assert (shell.cache_size, shell.autocall) == (5, 2)


def test_a_kernel_starts_with_all_of_them_and_does_what_they_say() -> None:
    flags = (
        "--HistoryManager.hist_file=:memory:",
        "--no-such-flag",
        "--cache-size=many",
        "--ZMQInteractiveShell.ast_node_interactivity=all",
        "--IPKernelApp.exec_lines=first = 1",
        "--ext=autoreload",
        "--matplotlib=inline",
        "--debug",
        "-c",
        "second = first + 1",
    )
    with kernel_process("trikernel.python:PythonKernel", *flags) as kernel:
        reply, outputs = kernel.execute(
            "first\nsecond\nget_ipython().history_manager.hist_file\nget_ipython().cache_size"
        )
        assert reply["status"] == "ok"
        shown = [
            one["content"]["data"]["text/plain"] for one in outputs if "data" in one["content"]
        ]
        assert shown == ["1", "2", "':memory:'", "1000"]
        assert kernel.text("%autoreload 0") == ""
        kernel.client.shutdown()
        log = kernel.process.communicate(timeout=TIMEOUT)[1]
    assert "WARNING] flag --no-such-flag has no effect: nobody knows it\n" in log
    assert "WARNING] flag --cache-size has no effect:" in log
    assert "DEBUG]" in log


def test_a_kernel_starts_with_none_of_what_cannot_be_used(tmp_path: Path) -> None:
    flags = (
        f"--HistoryManager.hist_file={tmp_path / 'none' / 'history.sqlite'}",
        f"--profile-dir={tmp_path / 'none'}",
        f"--ipython-dir={tmp_path / 'none'}",
        "--colors=bad",
        "--ZMQInteractiveShell.cache_size=abc",
        "--debug=1",
        "--a.b.c.d=1",
    )
    with kernel_process("trikernel.python:PythonKernel", *flags) as kernel:
        shown = kernel.text("print(get_ipython().history_manager.hist_file)\n%history")
        assert shown.startswith(":memory:\n")
        kernel.client.shutdown()
        log = kernel.process.communicate(timeout=TIMEOUT)[1]
    assert log.count("WARNING]") == len(flags)
    assert "WARNING] the history is not kept: " in log


def start(*flags: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trikernel", "start", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_file_that_is_made_has_the_address_and_ports_of_the_flags() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with start("--IPKernelApp.ip", "127.0.0.1", f"--IPKernelApp.shell_port={port}") as process:
        assert process.stderr is not None
        try:
            path = [process.stderr.readline() for _ in range(2)][1].partition(": ")[2].strip()
            info = json.loads(Path(path).read_text("utf-8"))
        finally:
            process.terminate()
        process.communicate(timeout=TIMEOUT)
    assert (info["ip"], info["shell_port"]) == ("127.0.0.1", port)
    assert info["iopub_port"] not in (0, port)


def test_the_configuration_can_be_shown() -> None:
    with start("--cache-size=5", "--show-config") as process:
        shown, log = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, log) == (0, "")
    assert "InteractiveShell" in shown
    assert ".cache_size = " in shown


@pytest.mark.parametrize("arguments", [["--no-such"], ["--no-such", "value"], ["-x=1"]])
def test_a_kernel_of_another_kind_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    with start("--kernel", "docs.examples.echo_kernel:EchoKernel", *arguments) as process:
        log = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 2
    assert log == f"trikernel: error: unrecognized arguments: {arguments[0]} (see --help)\n"
