"""What goes wrong between a client and a template: nothing is left behind, and a kernel starts."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest

from trikernel.warm import asking
from trikernel.warm.asking import Start, ask
from trikernel.warm.packets import (
    GO,
    START,
    NotWarm,
    in_memory,
    packet_pair,
    packet_socket,
    receive,
    send,
)
from trikernel.warm.server import ForkServer
from trikernel.warm.staleness import Files
from trikernel.warm.starting import Command, shared_path, start_template
from trikernel.warm.template import listen

from ..processes import wait_until
from .forks import NONE, children, has_ended, output

assert sys.platform == "linux"  # else the folder is not collected

PRINTS = "import os; print(os.getppid())"


def start_of(code: str) -> Start:
    command = [sys.executable, "-c", code]
    return Start(command, "warm_runs", [code], dict(os.environ), {}, "/", NONE)


@contextmanager
def asked(server: ForkServer, code: str) -> Iterator[tuple[int, socket.socket]]:
    """A process that waits for the word of its client: its pidfd, and the client's connection."""
    output(server, "pass")  # by a new template, if anything it has read was changed meanwhile
    ours, theirs = packet_pair()
    memory, folder = in_memory(asking._as_message(start_of(code))), os.open("/", os.O_PATH)
    null = os.open(os.devnull, os.O_RDWR)
    with ours:
        send(server._running(), START, [theirs.fileno(), memory, folder, null, null, null])
        theirs.close()
        for fd in (memory, folder, null):
            os.close(fd)
        _, (pidfd,) = receive(ours)
        yield pidfd, ours
    os.close(pidfd)


def is_over(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


@pytest.mark.parametrize("gives_word", [False, True])
def test_a_client_that_is_gone_before_it_gave_its_word_has_started_nothing(
    server: ForkServer, tmp_path: Path, gives_word: bool
) -> None:
    ran = tmp_path / "ran"
    with asked(server, f"open({str(ran)!r}, 'w')") as (pidfd, ours):
        assert not is_over(pidfd)
        if gives_word:
            send(ours, GO)
        ours.close()
        wait_until(lambda: is_over(pidfd), "its end")
    wait_until(lambda: not children(server.template_pid), "it to be reaped")
    assert ran.exists() == gives_word


def test_a_template_that_is_killed_with_a_request_in_its_hands_loses_none(
    server: ForkServer,
) -> None:
    output(server, "pass")
    pid, end = server.template_pid, server._running()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    parents: list[int] = []
    asking_thread = threading.Thread(target=lambda: parents.append(int(output(server, PRINTS))))
    asking_thread.start()
    wait_until(lambda: _unread(end), "the request to be there")
    os.kill(pid, signal.SIGKILL)
    asking_thread.join()
    assert parents == [server.template_pid]
    assert server.template_pid != pid


def _unread(end: socket.socket) -> int:
    """Bytes of the packets that nobody has taken yet."""
    found: int = struct.unpack("i", fcntl.ioctl(end, termios.TIOCOUTQ, b"\0" * 4))[0]
    return found


def test_without_memory_a_template_refuses_or_is_replaced(server: ForkServer) -> None:
    pid = server.template_pid
    assert pid is not None
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() // 2, hard))
    try:
        with suppress(NotWarm):
            output(server, PRINTS)
    finally:
        if not has_ended(pid):
            resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
    output(server, PRINTS)


@pytest.mark.parametrize("where", ["the folder for it", "its folder"])
def test_a_read_only_folder_is_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    if where == "its folder":
        (tmp_path / "trikernel-warm").mkdir(mode=0o700)
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    else:

        def refuse(path: Path, mode: int = 0) -> None:
            raise OSError(errno.EROFS, "Read-only file system", str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(NotWarm, match="there is no place for its template"):
        shared_path(Command(sys.executable, ("-P",), ()), [], {})


def test_a_socket_of_another_user_is_not_talked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "is_same_user", lambda connection: False)
    with listen(str(tmp_path / "place")) as listener:
        with pytest.raises(NotWarm, match=r"another user listens on .*place") as caught:
            ask(start_of(PRINTS), str(tmp_path / "place"))
        assert caught.value.worth_a_new_one
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""  # no environment has gone to it


@pytest.mark.skipif(os.getuid() != 0, reason="only root has another user")
def test_another_user_is_not_answered(tmp_path: Path) -> None:
    place = tmp_path / "place"
    start_template(
        Command(sys.executable, ("-P",), ()),
        [],
        os.environ,
        defaults={},
        idle=600,
        where=str(place),
    )
    wait_until(place.is_socket, "it to listen")
    tmp_path.chmod(0o711)  # as if somebody had opened the folder to others
    place.chmod(0o666)
    code = (
        "import os, socket; os.seteuid(12345)\n"
        "one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); one.connect('place')\n"
        "print(one.recv(1))"
    )
    asks = [sys.executable, "-c", code]
    try:
        done = subprocess.run(asks, cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout == b"b''\n"
    finally:
        with packet_socket() as connection:
            connection.connect(str(place))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)


@pytest.mark.parametrize("part", ["its interpreter", "a module", "a folder of modules"])
def test_what_was_upgraded_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    python, module, folder = tmp_path / "python", tmp_path / "module.py", tmp_path / "site"
    folder.mkdir()
    for file in (python, module):
        file.write_text("old")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setitem(sys.modules, "module", type(sys)("module"))
    sys.modules["module"].__file__ = str(module)
    files = Files()
    files.note_modules()
    assert files.changed() is None
    changed = {"its interpreter": python, "a module": module, "a folder of modules": folder}[part]
    if changed is folder:
        (folder / "other-2.0.dist-info").mkdir()
    else:
        new = tmp_path / "new"  # as installers do: beside it, and then in its place
        new.write_text("new")
        new.replace(changed)
    assert files.changed() == str(changed)


def test_a_signal_of_c_code_is_shown_by_faulthandler(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONFAULTHANDLER", "1")
        patch.syspath_prepend(str(Path(__file__).parent / "modules"))
        folders = (str(Path(__file__).parent / "modules"), os.environ.get("PYTHONPATH"))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
        server = ForkServer()
        try:
            server.start()
            start = start_of("import os; os.kill(os.getpid(), 11)")
            with open(tmp_path / "errors", "wb") as errors:
                start = attrs.evolve(
                    start, streams=(subprocess.DEVNULL, subprocess.DEVNULL, errors)
                )
                assert server.fork(start).wait() == -signal.SIGSEGV
            assert "Fatal Python error: Segmentation" in (tmp_path / "errors").read_text()
        finally:
            server.close()
