"""What users of the Python kernel hand over and JSON has no word for: sent, or told by an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trikernel.python import PythonKernel
from trikernel.wire import Message

from ..cells import contents, served

SET_UP = """
import comm, datetime, math, numpy
from IPython.display import display

class Raises:
    def __init__(self, error):
        self.error = error
    def __repr__(self):
        raise self.error
    def __iter__(self):
        raise self.error

cycle = [1]
cycle += [cycle, {"again": cycle}]
deep = []
for _ in range(5000):
    deep = [deep]

class Shows:
    def __init__(self, value):
        self.value = value
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": "shown", "application/json": self.value}, {"x": self.value}

shell = get_ipython()
"""

ODD = {
    "NaN": "[math.nan, math.inf]",
    "bytes": "b'\\xff'",
    "dates": "[datetime.datetime.now(), datetime.date.max, datetime.timedelta(1)]",
    "numpy": "[numpy.float64('nan'), numpy.bool_(True), numpy.arange(3)]",
    "surrogate": "'\\ud800'",
    "cycle": "cycle",
    "deep": "deep",
    "what raises": "Raises(RuntimeError)",
    "what exits": "[Raises(SystemExit), 2 ** 70]",
    "what interrupts": "Raises(KeyboardInterrupt)",
    "keys": "{None: 1, b'x': 2, (1, 2): 3, numpy.int64(4): 5}",
}

USES = {
    "display": "display({'application/json': value}, raw=True)",
    "display text": "display({'text/plain': value}, raw=True)",
    "display metadata": "display({'text/plain': 'x'}, metadata={'x': value}, raw=True)",
    "display transient": "display({'text/plain': 'x'}, transient={'x': value}, raw=True)",
    "result": "Shows(value)",
    "payload": "shell.payload_manager.write_payload({'source': 'x', 'value': value})",
    "comm": "c = comm.create_comm('t', data={'x': value}, metadata={'x': value})\\n"
    "c.send({'x': value}, metadata={'x': value}); c.close({'x': value})",
    "error": "raise ValueError(value)",
    "print": "print(value)",
}


@pytest.mark.parametrize("case", ODD)
async def test_it_is_sent_or_told_wherever_it_is_given(case: str, autojump_clock: Any) -> None:
    """The client checks that each request has its one reply and its idle, and reads all JSON."""
    heard: list[Message] = []
    async with served(PythonKernel()) as client:
        await client.execute(SET_UP)

        def hear(message: Message) -> bool:
            heard.append(message)
            return False

        client.diverting.append(hear)
        await client.execute(f"value = {ODD[case]}")
        for use, code in USES.items():
            execution = await client.execute(code.replace("\\n", "\n"))
            assert execution.status in ("ok", "error"), use
            if use.startswith("display") and execution.status == "ok":
                assert contents(execution, "display_data"), use
        execution = await client.execute("", user_expressions={"x": "value", "y": "Shows(value)"})
        assert execution.status in ("ok", "error")
        assert (await client.execute("print('on')")).stdout == "on\n"
    for message in heard:
        json.loads(json.dumps([message.content, message.metadata], allow_nan=False))
