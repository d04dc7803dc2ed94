"""The pytest plugin as a user has it: in a suite of their own, in a process of its own."""

from __future__ import annotations

import re

import nbformat
import pytest

pytestmark = pytest.mark.slow  # in processes of their own, whatever the Python

INI = "[pytest]\ntrio_mode = true\nfilterwarnings = error\n"

KERNEL = """
import pytest, trio, trikernel

class Slow(trikernel.Kernel):
    async def do_execute(self, code, silent, **options):
        if code == "crash":
            async def crash():
                raise LookupError("in the background")
            self.nursery.start_soon(crash)
            await trio.sleep(1)
        await trio.sleep(3600)
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})

    def do_complete(self, code, cursor_pos):
        self.log.warning("nothing to complete")
        return {"status": "ok", "matches": [], "cursor_start": 0, "cursor_end": 0, "metadata": {}}

@pytest.fixture
def kernel():
    return Slow()
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=120)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(INI)
    return pytester


def test_a_kernel_of_ones_own_is_tested_in_virtual_hours(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        KERNEL
        + """
async def test_mine(kernel_client, autojump_clock):
    for text in ("a", "b"):
        await kernel_client.expect(text, stdout=text)
    assert trio.current_time() >= 7200
"""
    )
    run(suite).assert_outcomes(passed=1)


def test_a_failed_test_shows_what_its_tasks_did(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
import trio

async def test_fails(kernel_client, autojump_clock):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 3, name="child")
        await kernel_client.expect("red", stdout="blue")

async def test_passes(kernel_client, autojump_clock):
    await trio.sleep(1)
"""
    )
    result = suite.runpytest("-q")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- timeline -*", "test_fails, *", "*<test 'test_fails'>*"])
    assert result.stdout.str().count("- timeline -") == 1


def test_without_a_kernel_of_ones_own_it_is_the_python_kernel(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
async def test_it(kernel_client):
    await kernel_client.expect("print('hi'); 6 * 7", stdout="hi", result=42)

async def test_it_again_in_a_fresh_namespace(kernel_client, kernel, python_kernel):
    assert kernel is python_kernel
    await kernel_client.expect("nothing", error=NameError)
"""
    )
    run(suite).assert_outcomes(passed=2)


def test_failures_show_the_cell_its_outputs_and_the_log_and_nothing_else(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        KERNEL
        + """
async def test_output(kernel_client, autojump_clock):
    await kernel_client.complete("x")
    await kernel_client.expect("blue", stdout="red")

async def test_own_assertion(kernel_client, autojump_clock):
    async with trio.open_nursery() as nursery:
        assert 1 == 2
"""
    )
    result = run(suite)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            '>   *await kernel_client.expect("blue", stdout="red")',
            "E * AssertionError: stdout should be 'red'",
            "E *              but is 'blue'",
            "E * cell:",
            "E *     blue",
            "E * outputs:",
            "E *     stdout: blue",
            "E * log:",
            "E *     WARNING nothing to complete",
            "*test_failures_*.py:*: AssertionError",
            "E * assert 1 == 2",
        ]
    )
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


def test_what_crashes_in_the_background_fails_the_test(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        KERNEL
        + """
async def test_crash(kernel_client, autojump_clock):
    await kernel_client.expect("crash", stdout="crash")

async def test_expected(kernel_client, autojump_clock):
    await kernel_client.expect("crash", stdout="crash")
    (error,) = kernel_client.pop_background_errors()
    assert isinstance(error, LookupError)

async def test_both(kernel_client, autojump_clock):
    await kernel_client.expect("crash", stdout="no")
"""
    )
    result = run(suite)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            '>   *raise LookupError("in the background")',
            "E *LookupError: in the background",
            "E *stdout should be 'no'",
            "E *besides, there was: LookupError: in the background",
        ]
    )
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


def test_a_process_serves_the_whole_session_and_is_replaced_when_it_dies(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        """
import os, sys
import pytest
from trikernel.errors import KernelDied

async def test_1(kernel_process):
    await kernel_process.expect("import os; x = os.getpid()")
    await kernel_process.expect("os.getppid()", result=os.getpid())

async def test_2(kernel_process):
    await kernel_process.expect("x == os.getpid()", result=True)

async def test_3(kernel_process):
    with pytest.raises(KernelDied):
        await kernel_process.expect("os._exit(1)")

async def test_4(kernel_process):
    await kernel_process.expect("x", error="NameError")
    cell = await kernel_process.execute("import os; os.getppid()")
    is_forked = cell.result["text/plain"] != str(os.getpid())
    assert is_forked == (sys.platform == "linux")

async def test_5(kernel_process):
    await kernel_process.expect("from trikernel.notebook import nursery; import trio")
    await kernel_process.expect(
        "async def crash(): raise ValueError('late')\\nnursery.start_soon(crash)"
    )
    await kernel_process.expect("await trio.sleep(0.2)")

async def test_6(kernel_process):
    kernel_process.expect("1", result=2)

async def test_7(kernel_process, autojump_clock):
    pass
"""
    )
    result = run(suite)
    result.assert_outcomes(passed=4, failed=3)
    result.stdout.fnmatch_lines(
        [
            "E *ValueError: late",
            "E *expect('1') was not awaited*",
            "E *kernel_process is a real process: it cannot run on a virtual*",
        ]
    )


def test_the_process_may_be_of_any_kernelspec(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
import pytest

@pytest.fixture(scope="session")
def kernel_process_name():
    return "python3"

async def test_it(kernel_process):
    assert kernel_process.info["implementation"] == "ipython"
    await kernel_process.expect("print(1)", stdout="1")
"""
    )
    run(suite).assert_outcomes(passed=1)


