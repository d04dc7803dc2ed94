"""Libraries that look for a notebook find one, and work in it: the real packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..processes import KernelProcess, kernel_process


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        yield kernel


def shown(kernel: KernelProcess, code: str) -> list[dict[str, Any]]:
    """The data of what a cell shows."""
    reply, outputs = kernel.execute(code)
    assert reply["status"] == "ok", "\n".join(reply["traceback"])
    return [one["content"]["data"] for one in outputs if "data" in one["content"]]


def test_tqdm_chooses_the_notebook(kernel: KernelProcess) -> None:
    bundles = shown(kernel, "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass")
    assert any("application/vnd.jupyter.widget-view+json" in bundle for bundle in bundles)


def test_the_shell_is_of_the_class_that_libraries_ask_for(kernel: KernelProcess) -> None:
    text = kernel.text(
        "from ipykernel.zmqshell import ZMQInteractiveShell\n"
        "print(isinstance(get_ipython(), ZMQInteractiveShell))"
    )
    assert text == "True\n"


def test_ipykernels_names_are_about_this_kernel(kernel: KernelProcess) -> None:
    path = repr(str(kernel.path))
    text = kernel.text(
        "import ipykernel, sys\n"
        f"print(ipykernel.get_connection_file() == {path})\n"
        "print(ipykernel.get_connection_info(unpack=True)['shell_port'] > 0)\n"
        f"print(get_ipython().config['IPKernelApp']['connection_file'] == {path})\n"
        "print(isinstance(sys.stdout, ipykernel.iostream.OutStream))"
    )
    assert text == "True\n" * 4


def test_ipykernels_singletons_are_what_serves_this_process(kernel: KernelProcess) -> None:
    text = kernel.text(
        "from ipykernel.kernelapp import IPKernelApp\n"
        "from ipykernel.kernelbase import Kernel\n"
        "from ipykernel.ipkernel import IPythonKernel\n"
        "app, kernel = IPKernelApp.instance(), get_ipython().kernel\n"
        "print(IPKernelApp.initialized(), app.kernel is kernel, kernel.parent is app)\n"
        "print(app.ip, app.transport, app.shell_port > 0, app.shell is get_ipython())\n"
        "print(app.session is kernel.session, app.ports['shell'] == app.shell_port)\n"
        "print(app.user_ns is kernel.user_ns, app.profile_dir is app.shell.profile_dir)\n"
        "print(Kernel.initialized(), Kernel.instance() is IPythonKernel.instance() is kernel)\n"
    )
    assert text == "True True True\n127.0.0.1 tcp True True\n" + "True True\n" * 3


def test_a_comm_of_ipykernels_class_is_a_real_one(kernel: KernelProcess) -> None:
    reply, outputs = kernel.execute(
        "from ipykernel.comm import Comm\nopened = Comm(target_name='there', data={'a': 1})\n"
        "opened.on_msg(lambda message: print(message['content']['data']))\nopened.send([1, 2])"
    )
    assert reply["status"] == "ok"
    opened, sent = (one for one in outputs if one["msg_type"].startswith("comm_"))
    assert (opened["msg_type"], opened["content"]["target_name"]) == ("comm_open", "there")
    assert (opened["content"]["data"], sent["content"]["data"]) == ({"a": 1}, [1, 2])
    client = kernel.client
    for data in ("a text", ["a", "list"]):
        content = {"comm_id": opened["content"]["comm_id"], "data": data}
        client.shell_channel.send(client.session.msg("comm_msg", content))
        assert kernel.until("stream")["content"]["text"] == f"{data}\n"


def test_a_text_bar_overwrites_its_line(kernel: KernelProcess) -> None:
    reply, outputs = kernel.execute("from tqdm import tqdm\nfor _ in tqdm(range(3)): pass")
    text = "".join(one["content"]["text"] for one in outputs if one["msg_type"] == "stream")
    assert reply["status"] == "ok"
    *_, last = text.rstrip("\n").split("\r")
    assert last.startswith("100%|")
    assert text.count("\n") == 1


def test_rich_shows_html_and_bars(kernel: KernelProcess) -> None:
    code = "from rich.console import Console\nConsole().print('[bold]strong[/bold]')"
    (bundle,) = shown(kernel, code)
    assert "font-weight: bold" in bundle["text/html"]
    assert "strong" in bundle["text/plain"]
    reply, outputs = kernel.execute(
        "from rich.progress import track\nfor _ in track(range(3), 'working'): pass"
    )
    assert reply["status"] == "ok", reply
    assert "working" in str([one["content"] for one in outputs])


def test_pandas_shows_a_table(kernel: KernelProcess) -> None:
    (frame,) = shown(kernel, "import pandas\npandas.DataFrame({'a': [1, 2]})")
    assert "<table" in frame["text/html"]
    assert "a" in frame["text/plain"]


def test_plotly_shows_a_figure(kernel: KernelProcess) -> None:
    *_, figure = shown(
        kernel, "import plotly.graph_objects as go\ngo.Figure(go.Scatter(y=[1, 3, 2])).show()"
    )
    assert figure["application/vnd.plotly.v1+json"]["data"][0]["y"] == [1, 3, 2]
    assert set(figure) == {"application/vnd.plotly.v1+json"}  # no HTML, of which some have two


def test_matplotlib_shows_a_picture_without_a_magic(kernel: KernelProcess) -> None:
    (picture,) = shown(kernel, "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);")
    assert picture["image/png"].startswith("iVBOR")
    (svg, *_) = shown(kernel, "%config InlineBackend.figure_formats = ['svg']\nplt.plot([1]);")
    assert "<svg" in svg["image/svg+xml"]


def test_an_output_widget_takes_what_is_printed_in_it(kernel: KernelProcess) -> None:
    reply, outputs = kernel.execute(
        "import ipywidgets\n"
        "out = ipywidgets.Output()\n"
        "with out:\n"
        "    print('inside')\n"
        "    display('shown inside')\n"
        "print('outside')"
    )
    assert reply["status"] == "ok", reply
    updates = [
        one["content"]["data"]["state"]["msg_id"]
        for one in outputs
        if one["msg_type"] == "comm_msg" and "msg_id" in one["content"]["data"].get("state", {})
    ]
    assert len(updates) == 2
    assert updates[0] == outputs[0]["parent_header"]["msg_id"]
    assert updates[1] == ""
    assert kernel.text("print('later')") == "later\n"


def test_an_output_widget_captures_a_callback_s_output(kernel: KernelProcess) -> None:
    kernel.execute(
        "out = ipywidgets.Output()\n@out.capture()\ndef f():\n    print('captured')\n    1 / 0\n"
    )
    reply, outputs = kernel.execute("f()\nprint('after')")
    assert reply["status"] == "ok", reply
    types = [one["msg_type"] for one in outputs]
    assert types.index("error") < len(types)
    assert "comm_msg" in types


def test_interact_runs_its_function(kernel: KernelProcess) -> None:
    reply, outputs = kernel.execute(
        "from ipywidgets import interact\n@interact(n=(0, 10))\ndef square(n=3):\n    return n * n"
    )
    assert reply["status"] == "ok", reply
    results = [one["content"]["data"] for one in outputs if one["msg_type"] == "display_data"]
    assert any(data.get("text/plain") == "9" for data in results), results


def test_autoreload_picks_up_a_change(kernel: KernelProcess, tmp_path: Any) -> None:
    module = tmp_path / "changing_module.py"
    module.write_text("value = 1\n", "utf-8")
    kernel.execute(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "%load_ext autoreload\n%autoreload 2\nimport changing_module"
    )
    module.write_text("value = 'changed'\n", "utf-8")
    assert kernel.text("print(changing_module.value)") == "changed\n"


def test_what_ipython_users_do(kernel: KernelProcess) -> None:
    assert "pip" in kernel.text("%pip --version")
    assert kernel.text("!echo from a shell").strip() == "from a shell"
    assert kernel.text("%%bash\necho from bash") == "from bash\n"
    reply, _ = kernel.execute("zip?")
    (page,) = reply["payload"]
    assert page["source"] == "page"
    assert "iterables" in page["data"]["text/plain"]


def test_widgets_open_update_and_take_messages_with_buffers(kernel: KernelProcess) -> None:
    _, outputs = kernel.execute(
        "import ipywidgets\n"
        "image = ipywidgets.Image(value=b'\\x00\\xffbytes')\n"
        "heard = []\n"
        "image.on_msg(lambda widget, content, buffers: heard.append((content, buffers)))"
    )
    (opened,) = [
        one
        for one in outputs
        if one["msg_type"] == "comm_open"
        and one["content"]["data"]["state"].get("_model_name") == "ImageModel"
    ]
    assert [bytes(one) for one in opened["buffers"]] == [b"\x00\xffbytes"]
    assert opened["content"]["data"]["buffer_paths"] == [["value"]]
    client, comm_id = kernel.client, opened["content"]["comm_id"]

    def send(data: dict[str, Any], *buffers: bytes) -> None:
        content = {"comm_id": comm_id, "data": data}
        message = client.session.msg("comm_msg", content)
        client.session.send(client.shell_channel.socket, message, buffers=list(buffers))

    update = {"method": "update", "state": {}, "buffer_paths": [["value"]]}
    send(update, b"new \x00")
    send({"method": "custom", "content": {"n": 1}}, b"raw")
    text = kernel.text("print(bytes(image.value), heard[0][0], bytes(heard[0][1][0]))")
    assert text == "b'new \\x00' {'n': 1} b'raw'\n"
    _, outputs = kernel.execute(
        "image.send({'to': 'the frontend'}, buffers=[b'out'])\nimage.close()"
    )
    sent = [one for one in outputs if one["msg_type"] in ("comm_msg", "comm_close")]
    assert sent[0]["content"]["data"] == {"method": "custom", "content": {"to": "the frontend"}}
    assert [bytes(one) for one in sent[0]["buffers"]] == [b"out"]
    assert [one["msg_type"] for one in sent] == ["comm_msg", "comm_close"]
