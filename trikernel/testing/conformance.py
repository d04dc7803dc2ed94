"""Whether a kernel speaks the Jupyter protocol: every requirement is checked against it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import nullcontext

import trio

from ..client import Client, Execution
from ..errors import TrikernelError
from ..kernel import Kernel
from .client import CheckedClient, late_errors, raise_errors
from .requirements import REQUIREMENTS, NotChecked, Probe, Requirement, Samples
from .schema import require
from .serving import open_memory_client

__all__ = ["assert_conforms"]

TIMEOUT = 30  # seconds that one requirement may take


async def assert_conforms(kernel: Kernel | Client, samples: Samples | None = None) -> list[str]:
    """Assert that a kernel meets every requirement; the ids of those that were checked.

    ``kernel`` is a `Kernel` instance, which is served in memory, or a client of any kernel. The
    last thing that is asked of it is to shut down. ``samples`` is code in its language; what
    needs a sample that is not given is not checked, and not among the ids.

    Raises `AssertionError` that lists every requirement that is not met, with what was seen; and
    what failed in the kernel's background meanwhile.
    """
    __tracebackhide__ = True
    opened = nullcontext(kernel) if isinstance(kernel, Client) else open_memory_client(kernel)
    faults: list[str] = []
    checked: list[str] = []
    async with opened as client:
        with client.subscribe() as messages:
            probe = Probe(client, samples or Samples(), messages)
            tried = await _check_samples(client, samples or Samples())
            for one in REQUIREMENTS:
                try:
                    fault = await _fault_of(one, probe)
                except NotChecked:
                    continue
                checked.append(one.id)
                if fault:
                    faults.append(f"  {one.id}: {one.sentence} ({one.source})\n    {fault}")
        errors = _background_errors(client, [*tried, *probe.finished])
        if faults:
            head = f"{len(faults)} of {len(checked)} requirements are not met:"
            others = [f"  besides, in the background: {_line(error)}" for error in errors]
            raise AssertionError("\n".join([head, *faults, *others]))
        raise_errors(errors)
    return checked


def _background_errors(client: Client, executions: Sequence[Execution]) -> list[BaseException]:
    """What failed outside of any reply; of a client that does not watch for it, by the messages."""
    if isinstance(client, CheckedClient):
        return client.pop_background_errors()
    return [error for one in executions for error in late_errors(one)]


def _line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


async def _check_samples(client: Client, samples: Samples) -> list[Execution]:
    """A sample that is none would be the fault behind many others. What was executed for it."""
    code = await client.execute(samples.code)
    require(code.status == "ok", f"the sample code={samples.code!r} must end well: {code.error}")
    executions = [code]
    if samples.failing is not None:
        failing = await client.execute(samples.failing, stop_on_error=False)
        require(failing.status != "ok", f"the sample failing={samples.failing!r} must fail")
        executions.append(failing)
    if samples.printing is not None:
        printing = await client.execute(samples.printing)
        require(printing.stdout, f"the sample printing={samples.printing!r} must write to stdout")
        executions.append(printing)
    return executions


async def _fault_of(one: Requirement, probe: Probe) -> str:
    """How a requirement is not met; empty if it is."""
    try:
        with trio.fail_after(TIMEOUT):
            await one.check(probe)
    except NotChecked:
        raise
    except trio.TooSlowError:
        return f"there was no answer within {TIMEOUT} seconds"
    except (AssertionError, TrikernelError) as error:
        return str(error) or "it is not so"
    except (KeyError, TypeError, AttributeError) as error:  # a content of another shape
        return f"what came cannot be read: {type(error).__name__}: {error}"
    return ""
