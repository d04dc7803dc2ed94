"""ipyparallel's package runs its code when somebody asks for it, and is whole then."""

from __future__ import annotations

import subprocess
import sys

import pytest

AFTER = {
    "a module of it first": "import ipyparallel.client.asyncresult as found",
    "a name of it": "from ipyparallel import Client as found",
    "itself": "import ipyparallel; found = ipyparallel.error.UnmetDependency",
    "another module": "import ipyparallel.datapub; found = ipyparallel.datapub.publish_data",
    "a module that was there": "import ipyparallel; found = ipyparallel.serialize.can",
}


def run(code: str, before: str = "") -> str:
    begins = "import sys; from trikernel.engine import light\n"
    command = [sys.executable, "-c", f"{begins}{before}\nlight.import_serializer()\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_what_an_engine_needs_imports_no_client_and_no_loop() -> None:
    heavy = {"ipyparallel.client", "ipyparallel.cluster", "ipyparallel.util", "psutil"}
    heavy |= {"jupyter_client", "jupyter_client.session", "tornado", "asyncio"}
    packs = "from trikernel.engine.packing import pack\npack([1, lambda: 2])\n"
    assert run(f"{packs}print({heavy} & set(sys.modules))") == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("how", AFTER)
def test_the_package_is_whole_once_it_is_asked_for(how: str) -> None:
    checks = "import ipyparallel, ipyparallel.serialize as s\n"
    checks += "print(ipyparallel.can is s.can, before is s, ipyparallel.client.client.Client is "
    checks += "ipyparallel.Client, sys.modules['ipyparallel'].__spec__.name)"
    code = f"before = sys.modules['ipyparallel.serialize']\n{AFTER[how]}\n{checks}"
    assert run(code) == "True True True ipyparallel"


def test_a_package_that_is_missing_is_said_to_be() -> None:
    from trikernel.engine.light import import_lightly

    with pytest.raises(ImportError, match=r"trikernel\[parallel\]"):
        import_lightly("no_such_package_anywhere", "serialize")


SAME = """
import ipyparallel.serialize.serialize as s, jupyter_client.session as session
print((s.MAX_BYTES, s.MAX_ITEMS) == (session.MAX_BYTES, session.MAX_ITEMS) and session.Session)
"""


@pytest.mark.parametrize(
    "before", ["", "del light._Session.MAX_ITEMS", "import jupyter_client.session"]
)
def test_what_it_wants_of_jupyters_session_is_what_that_has(before: str) -> None:
    assert run(SAME, before) == "<class 'jupyter_client.session.Session'>"
