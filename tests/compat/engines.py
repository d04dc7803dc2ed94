"""ipyparallel's own tests, of the release that is installed, with its engines and with ours.

::

    python -m tests.compat.engines                  # all of them, with both: an hour
    python -m tests.compat.engines view client --engines trikernel

The tests are part of ipyparallel's package. They need ``pytest-asyncio`` and ``testpath`` beside
what `trikernel[test]` installs. What differs is run once more, and if it still does it is shown
side by side. A test that passes with ipyparallel's engines and not with ours, and has no reason in
`REASONS`, is an error. Those of files that start no engines are left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ipyparallel

ROOT = Path(__file__).parent.parent.parent
TESTS = Path(ipyparallel.__file__).parent / "tests"
ENGINES = ("ipyparallel", "trikernel")
FILES = (
    "view",
    "client",
    "lbview",
    "dependency",
    "asyncresult",
    "magics",
    "view_broadcast",
    "remotefunction",
    "executor",
    "label",
    "joblib",
    "async",
    "cluster",
    "apps",
)
TIMEOUT = 1200  # seconds for one file

REASONS: dict[str, str] = {}
"""Why a test that passes with ipyparallel's engines does not with ours, by the end of its name."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Run ipyparallel's tests on two kinds of engines.")
    parser.add_argument("names", nargs="*", choices=[[], *FILES], metavar="NAME")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse_args()
    unexplained = 0
    for name in options.names or FILES:
        found = {engines: run(name, engines) for engines in options.engines}
        if len(found) > 1 and (tests := [test for test, _ in different(found)]):
            for engines, ended in found.items():  # on a busy machine engines come too late
                ended.update(run(name, engines, tests))
        cells = [f"{engines}: {figures(outcomes)}" for engines, outcomes in found.items()]
        print(name, *cells, sep=" | ", flush=True)
        for test, outcomes in different(found):
            why = reason(test)
            unexplained += not why and outcomes[-1] != "passed"
            print(f"  {test} | {' | '.join(outcomes)} | {why or 'NO REASON'}", flush=True)
    sys.exit(f"{unexplained} tests differ without a reason" if unexplained else 0)


def different(found: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """The tests that end in another way with one kind of engines than with the other, in the order
    of ``found``; if that has one kind only, those that fail.
    """
    for test in sorted({test for outcomes in found.values() for test in outcomes}):
        outcomes = [one.get(test, "not run") for one in found.values()]
        if len(set(outcomes)) > 1 or (len(found) == 1 and outcomes == ["failed"]):
            yield test, outcomes


def reason(test: str) -> str:
    """Why a test may differ, or nothing."""
    return next((words for end, words in REASONS.items() if test.endswith(end)), "")


def figures(outcomes: dict[str, str]) -> str:
    """How many tests ended how."""
    counted = Counter(outcomes.values())
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counted.items()))


def run(name: str, engines: str, only: Sequence[str] = ()) -> dict[str, str]:
    """The outcome of each test in a file, or of some of them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "no:trikernel", f"--junitxml={report}", "-W", "ignore"]
        command += ["-o", "asyncio_mode=auto"]
        functions = {test.rpartition("::")[2].partition("[")[0] for test in only}
        command += ["-k", " or ".join(functions)] if functions else []
        command += ["-p", "tests.compat.our_engines"] if engines == "trikernel" else []
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (Path(folder) / "log").open("w") as log:
            try:
                subprocess.run(
                    [*command, str(TESTS / f"test_{name}.py")],
                    cwd=folder,
                    env=environ,
                    stdout=log,
                    stderr=log,
                    timeout=TIMEOUT,
                )
            except subprocess.TimeoutExpired:
                print(f"{name} did not come to its end with {engines}'s engines", file=sys.stderr)
        if not report.exists():
            return {}
        outcomes = {}
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {one.tag for one in case} & {"failure", "error", "skipped"}
            failed = kinds & {"failure", "error"}
            outcome = "failed" if failed else "skipped" if kinds else "passed"
            outcomes[f"{case.get('classname')}::{case.get('name')}"] = outcome
        return outcomes


if __name__ == "__main__":
    main()
