"""What a kernel does while a cell computes: answer, beat, stop."""

from __future__ import annotations

import signal
import statistics
import time

from .measuring import Kernel, median_of, receive

__all__ = ["measure_aborts", "measure_busy", "measure_interrupts"]

SPIN, ASKED, BEATS, INTERRUPTS = 4.0, 80, 200, 15
ABORTED, ABORTS = 500, 5
WARM = 5
_SPINS = f"import time; t = time.monotonic() + {SPIN}\nwhile time.monotonic() < t: pass"
_WAITS = {
    "interrupt_spin": "while True: pass",
    "interrupt_sleep": "import time; time.sleep(100)",
    "interrupt_await": "import trio; await trio.sleep_forever()",
}


def measure_busy(kernel: Kernel) -> dict[str, float]:
    """Control and the heartbeat, as a cell spins in Python."""
    kernel.heartbeat.send(b"ping")
    receive(kernel.heartbeat)
    cell = kernel.encode_cell(f"print('be' 'gun', flush=True)\n{_SPINS}")  # not in execute_input
    kernel.shell.send_multipart(cell)
    while b"begun" not in receive(kernel.iopub)[-1]:
        continue
    beats = [[b"ping"]] * BEATS
    beat = median_of(lambda one: kernel.ask(kernel.heartbeat, one), beats, WARM)
    asked = [kernel.encode("kernel_info_request") for _ in range(ASKED)]
    control = median_of(lambda one: kernel.ask(kernel.control, one), asked, WARM)
    if kernel.shell.poll(0):
        raise TimeoutError("the cell has ended before all was measured")
    receive(kernel.shell)
    kernel.until_idle(cell)
    return {"control_busy": control * 1e3, "heartbeat_busy": beat * 1e6}


def measure_aborts(kernel: Kernel) -> dict[str, float]:
    """Milliseconds from a cell that fails, with others behind it, to the end of the next one that
    runs.
    """
    times = []
    for _ in range(ABORTS):
        cells = [kernel.encode_cell("1/0"), *(kernel.encode_cell() for _ in range(ABORTED))]
        begun = time.perf_counter()
        for frames in cells:
            kernel.shell.send_multipart(frames)
        for _ in cells:
            receive(kernel.shell)
        while True:
            kernel.shell.send_multipart(kernel.encode_cell())
            if b'"ok"' in receive(kernel.shell)[-1]:
                break
        times.append(time.perf_counter() - begun)
        kernel.drain()
    return {"aborted": statistics.median(times) * 1e3}


def measure_interrupts(kernel: Kernel) -> dict[str, float]:
    """Milliseconds from an interrupt to the reply, the first one of a kernel by itself."""
    first = _interrupt(kernel, _WAITS["interrupt_spin"], 1) * 1e3
    return {"interrupt_first": first} | _interrupts(kernel)


def _interrupts(kernel: Kernel) -> dict[str, float]:
    in_trio = kernel.contender.name in ("trikernel", "async-kernel")
    waits = {key: code for key, code in _WAITS.items() if in_trio or "await" not in code}
    return {key: _interrupt(kernel, code) * 1e3 for key, code in waits.items()}


def _interrupt(kernel: Kernel, code: str, count: int = INTERRUPTS) -> float:
    times = []
    for _ in range(count):
        frames = kernel.encode_cell(f"print('begun', flush=True)\n{code}")
        kernel.shell.send_multipart(frames)
        while b"begun\\n" not in receive(kernel.iopub)[-1]:
            continue
        time.sleep(0.05)  # the cell has to be where it waits
        begun = time.perf_counter()
        if kernel.contender.interrupted_by == "signal":
            kernel.process.send_signal(signal.SIGINT)
        else:
            kernel.control.send_multipart(kernel.encode("interrupt_request"))
        receive(kernel.shell)
        times.append(time.perf_counter() - begun)
        kernel.until_idle(frames)
        time.sleep(0.15)  # beyond the window in which an error aborts what comes
    while kernel.control.poll(0):
        kernel.control.recv_multipart()
    return statistics.median(times)
