"""What tells a controller that its engine is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from trikernel.engine import watcher
from trikernel.transport import farewell

from ..processes import TIMEOUT, wait_until

ALONE = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv[2])
assert "send_farewell" in runpy.run_path(sys.argv[1])
print([name for name in sys.modules if name.startswith(("trikernel", "trio", "attr"))])
"""


def test_who_waits_for_a_death_notice_waits_for_zmq_to_be_imported_and_for_nothing_else() -> None:
    path = str(Path(farewell.__file__))
    words = [sys.executable, "-S", "-E", "-s", "-c", ALONE, path, json.dumps(sys.path)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


# Opens so many files that a new one has a number beyond 1,024, and becomes the given program.
CROWDED = """
import os, sys
for _ in range(1100):
    os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def has_pidfd(pid: int) -> bool:
    """Whether a process has opened a pidfd."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed since
            if "pidfd" in os.readlink(f"{folder}/{name}"):
                return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="there is no pidfd")
def test_it_waits_for_the_end_of_an_engine_whose_descriptors_are_many() -> None:
    if sys.platform != "linux":
        raise NotImplementedError
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 2048:
        pytest.skip("the limit of open files is too low")
    reading, writing = os.pipe()
    engine = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    words = [sys.executable, "-S", "-E", "-s", watcher.__file__, str(reading), str(engine.pid)]
    watching = subprocess.Popen([sys.executable, "-c", CROWDED, *words], pass_fds=[reading])
    os.close(reading)
    wait_until(lambda: has_pidfd(watching.pid), "the watcher's pidfd")
    os.close(writing)  # all descriptors of the engine are closed, and it lives
    engine.communicate(b"\n")
    assert watching.wait(TIMEOUT) == 0
