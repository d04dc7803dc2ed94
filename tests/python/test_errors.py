"""What an error's traceback is: the list that IPython gives, without frames of ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import trio.testing

from trikernel.python import PythonKernel

from ..harness import Peer, open_peer


@pytest.fixture
async def peer(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Peer]:
    async with open_peer(PythonKernel()) as peer:
        yield peer


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
    peer: Peer, code: str, traceback: list[str]
) -> None:
    heard = await peer.execute(code)
    (error,) = heard.contents("error")
    assert plain(error["traceback"]) == traceback
    assert heard.reply["traceback"] == error["traceback"]


async def test_a_renderer_of_the_users_own_gives_what_it_likes(peer: Peer) -> None:
    code = "class E(Exception):\n    def _render_traceback_(self): return {0}\nraise E"
    for given, shown in (("['one', 2]", ["one", "2"]), ("'one\\ntwo'", ["one", "two"])):
        heard = await peer.execute(code.format(given), stop_on_error=False)
        assert heard.contents("error")[0]["traceback"] == shown


REPRESENTATIONS = ["__repr__", "_repr_html_", "_ipython_display_", "_repr_mimebundle_"]


@pytest.mark.parametrize("name", REPRESENTATIONS)
async def test_a_representation_that_raises_fails_the_cell(peer: Peer, name: str) -> None:
    heard = await peer.execute(
        f"class A:\n    def {name}(self, **options): raise ValueError('no look')\nA()",
        stop_on_error=False,
    )
    (error,) = heard.contents("error")
    assert (heard.reply["status"], heard.reply["ename"]) == ("error", "ValueError")
    assert heard.reply["evalue"] == "no look"
    assert heard.reply["traceback"] == error["traceback"]
    assert not any("trikernel" in line or "IPython" in line for line in error["traceback"])
    assert (await peer.execute("1")).reply["status"] == "ok"


async def test_a_representation_that_raises_aborts_what_waits(peer: Peer) -> None:
    code = "class A:\n    def __repr__(self): raise ValueError('no look')\nA()"
    failing, waiting = (peer.send("execute_request", {"code": one}) for one in (code, "1"))
    replies = [await peer.receive(), await peer.receive()]
    assert [one.content["status"] for one in replies] == ["error", "aborted"]
    for msg_id in (failing, waiting):
        await peer.until_idle(msg_id)


async def test_a_representation_that_display_asks_for_shows_its_error_only(peer: Peer) -> None:
    heard = await peer.execute(
        "from IPython.display import display\n"
        "class A:\n    def __repr__(self): raise ValueError('no look')\n"
        "display(A())\nprint('on')"
    )
    assert heard.reply["status"] == "ok"
    assert heard.contents("error")[0]["evalue"] == "no look"
    assert heard.text() == "on\n"


async def test_an_error_without_truth_is_an_error(peer: Peer) -> None:
    heard = await peer.execute("class E(Exception):\n    def __len__(self): return 0\nraise E('x')")
    assert (heard.reply["status"], heard.reply["ename"]) == ("error", "E")


@pytest.mark.parametrize(
    ("argument", "kind"), [("5", "int"), ("b'x'", "bytes"), ("None", "NoneType"), ("[]", "list")]
)
async def test_what_cannot_be_written_is_refused_by_name(
    peer: Peer, argument: str, kind: str
) -> None:
    for before in ("", "print('x'); "):
        heard = await peer.execute(
            f"import sys; {before}sys.stdout.write({argument})", stop_on_error=False
        )
        assert heard.reply["ename"] == "TypeError"
        assert heard.reply["evalue"] == f"write() argument must be str, not {kind}"


@pytest.mark.parametrize("value", ["-7", "'x'", "1.5", "None", "True", "2 ** 60"])
async def test_a_count_that_is_none_is_refused(peer: Peer, value: str) -> None:
    heard = await peer.execute(f"get_ipython().execution_count = {value}", stop_on_error=False)
    assert heard.reply["status"] == "error"
    assert "execution_count" in heard.reply["evalue"]
    heard = await peer.execute(f"get_ipython().kernel.execution_count = {value}")
    assert "execution_count" in heard.reply["evalue"]
    assert heard.reply["execution_count"] == 2


async def test_a_count_that_is_one_is_taken(peer: Peer) -> None:
    await peer.execute("get_ipython().execution_count = 41")
    heard = await peer.execute("'x'")
    assert heard.contents("execute_result")[0]["execution_count"] == 41


async def test_a_tasks_name_steers_no_terminal(peer: Peer) -> None:
    await peer.execute(
        "import trio\nfrom trikernel.notebook import nursery\n"
        "nursery.start_soon(trio.sleep_forever, name='\\x1b]52;c;eA==\\x07\\x9b2J')"
    )
    heard = await peer.execute("%tasks")
    (bundle,) = (one["data"] for one in heard.contents("execute_result"))
    for text in (bundle["text/plain"], bundle["text/html"]):
        assert r"\x1b]52;c;eA==\x07\x9b2J" in text
        assert not any(one in text for one in "\x1b\x07\x9b")
    heard = await peer.execute("%cancel \x1b]52;c;eA==\x07\x9b2J")
    assert heard.reply["status"] == "ok"
    assert "\x1b" not in heard.text()
