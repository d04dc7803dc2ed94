"""Flags and configuration of `IPKernelApp`: what is wrong is told, and left out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from trikernel.compat import IPKernelApp
from trikernel.compat.flags import ALIASES, flags_of_python, own_flags, take_flags, without_misfits

from .kernels import Configured


def test_what_is_right_is_read_and_what_is_wrong_is_told() -> None:
    app = IPKernelApp(kernel_class=Configured)
    words = [
        "more",
        "-f",
        "its.json",
        "--shell=5",
        "--log-level=LOUD",
        "--Configured.word=hi",
        "--no",
    ]
    complaints = take_flags(app, words)
    assert (app.connection_file, app.shell_port, app.extra_args) == ("its.json", 5, ["more"])
    assert app.config.Configured.word == "hi"
    assert [one.split(":")[0] for one in complaints] == [
        "flag --log-level=LOUD has no effect",
        "flag --no has no effect",
    ]
    assert "Bad config" not in complaints[0]


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_a_question_is_answered(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        take_flags(IPKernelApp(kernel_class=Configured), [flag])
    assert ended.value.code == 0
    assert capsys.readouterr().out


def test_values_that_do_not_fit_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    config = Config(
        {"Configured": {"word": 5, "cell_timeout": -1, "max_frames": 9}, "Other": {"a": 1}}
    )
    kept = without_misfits(config, [Configured], logging.getLogger("somebody"))
    assert kept == {"Configured": {"max_frames": 9}, "Other": {"a": 1}}
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "Configured.word has no effect",
        "Configured.cell_timeout has no effect",
    ]


def test_a_file_that_raises_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class App(IPKernelApp):
        @property
        def config_file_paths(self) -> Any:
            return [str(tmp_path)]

    monkeypatch.setattr(logging.getLogger("trikernel"), "propagate", True)
    (tmp_path / "ipython_config.py").write_text("c.Configured.word = 'of the file'", "utf-8")
    (tmp_path / "ipython_kernel_config.py").write_text("1 / 0", "utf-8")
    app = App(kernel_class=Configured)
    app.classes = [App, Configured]
    app.read_files()
    assert app.config.Configured.word == "of the file"
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'ipython_kernel_config.py'} has no effect: "
        "ZeroDivisionError: division by zero"
    ]


def test_ipython_reads_what_is_not_about_the_connection() -> None:
    words = ["-f", "its.json", "--ip=::1", "--matplotlib=inline", "--HistoryManager.hist_file", "x"]
    assert flags_of_python(words) == words[3:]


def test_an_authors_own_flags_are_not_ipythons() -> None:
    class App(IPKernelApp):
        aliases: Any = {**ALIASES, "extra": "App.extra", ("s", "short"): "App.short"}

    words = ["--extra=EX", "-s", "1", "--colors=Linux"]
    assert own_flags(App()) == {"extra", "s", "short"}
    assert flags_of_python(words, own_flags(App())) == ["--colors=Linux"]


def test_an_application_has_a_profile(tmp_path: Path) -> None:
    app = IPKernelApp(kernel_class=Configured, ipython_dir=str(tmp_path / "made"))
    assert (app.session, app.user_ns) == (None, None)
    assert app.profile_dir.location == str(tmp_path / "made" / "profile_default")
