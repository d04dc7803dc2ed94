"""The requirements hold for the kernels that should meet them, and find those that do not."""

from __future__ import annotations

import re
import sys
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from trikernel import Kernel, MemoryTransport, serve
from trikernel.client import open_client, open_kernel
from trikernel.conformance import Requirement, select
from trikernel.conformance.samples import PYTHON
from trikernel.errors import CellFailed
from trikernel.python import PythonKernel
from trikernel.testing import Samples, assert_conforms, assert_meets, requirements_of
from trikernel.wire import Codec, Message

from ..kernel.kernels import Asynchronous, Recorder, Synchronous

# Optional features: whether the Python kernel offers them is not what is asked here.
OPTIONAL = {"debugger", "kernel subshells", "usage", "handshake"}
STARTS = {"shutdown.exit", "shutdown.restart", "shutdown.busy"}
APART = {"control.while-busy", "control.parent", "interrupt.running", "interrupt.message"}
APART |= {"request.malformed-busy"}


def of_features_without(*features: str) -> list[Requirement]:
    return [one for one in select() if one.feature not in {*OPTIONAL, *features}]


def without_optional(ids: list[str]) -> list[str]:
    optional = {one.id for one in select(sorted(OPTIONAL))}
    return [one for one in ids if one not in optional]


async def test_the_python_kernel_meets_them_all() -> None:
    """In memory, where there are no sockets, no process and no kernelspec to look at."""
    found = await assert_conforms(PythonKernel(), PYTHON)
    features = ("kernelspec", "sockets", "welcome", "curve", "stdin")
    expected = [one.id for one in of_features_without(*features) if one.id not in APART]
    assert [one for one in without_optional(found) if one != "stdin.not-allowed"] == expected


@pytest.mark.thorough  # beside the kernelspec's run in tests/conformance
async def test_the_python_kernel_meets_them_all_in_a_process() -> None:
    """All but what starts kernels of a kernelspec, which is not known of a client."""
    samples = attrs.evolve(
        PYTHON,
        sleeping="import time; time.sleep(1)",
        computing="_ = sum(range(10**8))",
        flooding=None,
    )
    async with open_kernel() as client:
        found = await assert_conforms(client, samples)
    expected = [one.id for one in of_features_without("kernelspec", "curve")]
    left_out = {*STARTS, "iopub.no-drop"}
    assert without_optional(found) == [
        one for one in expected if one not in left_out and not one.startswith("starting.")
    ]


class Small(Synchronous):
    def do_history(self, **asked: Any) -> Any:
        return {"status": "ok", "history": []}


class SmallAsynchronous(Asynchronous):
    async def do_history(self, **asked: Any) -> Any:
        return {"status": "ok", "history": []}


@pytest.mark.parametrize("kernel_class", [Small, SmallAsynchronous])
async def test_small_kernels_meet_what_their_samples_allow(
    kernel_class: type[Kernel], autojump_clock: Any
) -> None:
    checked = await assert_conforms(kernel_class())
    assert len(checked) > 20
    assert "execute.error" not in checked


