"""The installed kernelspec, driven by what people really use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import start_new_kernel

from ..processes import ROOT

TIMEOUT = 60


@pytest.fixture(scope="module", autouse=True)
def specs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kernelspecs of this interpreter: the Python kernel and the echo kernel of the examples."""
    prefix = tmp_path_factory.mktemp("prefix")
    examples = ROOT / "docs" / "examples"
    for name, spec in [
        ("trikernel", "trikernel.python:PythonKernel"),
        ("echo", "echo_kernel:EchoKernel"),
    ]:
        subprocess.run(
            [
                *(sys.executable, "-m", "trikernel", "install", "--prefix", str(prefix)),
                *("--name", name, "--kernel", spec),
            ],
            env={**os.environ, "PYTHONPATH": str(examples)},
            check=True,
            timeout=TIMEOUT,
        )
    patch = pytest.MonkeyPatch()
    patch.setenv("JUPYTER_PATH", str(prefix / "share" / "jupyter"))
    patch.setenv("PYTHONPATH", str(examples))
    patch.setenv("IPYTHONDIR", str(prefix / "ipython"))
    patch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    yield prefix
    patch.undo()


def test_the_kernelspec_says_how_to_start_and_stop(specs: Path) -> None:
    spec = KernelSpecManager().get_kernel_spec("trikernel")
    assert spec.display_name == "Python 3 (Trio)"
    assert spec.interrupt_mode == "signal"
    assert spec.argv[0] == sys.executable
    assert "{connection_file}" in spec.argv
    assert {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"} <= set(
        os.listdir(spec.resource_dir)
    )


@pytest.mark.seed(29)
def test_start_new_kernel_runs_a_cell_and_ends_the_kernel() -> None:
    manager, client = start_new_kernel(kernel_name="trikernel", startup_timeout=TIMEOUT)
    try:
        outputs: list[Any] = []
        reply = client.execute_interactive(
            "print(6 * 7)", timeout=TIMEOUT, output_hook=outputs.append
        )
        assert reply["content"]["status"] == "ok"
        assert [one["content"]["text"] for one in outputs if one["msg_type"] == "stream"] == [
            "42\n"
        ]
        manager.interrupt_kernel()
        manager.restart_kernel()
        client.wait_for_ready(timeout=TIMEOUT)
        assert client.execute_interactive("1", timeout=TIMEOUT)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    assert not manager.has_kernel


@pytest.mark.seed(29)
def test_nbclient_executes_the_quickstart() -> None:
    notebook = nbformat.read(ROOT / "docs" / "examples" / "quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=TIMEOUT, kernel_name="trikernel").execute()
    text = json.dumps([cell.get("outputs") for cell in notebook.cells])
    assert "hello from Trio" in text
    assert "the deadline was missed" in text
    assert "5050" in text


def test_nbclient_executes_the_tutorial() -> None:
    path = ROOT / "docs" / "examples" / "structured_concurrency.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=TIMEOUT, kernel_name="trikernel").execute()
    texts = "".join(map(_texts, notebook.cells))
    assert "fast after" in texts
    assert "gave up: True" in texts


def _texts(cell: Any) -> str:
    """What a code cell put out, without figures that change from run to run."""
    texts = []
    for output in cell.get("outputs", []):
        assert output.output_type != "error", output.traceback
        texts.append(output.text if "text" in output else output.data["text/plain"])
    text = re.sub(r"[\d.]+ (ns|μs|ms|s|min)\b", "TIME", "".join(texts))
    text = re.sub(r"(?m)^The slowest run took .*\n", "", text)  # on a machine that does much else
    return re.sub(r" +", " ", re.sub(r"(?m)^tick \d+\n", "", text))


@pytest.mark.seed(29)
def test_jupyter_run_executes_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import trio\nawait trio.sleep(0)\nprint('ran')\n")
    run = subprocess.run(
        [sys.executable, "-m", "jupyter_client.runapp", "--kernel", "trikernel", str(script)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr
    assert "ran" in run.stdout


class TestPython(jupyter_kernel_test.KernelTests):
    """Jupyter's own tests, with the values that ipykernel's suite has for Python."""

    kernel_name = "trikernel"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "from_by", "matches": set()},
    ]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class TestEcho(jupyter_kernel_test.KernelTests):
    """The subset that applies to a kernel of 20 lines."""

    kernel_name = "echo"
    language_name = "echo"
    file_extension = ".txt"
    code_hello_world = "hello, world"


def test_the_echo_kernel_is_at_most_20_lines() -> None:
    lines = (ROOT / "docs" / "examples" / "echo_kernel.py").read_text().splitlines()
    assert len(lines) <= 20
