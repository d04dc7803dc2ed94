"""The file names that cells are compiled under: those that ipykernel gives them.

A cell's file name consists of the folder for temporary files, the process id, and a hash of the
cell's text. Tools identify a cell by it: `inspect` and warnings find its lines, numba caches what
it compiles, coverage and profilers distinguish cells, and a frontend's debugger computes the same
name from the text that it shows. The file does not exist; `linecache` has its lines. If the
environment variable ``IPYKERNEL_CELL_NAME`` is set, all cells have that name. Source: "Debug
request" in messaging.rst, and Austin Appleby's MurmurHash2 (public domain).
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
    """The file name of a cell; ``code`` is its text exactly as the frontend has sent it."""
    return os.environ.get(VARIABLE) or f"{cell_folder()}{os.sep}{murmur2(code, HASH_SEED)}.py"


def hash_seed() -> int:
    """`HASH_SEED`, as a function, which ipykernel has."""
    return HASH_SEED


def cell_folder() -> str:
    """The folder in the file names of this process's cells; it is never created."""
    return f"{_temporary_folder()}{os.sep}ipykernel_{os.getpid()}"


@cache
def _temporary_folder() -> str:
    folder = tempfile.gettempdir()  # on Windows perhaps a short name (SHORT~1): debuggers expand it
    return os.path.realpath(folder) if sys.platform == "win32" else folder


def murmur2(text: str, seed: int) -> int:
    """The 32-bit MurmurHash2 of the text in UTF-8."""
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
