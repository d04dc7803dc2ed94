"""Runs checks against a kernel: each requirement becomes a result, whatever the kernel does.

If a kernel dies, or no longer answers, the requirement that was being checked is missed, and the
others are checked with a new kernel if one can be started. Knows nothing of command lines and of
pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import attrs
import trio

from ..errors import KernelDied, KernelNotReady, TrikernelError, UsageError
from ..transport import offers_handshake
from .evidence import joined, show_execution, show_message, show_unread
from .manifest import AFTERWARDS, LIVE, NotChecked, NotOffered, Requirement
from .probe import Log, Probe, Subject
from .samples import Samples, samples_of

__all__ = ["Outcome", "Result", "check_samples", "claims", "result_of", "run_checks"]

TIMEOUT = 100  # seconds that one requirement may take
WIDE = 600  # characters of a reason
REQUESTS = 3  # how many of a check's last requests are shown

Outcome = Literal["met", "missed", "not offered", "not checked"]
Opener = Callable[[Log], AbstractAsyncContextManager[Subject]]


@attrs.frozen
class Result:
    """The outcome of one requirement. If it is not met, ``why`` is the reason; ``shown`` are lines
    with the messages that prove a missed one.
    """

    requirement: Requirement
    outcome: Outcome
    why: str = ""
    shown: tuple[str, ...] = ()


def claims(probe: Probe, feature: str) -> str:
    """Why a kernel does not offer a feature, by what its reply and its kernelspec say; empty if it
    may offer it.
    """
    info, spec = probe.client.info, probe.subject.spec
    features = info.get("supported_features")
    features = list(features) if isinstance(features, list) else []
    if feature == "debugger" and not ("debugger" in features or info.get("debugger") is True):
        return "supported_features has no 'debugger'"
    if feature == "kernel subshells" and feature not in features:
        return "supported_features has no 'kernel subshells'"
    if feature == "curve" and spec is not None and not _claims_curve(spec):
        return "the kernelspec's metadata has no supported_encryption with 'curve'"
    if feature == "handshake" and spec is not None:
        version = str(spec.get("kernel_protocol_version", ""))
        if not offers_handshake(version):
            return f"the kernelspec's kernel_protocol_version is {version or 'not given'}"
    return ""


def _claims_curve(spec: Mapping[str, Any]) -> bool:
    metadata = spec.get("metadata")
    found = metadata.get("supported_encryption") if isinstance(metadata, dict) else None
    return isinstance(found, list | str) and "curve" in found


async def result_of(one: Requirement, probe: Probe) -> Result:
    """Check one requirement; it is missed after `TIMEOUT`. Cancelled, the kernel stays as it is."""
    probe.asked.clear()
    probe.seen.clear()
    probe.unread.clear()
    last = probe.log.last_unread
    try:
        if why := claims(probe, one.feature):
            raise NotOffered(why)
        with trio.fail_after(TIMEOUT):
            await one.check(probe)
        return Result(one, "met")
    except NotOffered as error:
        return Result(one, "not offered", str(error))
    except NotChecked as error:
        return Result(one, "not checked", str(error))
    except trio.TooSlowError:
        why = f"it took more than {TIMEOUT} seconds"
    except (AssertionError, TrikernelError) as error:
        why = str(error) or "it is not so"
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        why = f"what came cannot be read: {type(error).__name__}: {error}"
    asked = [show_execution(one) for one in dict.fromkeys(probe.asked[-REQUESTS:])]
    seen = [[show_message(one)] for one in probe.seen[-REQUESTS * 2 :]]
    bad = [show_unread(*one) for one in [*probe.unread, *probe.log.unread_after(last)][:REQUESTS]]
    why = why if len(why) <= WIDE else f"{why[:WIDE]}..."
    return Result(one, "missed", why, joined([*asked, *seen, *bad]))


async def run_checks(
    requirements: Sequence[Requirement],
    open_subject: Opener,
    samples: Samples | None = None,
    *,
    log: Log | None = None,
    can_reopen: bool = False,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Check requirements one after the other; ``tell`` is called with each result.

    ``open_subject`` opens a kernel and, with ``can_reopen``, another one when that has died or no
    longer answers. Raises what ``open_subject`` raises the first time (`KernelNotReady` for
    example), and `UsageError` for samples that do not do what they should, see `check_samples`.
    """
    log, results = log or Log(), list[Result]()
    todo = sorted(requirements, key=lambda one: one.stage)

    def note(result: Result) -> None:
        results.append(result)
        tell(result)

    gone = ""
    while len(results) < len(todo) and not gone:
        try:
            async with open_subject(log) as subject:
                log.listen(subject.client)
                probe = Probe(subject, samples or samples_of(subject.client.info), log)
                if not results and not log.finished:
                    await check_samples(probe)
                rest = todo[len(results) :]
                await _check_some(rest, probe, note, can_reopen=can_reopen)
        except KernelNotReady as error:
            if not results:
                raise
            gone = f"no other kernel could be started: {error}"
    for one in todo[len(results) :]:
        note(Result(one, "not checked", gone))
    return results


async def _check_some(
    requirements: Sequence[Requirement],
    probe: Probe,
    note: Callable[[Result], None],
    *,
    can_reopen: bool,
) -> None:
    """Check requirements with one kernel. When it has died or no longer answers, this returns if
    another kernel can be opened; otherwise the rest is noted as not checked.

    The kernel is asked something after each check, too: what it dies of may show late, when the
    next message comes, and would be counted against the next requirement.
    """
    lost = False
    for one in requirements:
        lost = lost or probe.client.is_dead
        if lost and one.stage != AFTERWARDS:
            if can_reopen:
                return
            note(Result(one, "not checked", "the kernel has ended, or answers no more"))
            continue
        result = await result_of(one, probe)
        if result.outcome == "missed" and one.stage != AFTERWARDS:
            lost = not await probe.is_alive()
        elif one.stage == LIVE:
            lost = not await probe.is_alive("shell")
            if death := _death(probe):
                result = Result(one, "missed", f"after it, {death}")
        note(result)


def _death(probe: Probe) -> str:
    """What the kernel is known to have died of; empty if it is not."""
    if probe.client.is_dead:
        try:
            probe.client.send("kernel_info_request", {})
        except KernelDied as error:
            return str(error)
    return ""


async def check_samples(probe: Probe) -> None:
    """Run some samples, because a wrong one would make many checks fail. Raises `UsageError` for a
    sample that does not do what it should.
    """
    samples = probe.samples
    if samples.code is not None:
        code = await probe.execute(samples.code)
        if code.status != "ok":
            raise UsageError(f"the sample code={samples.code!r} must end well: {code.error}")
    if samples.failing is not None and (await probe.execute(samples.failing)).status == "ok":
        raise UsageError(f"the sample failing={samples.failing!r} must fail")
    if samples.printing is not None and not (await probe.execute(samples.printing)).stdout:
        raise UsageError(f"the sample printing={samples.printing!r} must write to stdout")
