"""What we do for a cell, its transformation and its run, gives what IPython's gives."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.compilerop import CachingCompiler
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type

from trikernel.python import PythonKernel
from trikernel.python.fast_paths import CellTransformers
from trikernel.python.shell import ZMQInteractiveShell

_SYNTAX = '% %% ! !! ? ?? , ; / >>> ... In[1]: if\xa0a: f\'{ } ( ) [ ] { } \' " """ # a = 1 time ls'
PIECES = [*_SYNTAX.split(" "), " ", "    ", "\n", "\\\n", "\t", "\f", "\u2028", "\x1c", "\xa0"]
CELLS = [
    "a = 1 + 1",
    "%time a",
    "a = %time 1",
    "files = !ls",
    "    %time a",
    "a?",
    "?a",
    "f(\n%time\n)",
    ", f a b",
    "  ; f a",
    "/f 1",
    "a = 4 / 2; b = 3 % 2",
    "x = 1, 2",
    "a = \\\n, b",
    "print('%s?')",
    "if a:\n    !ls",
    "%%bash\nls",
    ">>> a = 1",
    "In [1]: a",
    "  indented = 1\n  more = 2",
    "'''\n%time\n'''",
]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_transformed_as_ipython_does(cell: str) -> None:
    assert CellTransformers().transform_cell(cell) == TransformerManager().transform_cell(cell)


@pytest.mark.parametrize("code", [*CELLS, "if a:\n        b\n    c", "if a:", "(", "a\n"])
def test_a_cell_is_as_complete_as_ipython_says(code: str) -> None:
    assert CellTransformers().check_complete(code) == TransformerManager().check_complete(code)


@pytest.mark.filterwarnings("ignore:`make_tokens_by_line`")
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=500)
def test_any_cell_is_transformed_as_ipython_does(cell: str) -> None:
    def transformed(manager: TransformerManager) -> object:
        try:
            return manager.transform_cell(cell)
        except (SyntaxError, RuntimeError) as error:
            return error

    theirs = transformed(TransformerManager())
    ours = transformed(CellTransformers())
    if isinstance(theirs, IndentationError) and isinstance(ours, str):
        with pytest.raises(SyntaxError):  # it is found when the cell is compiled
            compile(ours, "<cell>", "exec")
    else:
        assert repr(ours) == repr(theirs)


def test_somebodys_own_transformer_is_asked() -> None:
    class Own:
        @classmethod
        def find(cls, tokens_by_line: object) -> None:
            asked.append(tokens_by_line)

    asked: list[object] = []
    ours = CellTransformers()
    ours.token_transformers.append(Own)
    assert ours.transform_cell("a = 1") == "a = 1\n"
    assert len(asked) == 1


@pytest.fixture
def kernel() -> PythonKernel:
    return PythonKernel()


async def test_somebodys_own_manager_takes_its_place(kernel_client: Any) -> None:
    await kernel_client.expect(
        "from IPython.core.inputtransformer2 import TransformerManager\n"
        "get_ipython().input_transformer_manager = TransformerManager()",
        status="ok",
    )
    await kernel_client.expect("%precision\n1 + 1", result="2")


# The shell's: what depends on the namespace, too

LINES = ["ls", "exit", "macro", "time", "a", "np", "=", ",", ".", "(", ")", "*", " ", "1", "é", "_"]


@pytest.mark.filterwarnings("ignore:`make_tokens_by_line`")
async def test_any_line_is_transformed_as_ipython_does(kernel: PythonKernel, serving: Any) -> None:
    async with serving(kernel) as client:
        await client.expect("from IPython.core.macro import Macro\nmacro = Macro('1')\na = np = 1")
        shell = kernel.shell

        @given(st.lists(st.sampled_from(LINES), max_size=6).map("".join), st.integers(0, 2))
        @settings(max_examples=200)
        def compare(line: str, autocall: int) -> None:
            shell.autocall = autocall
            assert shell.transform_cell(line) == InteractiveShell.transform_cell(shell, line)

        compare()
        shell.prefilter_manager.checkers[2].enabled = False  # it keeps assignments from magics
        for line in ["ls = 1", "a = 1"]:
            assert shell.transform_cell(line) == InteractiveShell.transform_cell(shell, line)


STATEMENTS = [
    "a = 1",
    "a + 1",
    "a: int = 2",
    "a += 1",
    "b, a = 1, 2",
    "None",
    "next(iter([]))",
    "1 / 0",
    "raise SystemExit(3)",
    "raise BaseException",
    "return 1",
    "from __future__ import annotations",
    "get_ipython().run_line_magic('pastebin', '')",
    "x = (",
    "  indented",
    "await missing()",
    "import warnings; warnings.warn('w', stacklevel=1)",
    "'\ud800'",
    "",
]


