"""A million forged messages, and how a good client fares meanwhile.

``python -m tests.reliability.forging --messages 1000000``: another process without the key sends as
fast as it can to one channel of a Python kernel, while a client with the key runs small cells.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import attrs
import psutil

from ..processes import KernelProcess, kernel_process

ATTACKER = """
import sys, zmq
endpoint, count, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(endpoint)
header = b'{"msg_id":"x","msg_type":"execute_request","session":"s","date":"","version":"5.4"}'
signature = {"wrong": b"0" * 64, "unsigned": b"", "garbage": b""}[kind]
frames = [b"<IDS|MSG>", signature, header, b"{}", b"{}", b'{"code":"1"}']
if kind == "garbage":
    frames = [b"no message"]
print("connected", flush=True)
for _ in range(count):
    socket.send_multipart(frames)
socket.close()
zmq.Context.instance().term()
print("sent", flush=True)
"""


@attrs.frozen
class Outcome:
    """Seconds for a cell, before and during; bytes that resident memory has grown by."""

    quiet: float
    flooded: float
    cells: int
    growth: int
    refused_seconds: float
    log_bytes: int

    @property
    def ratio(self) -> float:
        return self.flooded / self.quiet


def cells(kernel: KernelProcess, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        reply, _ = kernel.execute("1", store_history=False)
        taken.append(time.perf_counter() - began)
        assert reply["status"] == "ok"
    return taken


def flood(messages: int, channel: str, kind: str) -> Outcome:
    """Run it once."""
    with kernel_process() as kernel:
        cells(kernel, 100)
        process = psutil.Process(kernel.process.pid)
        before = process.memory_info().rss
        quiet = statistics.median(cells(kernel, 300))
        port = kernel.client.get_connection_info()[f"{channel}_port"]
        began, flooded = time.perf_counter(), []
        attacker = subprocess.Popen(
            [sys.executable, "-c", ATTACKER, f"tcp://127.0.0.1:{port}", str(messages), kind],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "connected\n"
        try:
            while attacker.poll() is None:
                flooded += cells(kernel, 10)
        finally:
            attacker.kill()
            attacker.communicate()
        seconds = time.perf_counter() - began
        growth = process.memory_info().rss - before
        kernel.process.kill()
        assert kernel.process.stderr is not None
        log = len(kernel.process.stderr.read())
        return Outcome(quiet, statistics.median(flooded), len(flooded), growth, seconds, log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--channel", choices=["shell", "control"], default="shell")
    parser.add_argument("--kind", choices=["wrong", "unsigned", "garbage"], default="wrong")
    options = parser.parse_args()
    outcome = flood(options.messages, options.channel, options.kind)
    print(f"{options.messages:,} messages ({options.kind}) to {options.channel}")
    print(f"refused in {outcome.refused_seconds:.1f} s, {outcome.log_bytes} bytes of log")
    print(f"a cell, p50: {outcome.quiet * 1e3:.2f} ms, then {outcome.flooded * 1e3:.2f} ms")
    print(f"ratio {outcome.ratio:.2f} over {outcome.cells} cells")
    print(f"resident memory grew by {outcome.growth / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
