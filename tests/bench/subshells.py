"""What subshells cost: one that is created, and the main shell beside those that wait."""

from __future__ import annotations

import statistics
import time

from trikernel.wire import json

from .measuring import Frames, Kernel, median_of, receive

__all__ = ["measure_subshells"]

CREATED, MANY, ASKED, WARM, ROUNDS = 20, 8, 300, 50, 3
_WAITS = "import trio; await trio.sleep_forever()"


def measure_subshells(kernel: Kernel) -> dict[str, float]:
    """Milliseconds until a new one has replied, and by what eight that wait slow the main shell."""
    if kernel.contender.name not in ("trikernel", "before"):
        return {}
    created = [_create_and_run(kernel) for _ in range(CREATED)]
    ratios = []
    for _ in range(ROUNDS):  # in turns: what else the machine does hits both
        alone = _execute(kernel)
        waiting = [_create(kernel) for _ in range(MANY)]
        for subshell_id in waiting:
            kernel.shell.send_multipart(_cell(kernel, subshell_id, _WAITS))
        ratios.append(_execute(kernel) / alone)
        for subshell_id in waiting:
            _ask(kernel, "delete_subshell_request", subshell_id=subshell_id)
            receive(kernel.shell)  # its cell's
    return {
        "subshell_created": statistics.median(created) * 1e3,
        "subshells_waiting": statistics.median(ratios),
    }


def _ask(kernel: Kernel, msg_type: str, **content: str) -> dict[str, object]:
    kernel.control.send_multipart(kernel.encode(msg_type, **content))
    answer: dict[str, object] = json.loads(receive(kernel.control)[-1])
    return answer


def _create(kernel: Kernel) -> str:
    return str(_ask(kernel, "create_subshell_request")["subshell_id"])


def _create_and_run(kernel: Kernel) -> float:
    begun = time.perf_counter()
    subshell_id = _create(kernel)
    kernel.shell.send_multipart(_cell(kernel, subshell_id, "a = 1"))
    receive(kernel.shell)
    passed = time.perf_counter() - begun
    _ask(kernel, "delete_subshell_request", subshell_id=subshell_id)
    return passed


def _execute(kernel: Kernel) -> float:
    kernel.drain()
    return median_of(kernel.run, [kernel.encode_cell() for _ in range(ASKED + WARM)], WARM)


def _cell(kernel: Kernel, subshell_id: str, code: str) -> Frames:
    content = {"code": code, "silent": False, "allow_stdin": False}
    header = kernel.codec.header("execute_request", subshell_id=subshell_id)
    return kernel.codec.encode("execute_request", content, header=header)