@pytest.mark.filterwarnings("ignore:w:UserWarning")
async def test_any_cell_runs_as_in_ipython(kernel: PythonKernel, serving: Any) -> None:
    """The result, what is counted, kept and shown, and the hooks that are called."""
    async with serving(kernel) as client:
        await client.expect("a = 0")
        shell: Any = kernel.shell
        theirs = partial(InteractiveShell.run_cell_async, shell)
        run_ast_nodes = {
            theirs: partial(InteractiveShell.run_ast_nodes, shell),
            shell.run_cell_async: shell.run_ast_nodes,
        }
        seen: list[Any] = []
        events = "pre_execute", "pre_run_cell"
        for event in events:
            shell.events.register(event, lambda *arguments, event=event: seen.append(event))
        shell.showtraceback = lambda *arguments, **options: seen.append("traceback")
        shell.showsyntaxerror = lambda *arguments, **options: seen.append("syntax")
        shell.showindentationerror = lambda *arguments, **options: seen.append("indentation")
        shell.show = lambda error: seen.append(type(error))

        def run(way: Any, cell: str, **options: Any) -> list[Any]:
            """By hand, as nothing in these cells waits."""
            seen.clear()
            shell.run_ast_nodes = run_ast_nodes[way]
            shell.user_ns["a"], shell.execution_count = 0, 7
            history = shell.history_manager
            history.exceptions.clear()
            history.reset(new_session=False)
            shell.compile.reset_compiler_flags()
            with suppress(StopIteration):
                way(cell, transformed_cell=cell, **options).send(None)
                raise AssertionError("it waits")
            result = shell.last_execution_result
            return [
                *seen,
                shell.user_ns.get("a"),
                shell.execution_count,
                shell.last_execution_succeeded,
                shell.compile.flags,
                history.input_hist_raw,
                history.input_hist_parsed,
                sorted(history.exceptions),
                result.execution_count,
                result.result,
                result.success,
                type(result.error_before_exec),
                type(result.error_in_exec),
                vars(result.info),
                shell.displayhook.exec_result,
            ]

        @given(
            st.lists(st.sampled_from(STATEMENTS), max_size=3).map("\n".join),
            st.sampled_from(["all", "last", "last_expr", "none", "last_expr_or_assign"]),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        )
        @settings(max_examples=150)
        def compare(cell: str, mode: str, silent: bool, store: bool, share: bool) -> None:
            options = {"silent": silent, "store_history": store, "shell_futures": share}
            shell.ast_node_interactivity = mode
            assert run(shell.run_cell_async, cell, **options) == run(theirs, cell, **options)

        compare()


async def test_hooks_are_told_the_metadata_of_a_request(kernel_client: Any) -> None:
    await kernel_client.expect(
        "get_ipython().events.register('pre_run_cell', lambda info: print(info.cell_meta))"
    )
    told = await kernel_client.execute("1", metadata={"mine": {"a": 1}})
    assert told.stdout == "{'mine': {'a': 1}}\n"
    told = await kernel_client.execute("1")
    assert told.stdout == "{}\n"


async def test_somebodys_own_compiler_takes_its_place(serving: Any) -> None:
    class Own(CachingCompiler):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(args)
            return super().__call__(*args, **kwargs)

    class Shell(ZMQInteractiveShell):
        compiler_class = Type(Own)

    asked: list[object] = []
    kernel = PythonKernel()
    kernel.shell_class = Shell
    async with serving(kernel) as client:
        await client.expect("await __import__('trio').sleep(0)\n1 + 1", result="2")
    assert asked


PREFILTERS = {
    "a handler": "class Own(PrefilterHandler):\n    handler_name = 'normal'\n"
    "    def handle(self, line_info): return '2'\n"
    "own = Own(shell=ip, prefilter_manager=manager, parent=manager)",
    "a checker that was off": "class Own(PrefilterHandler):\n    handler_name = 'own'\n"
    "    def handle(self, line_info): return '2'\n"
    "own = Own(shell=ip, prefilter_manager=manager, parent=manager)\n"
    "class Check(PrefilterChecker):\n    def check(self, line_info): return own\n"
    "check = Check(shell=ip, prefilter_manager=manager, parent=manager)\ncheck.enabled = False",
    "a method": "manager.prefilter_lines = lambda lines, continue_prompt=False: '2'",
    "a method of the transformers": "transformers = ip.input_transformer_manager\n"
    "transformers.transform_cell = lambda cell: '2'",
}


@pytest.mark.parametrize("name", PREFILTERS)
async def test_what_somebody_puts_into_the_way_of_a_line_is_heard(
    kernel_client: Any, name: str
) -> None:
    await kernel_client.expect(
        "from IPython.core.prefilter import PrefilterChecker, PrefilterHandler\n"
        "ip = get_ipython(); manager = ip.prefilter_manager"
    )
    await kernel_client.expect(f"{PREFILTERS[name]}\npass")
    if "off" in name:
        await kernel_client.expect("1", result="1")
        await kernel_client.expect("pass\ncheck.enabled = True")
    await kernel_client.expect("1", result="2")
