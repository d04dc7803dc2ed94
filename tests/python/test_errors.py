"""What an error's traceback is: the list that IPython gives, without frames of ours."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from types import ModuleType

import pytest
import trio.testing

from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient

from ..cells import Cells, contents, reply_of, served


@pytest.fixture
async def client(autojump_clock: trio.testing.MockClock) -> AsyncIterator[CheckedClient]:
    async with served(PythonKernel()) as client:
        yield client


def plain(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


LINE = "-" * 75


@pytest.mark.parametrize(
    ("code", "traceback"),
    [
        (
            "def f():\n    return 1/0\nf()",
            [
                LINE,
                "ZeroDivisionError                         Traceback (most recent call last)",
                "Cell In[1], line 3\n      1 def f():\n      2     return 1/0\n----> 3 f()\n",
                "Cell In[1], line 2, in f()\n      1 def f():\n----> 2     return 1/0\n",
                "ZeroDivisionError: division by zero",
            ],
        ),
        (
            "raise ValueError('a\\nb')",
            [
                LINE,
                "ValueError                                Traceback (most recent call last)",
                "Cell In[1], line 1\n----> 1 raise ValueError('a\\nb')\n",
                "ValueError: a\nb",
            ],
        ),
        ("1 +", ["  Cell In[1], line 1\n    1 +\n       ^\nSyntaxError: invalid syntax\n"]),
        (
            "eval('1 +')",
            [
                "Traceback (most recent call last):\n",
                "  Cell In[1], line 1\n    eval('1 +')\n",
                "  File <string>:1\n    1 +\n      ^\nSyntaxError: invalid syntax\n",
            ],
        ),
        (
            "raise SystemExit(3)",
            ["An exception has occurred, use %tb to see the full traceback.\n", "SystemExit: 3\n"],
        ),
        (
            "%xmode Plain\n1/0",
            [
                "Traceback (most recent call last):\n",
                "  Cell In[1], line 2\n    1/0\n",
                "ZeroDivisionError: division by zero\n",
            ],
        ),
    ],
)
async def test_a_traceback_is_the_list_that_ipython_gives(
    client: CheckedClient, code: str, traceback: list[str]
) -> None:
    heard = await client.execute(code)
    (error,) = contents(heard, "error")
    assert plain(error["traceback"]) == traceback
    assert reply_of(heard)["traceback"] == error["traceback"]


async def test_a_renderer_of_the_users_own_gives_what_it_likes(client: CheckedClient) -> None:
    code = "class E(Exception):\n    def _render_traceback_(self): return {0}\nraise E"
    for given, shown in (("['one', 2]", ["one", "2"]), ("'one\\ntwo'", ["one", "two"])):
        heard = await client.execute(code.format(given), stop_on_error=False)
        assert contents(heard, "error")[0]["traceback"] == shown


REPRESENTATIONS = ["__repr__", "_repr_html_", "_ipython_display_", "_repr_mimebundle_"]


@pytest.mark.parametrize("name", REPRESENTATIONS)
async def test_a_representation_that_raises_fails_the_cell(
    client: CheckedClient, name: str
) -> None:
    heard = await client.execute(
        f"class A:\n    def {name}(self, **options): raise ValueError('no look')\nA()",
        stop_on_error=False,
    )
    (error,) = contents(heard, "error")
    assert (heard.status, reply_of(heard)["ename"]) == ("error", "ValueError")
    assert reply_of(heard)["evalue"] == "no look"
    assert reply_of(heard)["traceback"] == error["traceback"]
    assert not any("trikernel" in line or "IPython" in line for line in error["traceback"])
    assert (await client.execute("1")).status == "ok"


async def test_a_representation_that_raises_aborts_what_waits(client: CheckedClient) -> None:
    code = "class A:\n    def __repr__(self): raise ValueError('no look')\nA()"
    assert await Cells(client, code, "1").statuses() == ["error", "aborted"]


async def test_a_representation_that_display_asks_for_shows_its_error_only(
    client: CheckedClient,
) -> None:
    heard = await client.execute(
        "from IPython.display import display\n"
        "class A:\n    def __repr__(self): raise ValueError('no look')\n"
        "display(A())\nprint('on')"
    )
    assert heard.status == "ok"
    assert contents(heard, "error")[0]["evalue"] == "no look"
    assert heard.stdout == "on\n"


async def test_an_error_without_truth_is_an_error(client: CheckedClient) -> None:
    heard = await client.execute(
        "class E(Exception):\n    def __len__(self): return 0\nraise E('x')"
    )
    assert (heard.status, reply_of(heard)["ename"]) == ("error", "E")


@pytest.mark.parametrize(
    ("argument", "kind"), [("5", "int"), ("b'x'", "bytes"), ("None", "NoneType"), ("[]", "list")]
)
async def test_what_cannot_be_written_is_refused_by_name(
    client: CheckedClient, argument: str, kind: str
) -> None:
    for before in ("", "print('x'); "):
        heard = await client.execute(
            f"import sys; {before}sys.stdout.write({argument})", stop_on_error=False
        )
        assert reply_of(heard)["ename"] == "TypeError"
        assert reply_of(heard)["evalue"] == f"write() argument must be str, not {kind}"


@pytest.mark.parametrize("value", ["-7", "'x'", "1.5", "None", "True", "2 ** 60"])
async def test_a_count_that_is_none_is_refused(client: CheckedClient, value: str) -> None:
    heard = await client.execute(f"get_ipython().execution_count = {value}", stop_on_error=False)
    assert heard.status == "error"
    assert "execution_count" in reply_of(heard)["evalue"]
    heard = await client.execute(f"get_ipython().kernel.execution_count = {value}")
    assert "execution_count" in reply_of(heard)["evalue"]
    assert reply_of(heard)["execution_count"] == 2


async def test_a_count_that_is_one_is_taken(client: CheckedClient) -> None:
    await client.execute("get_ipython().execution_count = 41")
    heard = await client.execute("'x'")
    assert contents(heard, "execute_result")[0]["execution_count"] == 41


async def test_a_tasks_name_steers_no_terminal(client: CheckedClient) -> None:
    await client.execute(
        "import trio\nfrom trikernel.notebook import nursery\n"
        "nursery.start_soon(trio.sleep_forever, name='\\x1b]52;c;eA==\\x07\\x9b2J')"
    )
    heard = await client.execute("%tasks")
    (bundle,) = (one["data"] for one in contents(heard, "execute_result"))
    for text in (bundle["text/plain"], bundle["text/html"]):
        assert r"\x1b]52;c;eA==\x07\x9b2J" in text
        assert not any(one in text for one in "\x1b\x07\x9b")
    heard = await client.execute("%cancel \x1b]52;c;eA==\x07\x9b2J")
    assert heard.status == "ok"
    assert "\x1b" not in heard.stdout


async def value_of(client: CheckedClient, code: str) -> str:
    (result,) = contents(await client.execute(code), "execute_result")
    return str(result["data"]["text/plain"])


HANDLER = """
def handler(shell, etype, value, tb, tb_offset=None):
    called.append((etype.__name__, str(value), tb.tb_next.tb_frame.f_code.co_name, tb_offset))
    {0}
