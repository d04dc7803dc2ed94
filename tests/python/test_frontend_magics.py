"""Magics that ask something of a frontend, and what people and libraries know of ipykernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trikernel.testing import CheckedClient
from trikernel.transport import read_connection_file

from ..processes import kernel_process


async def test_clear_clears_a_terminal(kernel_client: CheckedClient) -> None:
    await kernel_client.expect("%clear", stdout="\033[H\033[2J")


@pytest.mark.parametrize(
    ("line", "number"), [("{path}", None), ("-n 3 {path}", 3), ("function", 2)]
)
async def test_edit_asks_the_frontend_for_an_editor(
    kernel_client: CheckedClient, tmp_path: Path, line: str, number: int | None
) -> None:
    path = tmp_path / "code.py"
    path.write_text("\ndef function():\n    return 1\n", "utf-8")
    await kernel_client.expect(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from code_ import function"
        if line == "function" and path.rename(tmp_path / "code_.py")
        else "pass"
    )
    execution = await kernel_client.expect(f"%edit {line.format(path=path)}")
    assert execution.reply is not None
    (payload,) = execution.reply.content["payload"]
    assert payload["source"] == "edit_magic"
    assert Path(payload["filename"]).parent == tmp_path
    assert payload["line_number"] == number


@pytest.mark.parametrize(
    ("line", "script", "said"),
    [
        ("5", "IPython.notebook.set_autosave_interval(5000)", "Autosaving every 5 seconds"),
        ("0", "IPython.notebook.set_autosave_interval(0)", "Autosave disabled"),
    ],
)
async def test_autosave_tells_the_notebook(
    kernel_client: CheckedClient, line: str, script: str, said: str
) -> None:
    execution = await kernel_client.expect(f"%autosave {line}", stdout=said)
    assert execution.outputs[0]["data"]["application/javascript"] == script


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%autosave often", "%autosave: give a number of seconds, not 'often'"),
        ("%qtconsole", "%qtconsole: this kernel has no connection file"),
        ("%connect_info", "%connect_info: this kernel has no sockets of its own"),
    ],
)
async def test_what_cannot_be_is_said(kernel_client: CheckedClient, line: str, words: str) -> None:
    execution = await kernel_client.execute(line)
    assert execution.reply is not None
    assert execution.reply.content["evalue"] == words


def test_connect_info_is_a_file_that_a_client_takes(tmp_path: Path) -> None:
    with kernel_process() as kernel:
        text = kernel.text("%connect_info")
        shown, _, words = text.partition("\n}\n")
        copy = tmp_path / "copy.json"
        copy.touch(0o600)
        copy.write_text(shown + "\n}", "utf-8")
        assert read_connection_file(copy) == read_connection_file(kernel.path)
        assert str(kernel.path) in words
        assert set(json.loads(shown + "\n}")) >= {"shell_port", "key", "transport"}


async def test_an_exit_in_a_cell_says_how_to_exit(kernel_client: CheckedClient) -> None:
    execution = await kernel_client.expect("raise SystemExit(3)", error="SystemExit: 3")
    assert execution.stderr == "To exit: use 'exit', 'quit', or Ctrl-D.\n"


@pytest.mark.parametrize("data", ["text", ["a", 1], 5, None, {"a": 1}])
async def test_a_comm_may_carry_any_json_value(kernel_client: CheckedClient, data: Any) -> None:
    await kernel_client.expect(
        "def opened(comm, message):\n"
        "    print(message['content']['data'])\n"
        "    comm.on_msg(lambda message: print(message['content']['data']))\n"
        "get_ipython().kernel.comm_manager.register_target('mine', opened)"
    )
    content = {"comm_id": "one", "target_name": "mine", "data": data}
    opened = kernel_client.send("comm_open", content)
    await opened.wait()
    assert opened.stdout == f"{data}\n"
    told = kernel_client.send("comm_msg", {"comm_id": "one", "data": data})
    await told.wait()
    assert told.stdout == f"{data}\n"
