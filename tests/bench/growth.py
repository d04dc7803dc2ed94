"""What does not grow: the cost of a request with the queue, the memory with the cells."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from .environments import environment
from .measuring import Kernel, receive, started

__all__ = ["measure_growth"]

SMALL, LARGE = 10, 100_000
REPEAT = 100  # of the small queue
SETTLE = 0.05  # seconds until a subscription has ended
FEW, MANY, BATCH = 10_000, 100_000, 100
_WAIT = "import trio; await trio.to_thread.run_sync(lambda: open({path!r}).read())"
_ALONE = f"""
import gc, psutil
from IPython.core.interactiveshell import InteractiveShell
shell, me, sizes = InteractiveShell.instance(), psutil.Process(), []
for count in ({FEW}, {MANY} - {FEW}):
    for _ in range(count): shell.run_cell("".join(("a=1", "+1")), store_history=True)
    gc.collect()
    sizes.append(me.memory_full_info().uss)
print((sizes[1] - sizes[0]) / ({MANY} - {FEW}))
"""


def measure_growth() -> dict[str, float]:
    """trikernel's own figures; takes minutes."""
    with started("trikernel") as kernel:
        kernel.settle()
        small, large = _queue_cost(kernel, SMALL, REPEAT), _queue_cost(kernel, LARGE, 1)
    with started("trikernel") as kernel:
        kernel.settle()
        few = _memory_after(kernel, FEW, store_history=False)
        many = _memory_after(kernel, MANY - FEW, store_history=False)
    with started("trikernel") as kernel:
        kernel.settle()
        begun = _memory_after(kernel, FEW, store_history=True)
        ended = _memory_after(kernel, MANY - FEW, store_history=True)
    return {
        "queue_growth": large / small,
        "memory_growth": many / few,
        "history_bytes": (ended - begun) / (MANY - FEW),
        "history_bytes_alone": _alone(),
    }


def _queue_cost(kernel: Kernel, count: int, repeat: int) -> float:
    """Seconds a request takes when ``count`` of them wait in the kernel's queue."""
    if sys.platform == "win32":
        raise NotImplementedError("there are no named pipes")
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat):
            fifo = Path(folder) / str(number)
            os.mkfifo(fifo)
            kernel.iopub.subscribe(b"")
            kernel.settle()
            kernel.shell.send_multipart(kernel.encode_cell(_WAIT.format(path=str(fifo))))
            for frames in [kernel.encode("kernel_info_request") for _ in range(count)]:
                kernel.shell.send_multipart(frames)
            last = kernel.encode("comm_msg", comm_id="unknown", data={})
            kernel.shell.send_multipart(last)  # overtakes, so that its idle says: all are queued
            kernel.until_idle(last)
            kernel.iopub.unsubscribe(b"")
            time.sleep(SETTLE)  # what was queued costs nothing any more
            fifo.open("w").close()
            for _ in range(2):  # the cell's reply, and the first one of the queue
                receive(kernel.shell)
            begun = time.perf_counter()
            for _ in range(count - 1):
                receive(kernel.shell)
            seconds += time.perf_counter() - begun
            kernel.drain()
    return seconds / ((count - 1) * repeat)


def _memory_after(kernel: Kernel, cells: int, *, store_history: bool) -> float:
    """Bytes that the kernel has for itself once it has run so many more."""
    for _ in range(cells // BATCH):
        queued = [kernel.encode_cell(store_history=store_history) for _ in range(BATCH)]
        for frames in queued:
            kernel.shell.send_multipart(frames)
        for _ in queued:
            receive(kernel.shell)
        kernel.until_idle(queued[-1])
    kernel.run(kernel.encode_cell("__import__('gc').collect();", store_history=False))
    kernel.drain()
    return float(psutil.Process(kernel.process.pid).memory_full_info().uss)


def _alone() -> float:
    """Bytes that IPython takes for a cell in its history, without a kernel around it."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "IPYTHONDIR": folder}
        command = [str(environment("trikernel")), "-c", _ALONE]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    return float(run.stdout)
