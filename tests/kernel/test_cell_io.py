"""What an author's code prints and asks goes to the cell, in a process that is the kernel's."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator
from typing import Any

import comm
import pytest

from trikernel import Kernel
from trikernel.testing import message_types

from ..cells import served
from ..processes import TIMEOUT, KernelProcess, kernel_process
from .process_kernels import Printing

SPEC = "tests.kernel.process_kernels:Printing"


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process(SPEC) as kernel:
        yield kernel


CASES = {
    "print": {"stdout": "from print\n"},
    "stderr": {"stderr": "from print\n"},
    "child": {"stdout": "from a child\n"},
    "child's stderr": {"stderr": "from a child\n"},
    "thread": {"stdout": "from a thread\n"},
    "pool": {"stdout": "from a pool\n"},
    "owns": {"stdout": "True\n"},
}


def spoken(outputs: list[dict[str, Any]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for one in outputs:
        if one["msg_type"] == "stream":
            name = one["content"]["name"]
            texts[name] = texts.get(name, "") + one["content"]["text"]
    return texts


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are not captured")
@pytest.mark.parametrize("code", CASES)
def test_what_a_verb_says_is_under_its_cell_before_the_reply(
    kernel: KernelProcess, code: str
) -> None:
    reply, outputs = kernel.execute(code)
    assert reply["status"] == "ok"
    assert spoken(outputs) == CASES[code]


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are not captured")
def test_an_async_verb_speaks_there_too_and_so_does_one_that_fails(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute("await")
    said = spoken(outputs)["stdout"]
    assert sorted(said.splitlines()) == ["after", "before", "from a child of Trio"]
    reply, outputs = kernel.execute("fails")
    assert reply["ename"] == "CalledProcessError"
    assert spoken(outputs) == {"stdout": "said\n"}


def test_a_silent_cell_says_nothing_and_other_verbs_answer(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute("print", silent=True)
    assert spoken(outputs) == {}
    kernel.client.complete("x", 1)
    assert kernel.client.get_shell_msg(timeout=TIMEOUT)["content"]["matches"] == ["x"]


@pytest.mark.parametrize(("code", "is_password"), [("input", False), ("getpass", True)])
def test_input_in_a_plain_verb_asks_the_person(
    kernel: KernelProcess, code: str, is_password: bool
) -> None:
    msg_id = kernel.send(code, allow_stdin=True)
    question = kernel.client.get_stdin_msg(timeout=TIMEOUT)["content"]
    assert question["password"] is is_password
    kernel.client.input("Ada")
    reply, outputs = kernel.finish(msg_id)
    assert reply["status"] == "ok"
    assert spoken(outputs) == {"stdout": "got Ada\n"}
    reply, _ = kernel.execute(code, allow_stdin=False)
    assert reply["ename"] == "StdinNotImplementedError"


def test_a_comm_is_the_kernels_and_a_background_task_speaks(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute("comm")
    (opened,) = [one["content"] for one in outputs if one["msg_type"] == "comm_open"]
    assert opened["target_name"] == "widget"
    kernel.send("background")
    while (said := kernel.until("stream"))["content"]["text"] != "from the background\n":
        continue
    assert said["content"]["name"] == "stdout"


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are not captured")
def test_it_can_be_turned_off(capfd: pytest.CaptureFixture[str]) -> None:
    with kernel_process(SPEC, "--capture-output", "no") as kernel:
        for code in ("print", "child"):
            assert spoken(kernel.execute(code)[1]) == {}
    assert sorted(capfd.readouterr().out.splitlines()) == ["from a child", "from print"]


async def test_a_kernel_in_another_program_leaves_its_streams_alone(
    autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.stdout, sys.stderr, builtins.input, os.environ.copy()
    create_comm = comm.create_comm
    kernel: Kernel = Printing()
    async with served(kernel) as client:
        assert not kernel.owns_process
        assert (sys.stdout, sys.stderr, builtins.input, os.environ.copy()) == before
        heard = await client.execute("print")
    assert "stream" not in message_types(heard)
    assert capsys.readouterr().out == "from print\n"
    assert comm.create_comm is create_comm
