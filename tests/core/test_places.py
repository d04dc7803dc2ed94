"""Where code stands is told as people read it: the function by its name, and the line."""

from __future__ import annotations

import linecache
import threading
import time
from typing import Any

import pytest

import trikernel
from trikernel.core.places import where_it_runs
from trikernel.testing import CheckedClient

MODULE = """\
import threading
lock = threading.Lock()
lock.acquire()
begun.append(threading.get_ident())
{}
"""


def place_of(code: str, name: str = "__main__") -> str:
    """Where a module stands that blocks in ``lock.acquire``, in a thread."""
    names: dict[str, Any] = {"__name__": name, "begun": []}
    source = compile(MODULE.format(code), "<a cell>", "exec")
    thread = threading.Thread(target=exec, args=(source, names), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    place = ""
    while not _is_there(place):
        assert time.monotonic() < deadline, place
        place = where_it_runs(names["begun"][0]) if names["begun"] else ""
    names["lock"].release()
    thread.join()
    return place


def _is_there(place: str) -> bool:
    return "line 5" in place or "line 6" in place


@pytest.mark.parametrize(
    ("code", "name", "place"),
    [
        ("lock.acquire()", "__main__", "line 5"),
        ("lock.acquire()", "library", "line 5 in <a cell>"),
        ("def slow():\n    lock.acquire()\nslow()", "__main__", "line 6 of slow"),
    ],
)
def test_the_line_is_told_with_its_function(code: str, name: str, place: str) -> None:
    # without its source, as of code that was compiled elsewhere
    assert place_of(code, name) == place


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("lock.acquire()", "_thread.lock.acquire"),
        ("[lock][0].acquire()", "[lock][0].acquire(...)"),
        ("ä = lock.acquire(True,\n  -1)", "_thread.lock.acquire"),
    ],
)
def test_the_call_is_told_by_the_functions_own_name_or_as_it_is_written(
    code: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = MODULE.format(code).splitlines(keepends=True)  # as IPython keeps those of a cell
    monkeypatch.setitem(linecache.cache, "<a cell>", (1, None, lines, "<a cell>"))
    assert place_of(code) == f"{call}, line 5"


def test_where_no_code_of_the_users_runs_that_is_said() -> None:
    assert where_it_runs(None) == "code that is not the cell's"


# When it is told


class Asking(trikernel.Kernel):
    """Asks where its own code stands, after as many stops as the cell says."""

    place = ""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> dict[str, Any]:
        request = trikernel.current_request.get()
        assert request is not None
        request.stops = int(code)
        self.place = self.server.stopper.stuck_at()
        return {"status": "ok"}


@pytest.fixture
def kernel() -> Asking:
    return Asking()


async def test_the_place_of_code_that_goes_on_after_the_third_step_is_told(
    kernel: Asking, kernel_client: CheckedClient
) -> None:
    await kernel_client.execute("2")
    assert kernel.place == ""
    await kernel_client.execute("3")
    assert "of Asking.do_execute" in kernel.place
