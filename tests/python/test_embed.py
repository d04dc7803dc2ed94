"""A kernel in the middle of a program has the program's names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..processes import ROOT, TIMEOUT, KernelProcess, wait_until

PROGRAM = """\
import sys
from trikernel.python.embed import embed_kernel
from trikernel.python.ipykernel_modules import install_ipykernel_modules

top = 1

def function():
    local = 41
    embed_kernel(connection_file=sys.argv[1])
    return local

print(function(), flush=True)
install_ipykernel_modules()
import ipykernel.embed
ipykernel.embed.embed_kernel(connection_file=sys.argv[2])
print(kept, flush=True)
"""


def result(kernel: KernelProcess, code: str) -> str:
    reply, outputs = kernel.execute(code)
    assert reply["status"] == "ok", reply
    (text,) = (one["content"]["data"]["text/plain"] for one in outputs if "data" in one["content"])
    return str(text)


def connect(process: subprocess.Popen[str], path: Path) -> KernelProcess:
    wait_until(lambda: path.exists() and '"shell_port": 0' not in path.read_text(), "the ports")
    return KernelProcess(process, path)


def end(kernel: KernelProcess) -> None:
    kernel.client.shutdown()
    kernel.client.stop_channels()


def test_a_program_goes_on_once_its_kernel_is_shut_down(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    process = subprocess.Popen(
        [sys.executable, program, *paths],
        env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        kernel = connect(process, paths[0])
        assert result(kernel, "local + top, __name__") == "(42, '__main__')"
        assert result(kernel, "import sys; sys.modules['__main__'].top") == "1"
        reply, _ = kernel.execute("from trikernel.python import embed; embed.embed_kernel()")
        assert reply["evalue"].startswith("embed_kernel: this is a cell already")
        kernel.execute("local = 0")
        end(kernel)
        kernel = connect(process, paths[1])
        assert result(kernel, "kept = top + 4\ndef f():\n    return kept\nf()") == "5"
        end(kernel)
        out, _ = process.communicate(timeout=TIMEOUT)
        assert out == "41\n5\n"
        assert not paths[0].exists()
    finally:
        process.kill()
        process.communicate()
