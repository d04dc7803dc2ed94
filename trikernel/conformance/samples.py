"""Code in the kernel's language that checks run: built in for Python, else read from a file.

A sample that is not given is None, and a requirement that needs it is not checked. Knows nothing of
kernels.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ..errors import UsageError

__all__ = ["PYTHON", "Samples", "read_samples", "samples_of"]


@attrs.frozen(kw_only=False)
class Samples:
    """Code in the kernel's language: ``code`` ends well, ``failing`` ends with an error.

    ``printing`` writes to stdout. ``completing`` can be completed at its end, and so can ``wide``,
    which has a character beyond U+FFFF before that. ``resulting`` has a result, ``expression`` is a
    user expression, ``incomplete`` is the beginning of a statement, ``inspecting`` a name that can
    be inspected. ``displaying`` displays something; ``updating`` displays something and updates it
    under the same display id; ``clearing`` clears the output; ``flooding`` displays ten kilobytes
    3,000 times. ``asking`` asks for a line of input and prints it, ``secret`` does so with a
    password. ``sleeping`` takes two seconds; so does ``computing``, which also keeps the
    interpreter's lock, if there is one; ``endless`` runs for a minute and can be interrupted.
    ``comm`` registers a comm target named ``conform`` that sends back data and buffers. ``nan``,
    ``surrogate``, ``binary`` and ``date`` put out values that JSON does not have: NaN and infinity
    as ``application/json``, a lone surrogate as text, bytes as ``image/png``, a date as
    ``application/json``.
    """

    code: str | None = "1"
    failing: str | None = None
    printing: str | None = None
    completing: str | None = None
    wide: str | None = None
    resulting: str | None = None
    expression: str | None = None
    incomplete: str | None = None
    inspecting: str | None = None
    displaying: str | None = None
    updating: str | None = None
    clearing: str | None = None
    flooding: str | None = None
    asking: str | None = None
    secret: str | None = None
    sleeping: str | None = None
    computing: str | None = None
    endless: str | None = None
    comm: str | None = None
    nan: str | None = None
    surrogate: str | None = None
    binary: str | None = None
    date: str | None = None


_SHOW = "from IPython.display import display\n"
_COMM = """\
import comm
kept = []  # some kernels keep a comm no longer than their user does
def opened(comm, message):
    kept.append(comm)
    def hear(message):
        comm.send(message["content"]["data"], buffers=message["buffers"])
    comm.on_msg(hear)
comm.get_comm_manager().register_target("conform", opened)
"""

PYTHON = Samples(
    code="1 + 1",
    failing="1/0",
    printing="print('x')",
    completing="impor",
    wide="x = '\N{MATHEMATICAL BOLD SMALL A}'; impor",
    resulting="6 * 7",
    expression="6 * 7",
    incomplete="for i in range(3):",
    inspecting="print",
    displaying=_SHOW + "display({'text/plain': 'x'}, raw=True)",
    updating=_SHOW
    + "shown = display({'text/plain': '1'}, raw=True, display_id='conform')\n"
    + "_ = display({'text/plain': '2'}, raw=True, display_id='conform', update=True)",
    clearing="from IPython.display import clear_output\nclear_output(wait=True)",
    flooding=_SHOW
    + "for number in range(3000):\n    display({'text/plain': f'{number:04}' * 2500}, raw=True)",
    asking="print(input('name? '))",
    secret="import getpass\nprint(getpass.getpass('word? '))",
    sleeping="import time; time.sleep(2)",
    computing="_ = sum(range(10**8))",
    endless="import time\nfor _ in range(600): time.sleep(0.1)",
    comm=_COMM,
    nan=_SHOW + "display({'application/json': {'a': float('nan'), 'b': [float('inf')]}}, raw=True)",
    surrogate="print('\\ud800 x')",
    binary=_SHOW + "display({'image/png': b'\\x89PNG\\r\\n\\x1a\\n'}, raw=True)",
    date=_SHOW
    + "import datetime\n"
    + "display({'application/json': {'a': datetime.datetime(2020, 1, 2)}}, raw=True)",
)

NO_SAMPLES = Samples(code=None)


def samples_of(info: Mapping[str, Any]) -> Samples:
    """The built-in samples for the language of a ``kernel_info_reply``: for Python, else none."""
    language = info.get("language_info")
    name = language.get("name") if isinstance(language, Mapping) else None
    return PYTHON if str(name).lower() in ("python", "ipython") else NO_SAMPLES


def read_samples(path: str | os.PathLike[str]) -> Samples:
    """The samples in a TOML file, whose keys are their names. Raises `UsageError`."""
    try:
        fields = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--samples: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--samples: {path} is no TOML file: {error}") from None
    known = [field.name for field in attrs.fields(Samples)]
    for name, code in fields.items():
        if name not in known:
            raise UsageError(f"--samples: {path}: no sample {name!r}; they are {', '.join(known)}")
        if not isinstance(code, str):
            raise UsageError(f"--samples: {path}: {name!r} must be a string")
    return Samples(**{"code": None, **fields})
