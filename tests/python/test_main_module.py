"""``__main__`` is the person's namespace, as in ``python -i``: pickles, dataclasses, processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..processes import KernelProcess, kernel_process


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        yield kernel


def test_classes_of_cells_are_pickled_by_their_name(kernel: KernelProcess) -> None:
    kernel.execute(
        "import pickle\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Point:\n    x: int\n    y: 'Point | None' = None"
    )
    code = "print(pickle.loads(pickle.dumps(Point(1, Point(2)))) == Point(1, Point(2)))"
    assert kernel.text(code) == "True\n"
    assert kernel.text("import typing; print(typing.get_type_hints(Point)['x'])") == (
        "<class 'int'>\n"
    )


def test_main_is_a_module_like_any(kernel: KernelProcess) -> None:
    kernel.execute("value = 3")
    assert kernel.text("import __main__; print(__name__, __main__.value)") == "__main__ 3\n"
    assert kernel.text("if __name__ == '__main__': print('main')") == "main\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_processes_run_imported_functions(
    kernel: KernelProcess, method: str, tmp_path: Path
) -> None:
    if sys.platform == "win32" and method != "spawn":
        pytest.skip("only spawn is there")
    module = tmp_path / f"work_for_{method}.py"
    module.write_text(
        "import os\ndef double(n):\n    os.write(1, b'working %d\\n' % n)\n    return 2 * n\n",
        "utf-8",
    )
    text = kernel.text(
        f"import multiprocessing, sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        f"from {module.stem} import double\n"
        f"context = multiprocessing.get_context({method!r})\n"
        "with context.Pool(2) as pool:\n"
        "    print(pool.map(double, [1, 2, 3]))\n"
        "process = context.Process(target=double, args=(4,))\n"
        "process.start(); process.join(); print('exit', process.exitcode)"
    )
    assert "[2, 4, 6]" in text  # and then what the children write, or a line's end
    assert "exit 0\n" in text
    assert "working 4\n" in text  # by the captured descriptor


def test_a_pool_of_processes_works_beside_trio(kernel: KernelProcess, tmp_path: Path) -> None:
    module = tmp_path / "work_beside.py"
    module.write_text("def square(n):\n    return n * n\n", "utf-8")
    text = kernel.text(
        f"import sys, trio\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from work_beside import square\n"
        "def compute():\n"
        "    with ProcessPoolExecutor(2, mp_context=get_context('spawn')) as pool:\n"
        "        return list(pool.map(square, range(4)))\n"
        "print(await trio.to_thread.run_sync(compute))"
    )
    assert text == "[0, 1, 4, 9]\n"
