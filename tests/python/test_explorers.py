"""What variable explorers, data viewers and completers of frontends send, as they send it.

The shapes of the requests are those of JupyterLab's variable inspector, of VS Code's Jupyter
extension (its variables, its data viewer, its own code run silently) and of what shows expressions
in text; the code in them is ours.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from trikernel.client import Execution
from trikernel.testing import CheckedClient

from ..cells import ask, contents, reply_of

SILENTLY = {
    "silent": False, "store_history": False, "stop_on_error": False, "allow_stdin": True,
    "user_expressions": {},
}  # fmt: skip

INSPECTOR = """
import json as _explorer_json
from sys import getsizeof as _explorer_size
from IPython import get_ipython as _explorer_shell
from IPython.core.magics.namespace import NamespaceMagics as _ExplorerNames
from IPython.display import JSON as _ExplorerJSON

_explorer_names = _ExplorerNames()
_explorer_names.shell = _explorer_shell().kernel.shell

def _explorer_list():
    found = _explorer_names.who_ls()
    rows = [
        {"name": name, "type": type(eval(name)).__name__, "size": str(_explorer_size(eval(name)))}
        for name in found if not name.startswith("_")
    ]
    return _explorer_json.dumps(rows, ensure_ascii=False)

def _explorer_rows(name):
    return _ExplorerJSON({"schema": {"fields": []}, "data": [[one] for one in eval(name)]})
"""

VIEWER = """
import builtins as _viewer_builtins
import json as _viewer_json

def _viewer_types(*names):
    _viewer_builtins.print(_viewer_json.dumps({n: type(globals()[n]).__name__ for n in names}))
"""


async def silently(client: CheckedClient, code: str) -> Execution:
    """What an explorer sends behind the cells."""
    heard = await client.send("execute_request", {"code": code, **SILENTLY}).wait()
    assert heard.status == "ok"
    return heard


@pytest.mark.parametrize("failed_before", [False, True], ids=["after a cell", "after an error"])
async def test_an_inspector_lists_and_shows_variables(
    kernel_client: CheckedClient, failed_before: bool
) -> None:
    await kernel_client.execute("numbers = [1, 2]\nname = 'Ada'")
    if failed_before:
        await kernel_client.execute("1/0", stop_on_error=True)
    await silently(kernel_client, INSPECTOR)
    heard = await silently(kernel_client, "_explorer_list()")
    (result,) = contents(heard, "execute_result")
    text = result["data"]["text/plain"]
    rows = json.loads(text[1:-1].replace("\\'", "'"))
    assert {(one["name"], one["type"]) for one in rows} == {("numbers", "list"), ("name", "str")}
    heard = await silently(kernel_client, "_explorer_rows('numbers')")
    (result,) = contents(heard, "execute_result")
    assert result["data"]["application/json"]["data"] == [[1], [2]]


async def test_a_viewer_reads_what_it_prints_and_clears_up(kernel_client: CheckedClient) -> None:
    await kernel_client.execute("numbers = [1, 2]")
    count = reply_of(await kernel_client.execute("1"))["execution_count"]
    await silently(kernel_client, VIEWER)
    heard = await silently(kernel_client, "_viewer_types('numbers')")
    assert json.loads(heard.stdout) == {"numbers": "list"}
    await silently(kernel_client, "del _viewer_types, _viewer_json, _viewer_builtins")
    heard = await kernel_client.execute("2")
    assert reply_of(heard)["execution_count"] == count + 1
    assert "_viewer" not in str(reply_of(await ask(kernel_client, "history_request", HISTORY)))


HISTORY: dict[str, Any] = {
    "hist_access_type": "tail", "n": 50, "output": False, "raw": True,
}  # fmt: skip


@pytest.mark.parametrize("code", ["", "numbers.append(3)"])
async def test_expressions_are_asked_for_silently_right_after_an_error(
    kernel_client: CheckedClient, code: str
) -> None:
    await kernel_client.execute("numbers = [1, 2]")
    failing = kernel_client.start("1/0", stop_on_error=True)
    await failing.wait()
    expressions = {"value": "len(numbers)", "wrong": "nothing_of_that_name", "bad": "1 +"}
    heard = await kernel_client.start(
        code, silent=True, store_history=False, user_expressions=expressions
    ).wait()
    reply = reply_of(heard)
    assert reply["status"] == "ok"
    values = reply["user_expressions"]
    assert values["value"]["status"] == "ok"
    assert values["value"]["data"]["text/plain"] == str(2 + bool(code))
    assert (values["wrong"]["status"], values["wrong"]["ename"]) == ("error", "NameError")
    assert values["bad"]["ename"] == "SyntaxError"
    assert {one.msg_type for one in heard.messages} <= {"status"}


async def test_a_completer_is_answered_while_an_error_is_fresh(
    kernel_client: CheckedClient,
) -> None:
    await kernel_client.execute("numbers = [1, 2]")
    await kernel_client.start("1/0", stop_on_error=True).wait()
    content = {"code": "numb", "cursor_pos": 4}
    reply = reply_of(await ask(kernel_client, "complete_request", content))
    assert "numbers" in reply["matches"]
    content = {"code": "numbers", "cursor_pos": 7, "detail_level": 0}
    assert reply_of(await ask(kernel_client, "inspect_request", content))["found"] is True
