"""libzmq's functions that send and receive a frame, called without releasing the interpreter lock.

What is wanted
    A request over control is answered soon while a cell computes. The service thread has to wait
    for the interpreter lock once, up to a switch interval, as the cell's thread does not release it
    earlier.

What does not work
    pyzmq releases the lock around every call, also around calls that never wait. The cell's thread
    waits for the lock at that moment, so it may get it; then the service thread waits for another
    switch interval. A request has about 30 frames, in and out, so this can happen 30 times.

What is done
    The main thread is the one that may compute. In every other thread the same functions of libzmq
    are called by `ctypes`, which keeps the lock if a library is loaded as a `ctypes.PyDLL`. A call
    takes about a microsecond longer. None of these calls waits.

What remains
    `HELD` is None where this is not possible: with a backend of pyzmq other than its own for
    CPython, and on Windows, where libzmq's functions are not found by way of a library that is
    linked to it. Then pyzmq's calls are made. Large frames always go by pyzmq: copying them takes
    long, and needs no lock.
"""

from __future__ import annotations

import errno
import threading
from typing import Any

import zmq

__all__ = ["HELD", "Held", "may_keep_the_lock"]

_MESSAGE = 64  # bytes of a zmq_msg_t: zmq.h


def may_keep_the_lock() -> bool:
    """Whether the calling thread is not the main thread, which is the one that may compute."""
    return threading.get_ident() != threading.main_thread().ident


class Held:
    """The functions of the same libzmq that pyzmq has loaded. Raises `LookupError` if they are not
    found.
    """

    def __init__(self) -> None:
        try:
            import ctypes

            from zmq.backend.cython import _zmq

            library = ctypes.PyDLL(_zmq.__file__)
            pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
            self._send = library.zmq_send
            self._send.argtypes = [pointer, ctypes.c_char_p, size, number]
            self._receive = library.zmq_msg_recv
            self._receive.argtypes = [pointer, pointer, number]
            self._open, self._close = library.zmq_msg_init, library.zmq_msg_close
            self._data, self._size = library.zmq_msg_data, library.zmq_msg_size
            for one in (self._open, self._close, self._data, self._size):
                one.argtypes = [pointer]
            self._data.restype, self._size.restype = pointer, size
            self._errno = library.zmq_errno
            self._string_at: Any = ctypes.string_at
            self._new: Any = ctypes.create_string_buffer
            self._address: Any = ctypes.addressof
        except (ImportError, OSError, AttributeError) as error:
            raise LookupError(f"libzmq's functions are not found: {error}") from None

    def send(self, socket: int, frame: bytes, flags: int) -> None:
        """Send one frame on the socket at that memory address. Raises `zmq.ZMQError`."""
        while self._send(socket, frame, len(frame), flags) < 0:
            self._check()

    def receive(self, socket: int, flags: int) -> bytes:
        """The next frame. Raises `zmq.ZMQError`."""
        message = self._new(_MESSAGE)
        address = self._address(message)
        self._open(address)
        try:
            while self._receive(address, socket, flags) < 0:
                self._check()
            return bytes(self._string_at(self._data(address), self._size(address)))
        finally:
            self._close(address)

    def _check(self) -> None:
        """Raise the error of the last call; return if a signal has interrupted it, so that it is
        made again.
        """
        number = self._errno()
        if number == errno.EAGAIN:
            raise zmq.Again(number)
        if number != errno.EINTR:
            raise zmq.ZMQError(number)


def _held() -> Held | None:
    try:
        return Held()
    except LookupError:
        return None


HELD = _held()