async def test_a_kernel_that_measures_nothing_conforms_all_the_same(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    """As in an environment that has no psutil, in which authors' packages are tested."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    found = await assert_conforms(SmallAsynchronous())
    assert "usage.reply" not in found
    monkeypatch.undo()
    assert "usage.reply" in await assert_conforms(SmallAsynchronous())


async def test_a_kernel_with_samples_meets_more(autojump_clock: Any) -> None:
    samples = Samples(code="say x", failing="fail", printing="say x")
    checked = await assert_conforms(Recorder(), samples)
    assert {"execute.error", "execute.aborts", "execute.stdout"} <= set(checked)


async def test_what_is_not_met_is_listed_with_its_source(autojump_clock: Any) -> None:
    class Bad(Recorder):
        async def kernel_info_request(self, request: Any) -> Any:
            info = self.kernel_info
            return {**info, "language_info": {**info["language_info"], "name": 5}}

        async def is_complete_request(self, request: Any) -> Any:
            await super().is_complete_request(request)
            return {"status": "perhaps"}

    with pytest.raises(AssertionError) as caught:
        await assert_conforms(Bad(), Samples(code="say x", failing="fail"))
    text = str(caught.value)
    assert re.search(r"^2 of \d\d requirements are not met:", text)
    assert "is-complete.status: Code is complete, incomplete, invalid or unknown" in text
    assert "(messaging.rst, Code completeness)" in text
    assert "the field 'name' must be str, not 5" in text


class Crashing(Recorder):
    """A task that its first cell starts crashes."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if not self.ran:
            self.nursery.start_soon(self._crash)
        await trio.sleep(1)
        return await super().do_execute(code, silent, **options)

    async def _crash(self) -> None:
        raise LookupError("in the background")


class Worse(Crashing):
    def do_is_complete(self, code: str) -> Any:
        return {"status": "perhaps"}


async def test_what_crashes_in_the_background_fails_it(autojump_clock: Any) -> None:
    with pytest.raises(LookupError, match="in the background"):
        await assert_conforms(Crashing(), Samples(code="say x"))
    with pytest.raises(AssertionError, match=r"\d of \d+ requirements are not met:") as caught:
        await assert_conforms(Worse(), Samples(code="say x"))
    assert str(caught.value).endswith("besides, in the background: LookupError: in the background")


async def test_a_client_that_is_given_tells_what_crashes_too(
    python_kernel: PythonKernel, autojump_clock: Any
) -> None:
    transport = MemoryTransport()
    crashing = """
import trio
from trikernel.notebook import nursery
async def crash(): raise LookupError("in the background")
"begun" in dir() or nursery.start_soon(crash)
begun = True
await trio.sleep(1)
"""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, python_kernel, transport, services="inline"))
        async with open_client(transport.connect()) as client:
            with pytest.raises(CellFailed, match="LookupError: in the background"):
                await assert_conforms(client, Samples(code=crashing))


async def test_ipykernel_meets_what_it_is_known_to_meet() -> None:
    """The one peer that is at hand; to malformed requests it gives no answer."""
    known = ("execute.reply", "execute.input", "complete.reply", "messages.header", "wire.unsigned")
    missed = ("request.malformed-history", "execute.silent-output")
    async with open_kernel("python3") as client:
        for one in requirements_of():
            if one.id in known:
                await assert_meets(one, client, PYTHON)
            if one.id in missed:
                with pytest.raises(AssertionError, match=one.id):
                    await assert_meets(one, client, PYTHON)


def message(msg_type: str, **content: Any) -> Message:
    codec = Codec()
    return codec.decode(codec.encode(msg_type, content))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (message("stream", name="stdout"), "the field 'text' is missing"),
        (message("stream", name="stdlog", text=""), "'name' must be ('stdout', 'stderr')"),
        (message("execute_result", data={}, metadata={}, execution_count=True), "must be int"),
        (message("execute_reply", status="fine"), "'status' must be ok, error or aborted"),
        (message("execute_reply", status="error", ename="E"), "'evalue' is missing"),
        (message("complete_reply", status="ok", matches=[1]), "'matches' must be a list of str"),
        (
            message("execute_reply", status="aborted", execution_count=3),
            "an aborted reply must have no 'execution_count'",
        ),
    ],
)
def test_a_content_that_is_wrong_is_seen(found: Message, words: str) -> None:
    from trikernel.conformance.schema import content_faults

    assert any(words in fault for fault in content_faults(found))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (Samples(code="fail"), "the sample code='fail' must end well: ValueError: failed"),
        (Samples(code="say x", failing="say x"), "the sample failing='say x' must fail"),
        (Samples(code="say x", printing="sleep 1"), "the sample printing='sleep 1' must write to"),
    ],
)
async def test_a_sample_that_is_none_is_told(
    samples: Samples, words: str, autojump_clock: Any
) -> None:
    with pytest.raises(AssertionError, match=words):
        await assert_conforms(Recorder(), samples)
