"""What one request costs: alone, in a queue, from many clients."""

from __future__ import annotations

import time

import zmq

from .measuring import TIMEOUT, Kernel, median_of, receive

__all__ = ["measure_requests"]

ASKED, QUEUED, CLIENTS, EACH = 500, 1000, 50, 20
WARM = 100


def measure_requests(kernel: Kernel) -> dict[str, float]:
    """Round trips and rates of a kernel that does nothing else."""
    total = ASKED + WARM
    infos = [kernel.encode("kernel_info_request") for _ in range(total)]
    info = median_of(lambda one: kernel.ask(kernel.shell, one), infos, WARM)
    kernel.drain()
    cells = [kernel.encode_cell() for _ in range(total)]
    cell = median_of(kernel.run, cells, WARM)
    return {
        "kernel_info": info * 1e6,
        "execute": cell * 1e6,
        "queued": _queued(kernel),
        "clients": _many_clients(kernel),
    }


def _queued(kernel: Kernel) -> float:
    """Cells a second, all of them sent at once; each one's idle included."""
    queued = [kernel.encode_cell() for _ in range(QUEUED)]
    begun = time.perf_counter()
    for frames in queued:
        kernel.shell.send_multipart(frames)
    for _ in queued:
        receive(kernel.shell)
    kernel.until_idle(queued[-1])
    return QUEUED / (time.perf_counter() - begun)


def _many_clients(kernel: Kernel) -> float:
    """Requests a second of clients that all send theirs at once."""
    sockets = [kernel.connect() for _ in range(CLIENTS)]
    for socket in sockets:
        kernel.ask(socket, kernel.encode("kernel_info_request"))
    kernel.drain()
    questions = [[kernel.encode("kernel_info_request") for _ in range(EACH)] for _ in sockets]
    for socket in sockets:
        socket.set(zmq.RCVTIMEO, TIMEOUT)
    begun = time.perf_counter()
    for asked in zip(*questions, strict=True):
        for socket, frames in zip(sockets, asked, strict=True):
            socket.send_multipart(frames)
    for socket in sockets:  # they come in turns: to wait for the last one is to wait for all
        for _ in range(EACH):
            socket.recv_multipart()
    seconds = time.perf_counter() - begun
    for socket in sockets:
        socket.close()
    kernel.drain()
    return CLIENTS * EACH / seconds
