"""``get_ipython()`` and its kernel have what extensions written for ipykernel ask them for."""

from __future__ import annotations

import pytest

from trikernel.client import Execution
from trikernel.testing import CheckedClient

from ..cells import contents


def results(heard: Execution) -> list[str]:
    return [one["data"]["text/plain"] for one in contents(heard, "execute_result")]


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("get_ipython().has_trait('kernel')", "True"),
        ("get_ipython().parent.shell is get_ipython()", "True"),
        ("get_ipython().parent.parent", None),
        ("type(get_ipython())", "ipykernel.zmqshell.ZMQInteractiveShell"),
        ("type(sys.stdout)", "ipykernel.iostream.OutStream"),
        ("kernel.parent", None),
        ("hasattr(get_ipython().parent, 'nothing')", "False"),
        ("kernel.user_module is get_ipython().user_module", "True"),
        ("kernel.get_parent('shell')['header']['msg_type']", "'execute_request'"),
        ("kernel.get_parent('control')", "{}"),
        ("kernel._parent_header['content']['silent']", "False"),
        ("get_ipython().display_pub.parent_header['msg_type']", "'execute_request'"),
        ("get_ipython().displayhook.parent_header['msg_type']", "'execute_request'"),
        ("sys.stdout.parent_header['msg_type']", "'execute_request'"),
        ("isinstance(kernel.session, __import__('jupyter_client').session.Session)", "True"),
        ("bool(kernel.session.username)", "True"),
        ("len(kernel.shell_streams)", "1"),
        ("kernel.iopub_socket is not None and kernel.stdin_socket is not None", "True"),
        ("kernel.do_complete('imp', 3)['matches']", "['import']"),
        ("kernel.do_inspect('print', 3)['found']", "True"),
        ("kernel.do_is_complete('for')['status']", "'invalid'"),
        ("kernel.do_history('tail', False, True, n=1)['status']", "'ok'"),
        ("get_ipython().config.IPKernelApp", "{}"),
    ],
)
async def test_an_attribute_is_there(
    kernel_client: CheckedClient, code: str, value: str | None
) -> None:
    await kernel_client.execute("import sys; kernel = get_ipython().kernel")
    heard = await kernel_client.execute(code)
    assert heard.status == "ok"
    assert results(heard) == ([] if value is None else [value])


async def test_a_shell_keeps_its_kernel(kernel_client: CheckedClient) -> None:
    heard = await kernel_client.execute("get_ipython().kernel = None")
    assert contents(heard, "error")[0]["evalue"] == "a shell keeps its kernel"


@pytest.mark.parametrize(
    "owner", ["sys.stdout", "get_ipython().display_pub", "get_ipython().displayhook", "kernel"]
)
async def test_a_parent_that_is_set_holds_for_what_is_put_out_then(
    kernel_client: CheckedClient, owner: str
) -> None:
    await kernel_client.execute("import sys; kernel = get_ipython().kernel")
    first = await kernel_client.execute("parent = kernel.get_parent()")
    arguments = "[], parent" if owner == "kernel" else "parent"
    heard = await kernel_client.execute(f"{owner}.set_parent({arguments})\nprint('there')")
    assert heard.stdout == ""
    assert first.stdout == "there\n"


OUTPUTS = ["sys.stdout", "get_ipython().display_pub", "get_ipython().displayhook"]


@pytest.mark.parametrize("owner", OUTPUTS)
@pytest.mark.parametrize("call", ["{0}.set_parent(header)", "{0}.parent_header = header"])
async def test_a_header_is_enough_of_a_parent(
    kernel_client: CheckedClient, owner: str, call: str
) -> None:
    first = await kernel_client.execute(f"import sys; header = {owner}.parent_header")
    heard = await kernel_client.execute(f"{call.format(owner)}\nprint('there')")
    assert heard.stdout == ""
    assert first.stdout == "there\n"


@pytest.mark.parametrize("owner", ["get_ipython()", *OUTPUTS])
async def test_a_parent_is_set_in_a_thread_and_reset_there(
    kernel_client: CheckedClient, owner: str
) -> None:
    first = await kernel_client.execute(
        "import sys, threading; parent = get_ipython().get_parent()"
    )
    heard = await kernel_client.execute(
        "def speak():\n"
        "    print('here')\n"
        f"    token = {owner}.set_thread_parent(parent)\n"
        "    print('there')\n"
        f"    {owner}.reset_thread_parent(token)\n"
        "    print('here again')\n"
        "thread = threading.Thread(target=speak)\n"
        "thread.start()\n"
        "thread.join()\n"
        "print('here still')"
    )
    assert heard.stdout == "here\nhere again\nhere still\n"
    assert first.stdout == "there\n"


async def test_the_thread_and_the_subshell_of_a_cell_are_told(kernel_client: CheckedClient) -> None:
    text = (await kernel_client.execute("%subshell")).stdout
    assert text.splitlines()[0] == "subshell id: None"
    assert text.splitlines()[-1] == "subshell list: []"
