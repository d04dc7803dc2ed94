"""What tells a controller that its engine is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from trikernel.transport import farewell

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
