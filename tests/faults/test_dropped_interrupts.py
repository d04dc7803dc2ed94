"""An interrupt that Python raises where it drops exceptions still ends the cell."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ..processes import KernelProcess, kernel_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is POSIX")

SETUP = """\
import ctypes, sys, time, trio, weakref

def spin(*args):
    print("begun", flush=True)
    until = time.monotonic() + 99
    while time.monotonic() < until: pass

class Kept:
    pass

class Finalized:
    def __del__(self):
        spin()

def by_weak_reference():
    kept = Kept()
    return weakref.ref(kept, spin)  # called as this function ends

def by_ctypes():
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(spin)
    numbers = (ctypes.c_int * 2)(2, 1)
    ctypes.CDLL(None).qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), compare)

def by_finalizer():
    Finalized()
"""
DROPS = ("by_weak_reference", "by_ctypes", "by_finalizer")
THEN = {
    "awaits": "await trio.sleep(99)",
    "computes": "while True: pass",
    "sleeps": "time.sleep(99)",
}


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute(SETUP)
        yield kernel


@pytest.mark.parametrize("by", ["signal", "request"])
@pytest.mark.parametrize("drops", DROPS)
@pytest.mark.parametrize("then", THEN.values(), ids=THEN)
def test_a_dropped_interrupt_ends_the_cell(
    kernel: KernelProcess, then: str, drops: str, by: str
) -> None:
    msg_id = kernel.send(f"{drops}()\n{then}")
    kernel.until_begun(msg_id)
    kernel.interrupt(by)
    reply, outputs = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    errors = [one["content"]["text"] for one in outputs if one["content"].get("name") == "stderr"]
    assert not errors  # Python would say that it has ignored the interrupt
    assert kernel.text("print('next')") == "next\n"


@pytest.mark.parametrize("drops", DROPS)
def test_a_dropped_deadline_ends_the_cell(kernel: KernelProcess, drops: str) -> None:
    reply, _ = kernel.execute(f"%%timeout 0.2\n{drops}()\nawait trio.sleep(99)")
    assert reply["ename"] == "DeadlineExceeded"


@pytest.mark.parametrize("drops", DROPS)
@pytest.mark.parametrize("then", ["await trio.sleep(99)", "while True: pass"])
def test_a_dropped_interrupt_ends_the_cell_of_a_subshell(
    kernel: KernelProcess, then: str, drops: str
) -> None:
    subshell = kernel.ask_control("create_subshell_request")["subshell_id"]
    msg_id = kernel.send_to(subshell, f"{drops}()\n{then}")
    kernel.until_begun(msg_id)
    kernel.interrupt("request")
    reply, outputs = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert not [one for one in outputs if one["content"].get("name") == "stderr"]
    assert kernel.ask_control("delete_subshell_request", subshell_id=subshell)["status"] == "ok"


def test_another_exception_goes_to_the_hook_from_before(kernel: KernelProcess) -> None:
    text = kernel.text(
        "before = sys.unraisablehook\n"
        "sys.unraisablehook = lambda unraisable: print('a cell has it:', unraisable.exc_value)\n"
        "class Fails:\n    def __del__(self): 1 / 0\n"
        "Fails()\n"
        "sys.unraisablehook = before\n"
        "None"
    )
    assert text == "a cell has it: division by zero\n"
    _, outputs = kernel.execute("Fails()\nNone")
    said = "".join(one["content"].get("text", "") for one in outputs)
    assert "Exception ignored" in said
    assert "ZeroDivisionError" in said
