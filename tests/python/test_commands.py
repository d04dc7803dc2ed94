"""Programs that cells start: their output, their status, and an interrupt that ends them all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..processes import KernelProcess, kernel_process, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups and terminals")


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        yield kernel


def streamed(outputs: list[dict[str, Any]], name: str = "stdout") -> str:
    return "".join(
        one["content"]["text"]
        for one in outputs
        if one["msg_type"] == "stream" and one["content"]["name"] == name
    )


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("!echo one; echo two >&2", "one\r\ntwo\r\n"),
        ("word = 'three'\n!echo $word {word}", "three three\r\n"),
        ("def f():\n    local = 'four'\n    !echo $local\nf()", "four\r\n"),
        ("x = !echo five; echo six\nprint(x)", "['five', 'six']\n"),
        ("def f():\n    local = 7\n    x = !echo {local}\n    print(x)\nf()", "['7']\n"),
        ("!printf '\\303\\244'; sleep 0.1; printf '\\303'; sleep 0.1; printf '\\266'", "äö"),
        ("%%bash\necho eight", "eight\n"),
        ("%%bash --out x\necho nine\n", ""),
        ("print(x)", "nine\n\n"),
        ("%%script cat\nten", "ten\n"),
        ("%%script no-such-program\nx", "Couldn't find program: 'no-such-program'\n"),
        ("!exit 3\nprint(_exit_code)", "3\n"),
        ("!kill -9 $$\nprint(_exit_code)", "-9\n"),
        ("%%bash --no-raise-error\nexit 3", ""),
        ("%%script --no-raise-error true\n" + "long line\n" * 20_000, ""),
    ],
)
def test_a_program_runs_as_ipython_runs_it(kernel: KernelProcess, code: str, printed: str) -> None:
    reply, outputs = kernel.execute(code)
    assert reply["status"] == "ok", reply
    assert streamed(outputs) == printed


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("!read typed; echo got=$typed", "got=\r\n"),
        ("!cat; read y 2>/dev/null < /dev/tty || echo none", "none\r\n"),
        ("!test -t 1 && stty size <&1", "24 80\r\n"),  # its output is a terminal all the same
        ("x = !read typed; echo got=$typed\nprint(x)", "['got=']\n"),
        ("%%bash\nread x 2>/dev/null < /dev/tty || echo none", "none\n"),
        ("%%script sh\nread x\nthe input of read\nread y || echo none", "none\n"),
    ],
)
def test_a_program_that_reads_what_a_person_types_finds_the_end(
    kernel: KernelProcess, code: str, printed: str
) -> None:
    reply, outputs = kernel.execute(code)
    assert reply["status"] == "ok", reply
    assert streamed(outputs) == printed


def test_what_a_program_writes_to_stderr_goes_there(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute("%%bash\necho good\necho bad >&2")
    assert (streamed(outputs), streamed(outputs, "stderr")) == ("good\n", "bad\n")


def test_a_script_that_fails_raises(kernel: KernelProcess) -> None:
    reply, _ = kernel.execute("%%bash\nexit 3")
    assert reply["ename"] == "CalledProcessError"
    assert "status 3" in reply["evalue"]


def test_a_command_that_fails_raises_if_that_is_wanted(kernel: KernelProcess) -> None:
    kernel.execute("get_ipython().system_raise_on_error = True")
    try:
        for code in ("!exit 3", "x = !exit 3"):
            reply, _ = kernel.execute(code)
            assert reply["ename"] == "CalledProcessError"
    finally:
        kernel.execute("get_ipython().system_raise_on_error = False")


WAITING = "echo $$ > {path}; trap '' INT HUP TERM; sleep 1000 & sleep 1000; sleep 1000"


@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("way", ["!{0}", "x = !{0}", "%%bash\n{0}", "%%script sh\n{0}"])
def test_an_interrupt_ends_the_program_and_its_children(
    kernel: KernelProcess, tmp_path: Path, way: str, by: str
) -> None:
    path = tmp_path / "pid"
    msg_id = kernel.send(way.format(WAITING.format(path=path)) + "\nprint('went on')")
    number = int(wait_until(lambda: path.exists() and path.read_text(), "the program"))
    program = psutil.Process(number)
    children = wait_until(
        lambda: len(program.children()) > 1 and program.children(), "two children"
    )
    kernel.interrupt(by)
    reply, outputs = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert "went on" not in streamed(outputs)
    _, alive = psutil.wait_procs([program, *children], timeout=10)
    assert alive == []


def test_a_script_may_stay_in_the_background(kernel: KernelProcess) -> None:
    reply, _ = kernel.execute("%%bash --bg --proc p\nsleep 1000")
    assert reply["status"] == "ok"
    assert kernel.text("p.kill(); print('killed')") == "killed\n"


def test_scripts_in_the_background_can_be_ended(kernel: KernelProcess) -> None:
    reply, _ = kernel.execute("%%bash --bg --proc p\nexec sleep 1000")
    assert reply["status"] == "ok"
    assert kernel.text("%killbgscripts").endswith("All background processes were killed.\n")
    assert kernel.text("while p.returncode is None: pass\nprint(p.returncode)") == "-2\n"


def test_magics_and_the_history_are_configured_by_ipythons_names(kernel: KernelProcess) -> None:
    listed = kernel.text("%config").split()
    for name, trait in (("HistoryManager", "db_cache_size"), ("ScriptMagics", "script_paths")):
        assert listed.count(name) == 1
        assert f"{name}.{trait}=" in kernel.text(f"%config {name}")
    assert (
        kernel.text(
            "%config ScriptMagics.script_paths = {'a': 'b'}\n"
            "print(get_ipython().run_line_magic('config', 'ScriptMagics.script_paths'))"
        )
        == "{'a': 'b'}\n"
    )
