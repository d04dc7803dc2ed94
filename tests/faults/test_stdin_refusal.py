"""A question that nobody may be asked fails with the name that frontends look for."""

from __future__ import annotations

from typing import Any

import pytest

from trikernel import errors

from ..cells import contents, reply_of
from ..conftest import Serving
from ..kernel.kernels import Recorder
from .processes import open_process

NAME = "StdinNotImplementedError"  # ipykernel's, which nbclient and papermill look for


class Asking(Recorder):
    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        await self.async_input("name? ")


def test_the_error_has_ipythons_name_and_is_one_of_ours() -> None:
    error = getattr(errors, NAME)
    assert error.__name__ == NAME
    assert error.__module__ == "trikernel.errors"
    assert NAME in errors.__all__
    assert issubclass(error, errors.TrikernelError)
    assert issubclass(error, NotImplementedError)  # as IPython's is, for code that catches that


async def test_it_is_the_name_on_the_wire(serving: Serving) -> None:
    async with serving(Asking()) as client:
        heard = await client.execute("ask")  # without anybody to answer
        assert reply_of(heard)["ename"] == NAME
        assert [one["ename"] for one in contents(heard, "error")] == [NAME]


@pytest.mark.parametrize(
    "code",
    [
        "input('name? ')",
        "import getpass; getpass.getpass()",
        "import trikernel.notebook; await trikernel.notebook.input('name? ')",
    ],
)
async def test_every_way_to_ask_fails_with_it(code: str) -> None:
    async with open_process() as client:
        execution = await client.execute(code)
        assert execution.error is not None
        assert execution.error.ename == NAME
        execution = await client.execute(_caught(code))
        assert execution.result == {"text/plain": "'caught'"}


def _caught(code: str) -> str:
    *imports, ask = code.split("; ")
    lines = [*imports, f"try: {ask}", "except NotImplementedError: found = 'caught'", "found"]
    return "\n".join(lines)
