"""What comes out of a cell: printed lines, displays, a large result."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

from .measuring import Kernel, receive

__all__ = ["measure_outputs"]

LINES, DISPLAYS, LARGE = 300_000, 5_000, 32 << 20
_PRINTS = f"""
import time; t = time.perf_counter()
for n in range({LINES}): print('line')
t = time.perf_counter() - t
"""
_LARGE = f"""
class Large:
    text = 'x' * {LARGE}
    def _repr_mimebundle_(self, **options): return {{'text/plain': self.text}}
large = Large()
"""


def measure_outputs(kernel: Kernel) -> dict[str, float]:
    """Figures of a kernel that has Python inside."""
    kernel.run(kernel.encode_cell("import gc, time"))
    begun = time.perf_counter()
    messages = _run(kernel, _PRINTS)
    seconds = time.perf_counter() - begun
    printed = _text(messages).count("\n")
    cost = float(_text(_run(kernel, "print(t)"))) / LINES
    begun = time.perf_counter()
    shown = _count(kernel, f"for n in range({DISPLAYS}): display(n)", b"display_data")
    displaying = time.perf_counter() - begun
    rate, copies = _large_result(kernel)
    return {
        "printed": printed / seconds,
        "printed_arrived": 100 * printed / LINES,
        "print_call": cost * 1e6,
        "display": shown / displaying,
        "large_result": rate / 1e6,
        "large_result_copies": copies,
    }


def _run(kernel: Kernel, code: str) -> list[list[bytes]]:
    frames = kernel.encode_cell(code)
    kernel.shell.send_multipart(frames)
    parts = list(kernel.outputs(frames))
    receive(kernel.shell)
    return parts


def _text(messages: list[list[bytes]]) -> str:
    parts = [one for one in messages if b'"stream"' in one[-4]]
    return "".join(json.loads(one[-1])["text"] for one in parts)


def _count(kernel: Kernel, code: str, msg_type: bytes) -> int:
    return sum(b'"%s"' % msg_type in one[-4] for one in _run(kernel, code))


def _large_result(kernel: Kernel) -> tuple[float, float]:
    """Bytes a second, and how much memory grew meanwhile, in payloads; the value not counted."""
    kernel.run(kernel.encode_cell(_LARGE))
    kernel.run(kernel.encode_cell("large; gc.collect()"))
    before = _reset_peak(kernel)
    begun = time.perf_counter()
    sizes = [sum(map(len, one)) for one in _run(kernel, "large")]
    seconds = time.perf_counter() - begun
    if max(sizes, default=0) < LARGE:
        return math.nan, math.nan
    grown = _status(kernel, "VmHWM") - before
    kernel.run(kernel.encode_cell("del large, Large; gc.collect()"))
    return LARGE / seconds, grown / LARGE if before else math.nan


def _reset_peak(kernel: Kernel) -> float:
    """Have the system forget the peak of the memory; what is resident now, 0 if it cannot."""
    if sys.platform != "linux":
        return 0
    Path(f"/proc/{kernel.process.pid}/clear_refs").write_text("5")
    return _status(kernel, "VmRSS")


def _status(kernel: Kernel, field: str) -> float:
    if sys.platform != "linux":
        return 0
    text = Path(f"/proc/{kernel.process.pid}/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024