def write(pytester: pytest.Pytester, name: str, *cells: str) -> None:
    path = pytester.path / name
    path.parent.mkdir(exist_ok=True)
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)


def test_notebooks_are_tests_of_their_own(suite: pytest.Pytester) -> None:
    write(suite, "good.ipynb", "print(1)")
    write(suite, "folder/bad.ipynb", "x = 1", "def f():\n    return x / 0\nf()")
    write(suite, ".hidden/no.ipynb", "1/0")
    suite.makepyfile("def test_other(): pass")
    run(suite).assert_outcomes(passed=1)
    result = run(suite, "--trikernel-notebooks")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*bad.ipynb: cell 2 failed: ZeroDivisionError: division by zero",
            "cell:",
            "    def f():",
            "outputs:",
            "*ZeroDivisionError*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback (most recent call last):*File*")
    run(suite, "--trikernel-notebooks", "good.ipynb").assert_outcomes(passed=1)


def test_tests_that_take_the_fixture_are_run_for_each_notebook(suite: pytest.Pytester) -> None:
    write(suite, "a.ipynb", "import trio; await trio.sleep(3600)", "print('a')")
    write(suite, "b.ipynb", "1/0")
    suite.makepyfile(
        """
async def test_it(notebook, kernel_client, autojump_clock):
    executed = await notebook.run(kernel_client)
    assert executed.cells[1].outputs[0].text == "a\\n"
"""
    )
    run(suite).assert_outcomes(skipped=1)
    result = run(suite, "--trikernel-notebooks", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_it?a.ipynb? PASSED*", "*test_it?b.ipynb? FAILED*"])
    assert re.search(r"b\.ipynb: cell 1 failed: ZeroDivisionError", result.stdout.str())


def test_other_peoples_suites_are_left_alone(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
import trio
async def test_group():
    async with trio.open_nursery():
        raise LookupError
"""
    )
    result = run(suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ExceptionGroup*"])


def test_a_test_that_is_not_async_is_told(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
def test_sync(kernel_client):
    pass

async def test_async(kernel_client):
    await kernel_client.expect("1", result=1)
"""
    )
    result = run(suite)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*a test that takes 'kernel_client' must be an 'async def'*"])


def test_a_test_that_pytest_trio_does_not_run_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("async def test_it(kernel_client): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*put 'trio_mode = true' into pytest's configuration*"])


def test_errors_come_out_plainly_where_the_kit_is_imported(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        KERNEL
        + """
from trikernel.testing import open_memory_client

async def test_it(autojump_clock):
    async with open_memory_client(Slow()) as client:
        await client.expect("a", stdout="b")
"""
    )
    result = run(suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['> *await client.expect("a", stdout="b")'])
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


def test_a_test_that_would_pass_or_fail_without_a_word_says_what_is_wrong(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        KERNEL
        + """
from hypothesis import given, settings, strategies as st
from trikernel.testing import open_memory_client

@settings(deadline=None)
@given(st.integers())
async def test_many(kernel_client, n):
    await kernel_client.complete("x")

@settings(deadline=None)
@given(st.integers())
async def test_many_with_their_own(n):
    async with open_memory_client(Slow()) as client:
        await client.complete("x")

async def test_in_time(kernel_client, autojump_clock):
    with trio.fail_after(60):
        await kernel_client.expect("blue", stdout="blue")

async def test_in_time_somewhere(kernel_client, autojump_clock):
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel_client.execute, "green")
            await trio.sleep_forever()

async def test_in_its_own_time(kernel_client, autojump_clock):
    await kernel_client.expect("purple", timeout=60)

async def test_forgotten(kernel_client):
    kernel_client.expect("red", stdout="blue")

async def test_forgotten_too():
    async with open_memory_client(Slow()) as client:
        client.execute("yellow")
"""
    )
    result = run(suite)
    result.assert_outcomes(passed=1, failed=5, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*'kernel_client' is there once: write 'async with open_memory_client(MyKernel()) as *",
            "> * with trio.fail_after(60):",
            "E * trio.TooSlowError",
            "E * cell:",
            "E *     blue",
            "E * trio.TooSlowError",
            "E * cell:",
            "E *     green",
            '> * await kernel_client.expect("purple", timeout=60)',
            "E *ExecutionTimeout: the cell took longer than 60 seconds and was interrupted",
            "E * cell:",
            "E *     purple",
            "E * AssertionError: test_*.py:*: expect('red') was not awaited, so it has done *",
            "E * AssertionError: test_*.py:*: execute('yellow') was not awaited, so it has done *",
        ]
    )
    result.stdout.no_fnmatch_line("*Cancelled*")
    result.stdout.no_fnmatch_line("*never awaited*")
    result.stdout.no_fnmatch_line("*ExceptionGroup*")
    for name in ("test_in_time", "test_in_time_somewhere", "test_in_its_own_time"):
        shown = result.stdout.str().partition(f"_ {name} _")[2].partition("___ test_")[0]
        shown = shown.partition("--- timeline")[0]  # which is beside the error
        assert 5 < len(shown.splitlines()) < 20