called = []
get_ipython().set_custom_exc((ArithmeticError,), handler)
"""


@pytest.mark.parametrize("code", ["1/0", "get_ipython().run_cell('1/0').error_in_exec and None"])
@pytest.mark.parametrize(
    ("shows", "traceback"),
    [
        ("return ['mine', 'own']", [["mine", "own"]]),
        ("return None", []),
        ("shell._showtraceback(etype, value, ['shown']); return ['again']", [["shown"]]),
        (
            "import sys; return [str(sys.exc_info()[:2] == (etype, value)), "
            "str(sys.exc_info()[2] is tb), str(value.__context__)]",
            [["True", "True", "None"]],
        ),
    ],
)
async def test_a_handler_for_errors_shows_them(
    client: CheckedClient, code: str, shows: str, traceback: list[list[str]]
) -> None:
    await client.execute(HANDLER.format(shows))
    heard = await client.execute(code, stop_on_error=False)
    assert [one["traceback"] for one in contents(heard, "error")] == traceback
    assert reply_of(heard)["status"] == ("error" if code == "1/0" else "ok")
    assert await value_of(client, "called") == (
        "[('ZeroDivisionError', 'division by zero', '<module>', None)]"
    )


async def test_a_handler_that_fails_leaves_the_error_shown(client: CheckedClient) -> None:
    await client.execute(HANDLER.format("raise OSError"))
    (error,) = contents(await client.execute("1/0", stop_on_error=False), "error")
    assert error["ename"] == "ZeroDivisionError"
    assert "1/0" in "".join(plain(error["traceback"]))
    assert contents(await client.execute("[][0]", stop_on_error=False), "error")


FRAMES = """
import sys, traceback
def frames(tb): return [(one.filename.rpartition("/")[2][:10], one.name) for one in
                        traceback.extract_tb(tb)]
"""


@pytest.mark.parametrize("code", ["1/0", "raise ExceptionGroup('', [OSError(), OSError()])", "%tb"])
async def test_a_traceback_begins_in_ipythons_own_frame(client: CheckedClient, code: str) -> None:
    """As who leaves out ``tb_offset`` frames relies on."""
    await client.execute(FRAMES)
    await client.execute("1/0", stop_on_error=False)
    await client.execute(code, stop_on_error=False)
    assert (await value_of(client, "frames(sys.last_traceback)")).startswith(
        "[('interactiv', 'run_code'), ("
    )
    assert await value_of(client, "len(frames(sys.last_traceback))") == "2"


RENDERER = """
def show(etype, value, stb):
    tb = shell._get_exc_info()[2].tb_next  # without what is IPython's
    send(etype, value, [one.name for one in traceback.extract_tb(tb)])
import traceback
shell = get_ipython()
send, shell._showtraceback = shell._showtraceback, show
def f(): 1/0
"""


async def test_a_renderer_that_leaves_out_ipythons_frame_shows_the_cells(
    client: CheckedClient,
) -> None:
    await client.execute(RENDERER)
    (error,) = contents(await client.execute("f()", stop_on_error=False), "error")
    assert error["traceback"] == ["<module>", "f"]


async def test_plain_tracebacks_show_every_frame_of_the_cell(client: CheckedClient) -> None:
    await client.execute("%xmode Plain\ndef f(): 1/0")
    (error,) = contents(await client.execute("f()", stop_on_error=False), "error")
    assert "Cell In[2], line 1" in "".join(plain(error["traceback"]))


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
async def test_the_end_of_an_iterator_is_an_error_like_any_other(
    kernel_client: CheckedClient, loop: str
) -> None:
    await kernel_client.expect(f"%autoawait {loop}")
    failed = await kernel_client.expect("next(iter([]))", error=StopIteration)
    assert failed.error is not None
    assert "In[2]" in re.sub(r"\x1b[^m]*m", "", "".join(failed.error.traceback))


async def test_a_cell_begins_while_another_thread_imports_what_draws_errors(
    kernel_client: CheckedClient,
) -> None:
    await kernel_client.execute("1 / 0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "stack_data.core", ModuleType("stack_data.core"))
        await kernel_client.expect("1 + 1", result="2")
