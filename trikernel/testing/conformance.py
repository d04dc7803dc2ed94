"""Checks in tests whether a kernel conforms to the Jupyter protocol, requirement by requirement."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext

from ..client import Client, Execution
from ..conformance import (
    Log,
    Probe,
    Requirement,
    Result,
    Samples,
    Subject,
    check_samples,
    result_of,
    run_checks,
    select,
)
from ..errors import UsageError
from ..kernel import Kernel
from ..transport import ZmqClientTransport
from .client import CheckedClient, late_errors, raise_errors
from .serving import open_memory_client

__all__ = ["assert_conforms", "assert_meets", "requirements_of"]


def requirements_of(*features: str, without: Sequence[str] = ()) -> list[Requirement]:
    """The requirements of these features (by default all), to parametrize a test with them.

    ::

        @pytest.mark.parametrize("requirement", requirements_of("core", "stdin"), ids=str)
        async def test_my_kernel_conforms(requirement):
            await assert_meets(requirement, MyKernel(), Samples(code="1"))

    ``without`` are ids of requirements that are left out. Raises `UsageError` for an unknown id.
    """
    found = select(features)
    unknown = set(without) - {one.id for one in select()}
    if unknown:
        raise UsageError(f"there is no requirement {min(unknown)!r}")
    return [one for one in found if one.id not in without]


async def assert_meets(
    requirement: Requirement, kernel: Kernel | Client, samples: Samples | None = None
) -> None:
    """Assert that a kernel meets one requirement; skip the test if it does not apply.

    ``kernel`` and ``samples`` are as in `assert_conforms`. Raises `AssertionError` with the
    messages that show the violation.
    """
    __tracebackhide__ = True
    async with _opened(kernel) as (subject, log):
        log.listen(subject.client)
        probe = Probe(subject, samples or Samples(), log)
        result = await result_of(requirement, probe)
        if result.outcome == "missed":
            raise AssertionError("\n".join(_fault(result)))
    if result.outcome != "met":
        import pytest

        pytest.skip(f"{result.outcome}: {result.why}")


async def assert_conforms(kernel: Kernel | Client, samples: Samples | None = None) -> list[str]:
    """Assert that a kernel meets every requirement. Returns the ids of those that were checked.

    ``kernel`` is a `Kernel` instance, which is served in memory, or a client of any kernel. The
    last request to it is to shut down. ``samples`` is code in its language. A requirement is not
    checked, and not among the ids, if it needs a sample that is not given, a feature that the
    kernel does not offer, or sockets or a process that it does not have.

    Raises `AssertionError`, which lists every requirement that is not met, with the messages that
    show it; and the errors of the kernel's background tasks.
    """
    __tracebackhide__ = True
    async with _opened(kernel) as (subject, log):
        log.listen(subject.client)
        samples = samples or Samples()
        try:
            await check_samples(Probe(subject, samples, log))
        except UsageError as error:
            raise AssertionError(str(error)) from None
        opened = nullcontext(subject)
        results = await run_checks(select(), lambda log: opened, samples, log=log)
        errors = _background_errors(subject.client, log.finished)
        faults = [line for one in results if one.outcome == "missed" for line in _fault(one)]
        checked = [one for one in results if one.outcome in ("met", "missed")]
        if faults:
            missed = sum(one.outcome == "missed" for one in results)
            head = f"{missed} of {len(checked)} requirements are not met:"
            others = [f"  besides, in the background: {_line(error)}" for error in errors]
            raise AssertionError("\n".join([head, *faults, *others]))
        raise_errors(errors)
    return [one.requirement.id for one in checked]


@asynccontextmanager
async def _opened(kernel: Kernel | Client) -> AsyncIterator[tuple[Subject, Log]]:
    """The subject of the checks: a kernel that is served in memory here, or that of a client."""
    if not isinstance(kernel, Client):
        async with open_memory_client(kernel) as client:
            yield Subject(client, is_apart=False), Log()
        return
    transport = kernel.connection.transport
    over_sockets = isinstance(transport, ZmqClientTransport)
    # A `CheckedClient` that does not watch messages for errors has its kernel in this loop.
    here = isinstance(kernel, CheckedClient) and not kernel.watches_late_errors
    info = transport.info if isinstance(transport, ZmqClientTransport) else None
    yield Subject(kernel, info, is_apart=over_sockets and not here), Log()


def _fault(result: Result) -> list[str]:
    one = result.requirement
    head = f"  {one.id}: {one.sentence} ({one.source})"
    return [head, f"    {result.why}", *(f"      {line}" for line in result.shown)]


def _background_errors(client: Client, executions: Sequence[Execution]) -> list[BaseException]:
    """Errors of background tasks; for a plain `Client`, the ``error`` messages without a reply."""
    if isinstance(client, CheckedClient):
        return client.pop_background_errors()
    return [error for one in executions for error in late_errors(one)]


def _line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()
