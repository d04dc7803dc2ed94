"""The file names that cells are compiled under: those that ipykernel gives them.

A cell's name is made of its text: a folder for temporary files, the process' number, the hash of
the text. Tools know a cell by that: `inspect` and warnings find its lines, numba keeps what it
compiles, coverage and profilers tell cells apart, and a frontend that debugs makes the same name
from the text that it shows. There is no such file; `linecache` has the lines. With the environment
variable ``IPYKERNEL_CELL_NAME`` all cells have that name. Source: "Debug request" in messaging.rst,
and Austin Appleby's MurmurHash2 (public domain).
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from functools import cache

__all__ = ["HASH_SEED", "VARIABLE", "cell_folder", "file_name", "hash_seed", "murmur2"]

HASH_SEED = 0xC70F6907
VARIABLE = "IPYKERNEL_CELL_NAME"
"""The environment variable that names all cells, if it is set."""
_FACTOR = 0x5BD1E995
_MASK = 0xFFFFFFFF
_WORD = struct.Struct("<I")


def file_name(code: str) -> str:
    """The name for a cell, whose text is as the frontend has sent it."""
    return os.environ.get(VARIABLE) or f"{cell_folder()}{os.sep}{murmur2(code, HASH_SEED)}.py"


def hash_seed() -> int:
    """`HASH_SEED`."""
    return HASH_SEED


def cell_folder() -> str:
    """The folder in the names of this process' cells; nobody makes it."""
    return f"{_temporary_folder()}{os.sep}ipykernel_{os.getpid()}"


@cache
def _temporary_folder() -> str:
    folder = tempfile.gettempdir()  # on Windows perhaps as SHORT~1, which debuggers spell out
    return os.path.realpath(folder) if sys.platform == "win32" else folder


def murmur2(text: str, seed: int) -> int:
    """MurmurHash2 with 32 bits, of the text in UTF-8."""
    data = text.encode("utf-8", "surrogatepass")
    size = len(data)
    whole = size & ~3
    value = seed ^ size
    for (word,) in _WORD.iter_unpack(data[:whole]):
        word = word * _FACTOR & _MASK
        value = (value * _FACTOR & _MASK) ^ ((word ^ word >> 24) * _FACTOR & _MASK)
    if whole < size:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _MASK
    value = (value ^ value >> 13) * _FACTOR & _MASK
    return value ^ value >> 15
