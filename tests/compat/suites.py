"""Other programs' own test suites, run with ipykernel and with this kernel in its place.

::

    python -m tests.compat.suites               # all of them: an hour
    python -m tests.compat.suites nbclient nbval --kernels trikernel
    python -m tests.compat.suites --write       # the table of docs/reference/ipykernel.md

What came of a run is kept, and ``--write`` runs only what was not run yet; ``--anew`` runs all.

There are two environments with the same packages, kept in ``.compat``. In the second one the
kernelspec named ``python3`` is this kernel's, as ``trikernel install`` makes it. Some tests hide
all kernelspecs and start ``python -m ipykernel_launcher`` themselves, so there that module starts
this kernel, too, with the arguments that it gets. Each start of a kernel is counted, by the
environment and not by the test.

A test that passes with ipykernel and not here, and has no reason in ``REASONS``, is an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import venv
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent.parent
HOME = ROOT / ".compat"
PAGE = ROOT / "docs" / "reference" / "ipykernel.md"
KERNELS = ("ipykernel", "trikernel")
TIMEOUT = 300  # seconds for one test
BEGIN, END = "<!-- made by python -m tests.compat.suites --write -->", "<!-- end -->"

COUNTING = """\
import os, sys
if {"ipykernel_launcher", "trikernel"} & set(sys.orig_argv[:5]) and "-f" in sys.orig_argv:
    with open(os.path.join(sys.prefix, "starts"), "a") as file:
        print(*sys.orig_argv, file=file)
"""
LAUNCHER = """\
import sys
from trikernel.cli import main

sys.exit(main(["start", *sys.argv[1:]]))
"""

REQUIREMENTS = [
    "beautifulsoup4",
    "flaky",
    "ipykernel",
    "ipywidgets",
    "jsonschema",
    "matplotlib",
    "msgpack",
    "nbdime",
    "numpy",
    "orjson",
    "pandas",
    "papermill[all]",
    "pexpect",
    "pyarrow",
    "PyQt5",
    "pytest<10",
    "pytest-asyncio",
    "pytest-console-scripts",
    "pytest-cov",
    "pytest-env",
    "pytest-jupyter[client,server]",
    "pytest-param-files",
    "pytest-qt",
    "pytest-regressions",
    "pytest-timeout",
    "pytz",
    "sphinx-pytest",
    "sympy",
    "testpath",
    "xmltodict",
]


@attrs.frozen
class Suite:
    """One program: the tests of the release that is installed, in its sources from PyPI.

    ``repository`` is where they are if those have none.
    """

    name: str
    tests: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    repository: str = ""
    environ: Mapping[str, str] = attrs.field(factory=dict)


SUITES = {
    one.name: one
    for one in (
        Suite("nbclient", ("tests",)),
        Suite("papermill", ("papermill/tests",)),
        Suite("nbmake", ("tests",)),
        Suite("nbval", ("tests",), ("-p", "no:nbmake")),
        Suite("nbconvert", ("tests/preprocessors", "tests/test_nbconvertapp.py")),
        Suite("jupyter_client", ("tests",)),
        Suite("jupyter_server", ("tests/services/kernels", "tests/services/sessions")),
        Suite("jupyter_console", ("jupyter_console/tests",)),
        Suite("qtconsole", ("qtconsole/tests",), environ={"QT_QPA_PLATFORM": "offscreen"}),
        Suite("myst-nb", ("tests",), repository="https://github.com/executablebooks/MyST-NB"),
        Suite(
            "jupyter-cache",
            ("tests",),
            repository="https://github.com/executablebooks/jupyter-cache",
        ),
        Suite("ipywidgets", ("ipywidgets",)),
    )
}

REASONS: dict[str, str] = {}
"""Why a test that passes with ipykernel does not here, by the end of its name."""


@attrs.frozen
class Run:
    """What came of a suite: an outcome for each test, and how many kernels were started."""

    outcomes: Mapping[str, str]
    starts: int

    @property
    def passed(self) -> set[str]:
        return {name for name, outcome in self.outcomes.items() if outcome == "passed"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run other programs' suites on two kernels.")
    parser.add_argument("names", nargs="*", choices=[[], *SUITES], metavar="NAME")
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--write", action="store_true", help=f"write the table of {PAGE.name}")
    parser.add_argument("--anew", action="store_true", help="run also what has been run before")
    options = parser.parse_args()
    rows, unexplained = [], []
    for name in options.names or SUITES:
        runs = {kernel: kept(SUITES[name], kernel, options) for kernel in options.kernels}
        row = [name, version(name), *(figures(runs.get(kernel)) for kernel in KERNELS)]
        print(*row, sep=" | ", flush=True)
        rows.append(row)
        if len(runs) == len(KERNELS):
            for test in sorted(runs["ipykernel"].passed - runs["trikernel"].passed):
                print(f"  only with ipykernel: {test}: {reason(test) or 'NO REASON'}", flush=True)
                unexplained += [] if reason(test) else [test]
            for test in sorted(runs["trikernel"].passed - runs["ipykernel"].passed):
                print(f"  only with trikernel: {test}", flush=True)
    if options.write:
        write(rows)
    sys.exit(f"{len(unexplained)} tests differ without a reason" if unexplained else 0)


def reason(test: str) -> str:
    """Why a test may differ, or nothing."""
    return next((words for end, words in REASONS.items() if test.endswith(end)), "")


def figures(found: Run | None) -> str:
    """What a cell of the table says."""
    if found is None:
        return "not run"
    counted = Counter(found.outcomes.values())
    rest = ", ".join(f"{count} {one}" for one, count in sorted(counted.items()) if one != "passed")
    return f"{counted['passed']} passed{', ' if rest else ''}{rest}; {found.starts} starts"


def kept(suite: Suite, kernel: str, options: argparse.Namespace) -> Run:
    """What came of a suite the last time; it is run if it must be."""
    file = HOME / kernel / f"{suite.name}.json"
    if options.anew or not (options.write and file.exists()):
        found = run(suite, kernel)
        file.write_text(json.dumps(attrs.asdict(found), indent=1))
    return Run(**json.loads(file.read_text()))


def run(suite: Suite, kernel: str) -> Run:
    """Run a suite in the environment of a kernel."""
    prefix = environment(kernel)
    folder = sources(suite)
    report, log = prefix / "report.xml", prefix / f"{suite.name}.log"
    starts = prefix / "starts"
    for left in (report, starts):
        left.unlink(missing_ok=True)
    command = [python(prefix), "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += ["--continue-on-collection-errors", f"--timeout={TIMEOUT}"]
    options = ("junit_family=xunit1", "addopts=", "asyncio_default_fixture_loop_scope=function")
    command += [f"-o{one}" for one in options]
    command += [*suite.arguments, *suite.tests]
    environ = ["env", "-u", "PYTHONPATH", f"PATH={prefix / 'bin'}:/usr/local/bin:/usr/bin:/bin"]
    settings = [f"{name}={value}" for name, value in suite.environ.items()]
    with log.open("w") as file:
        subprocess.run([*environ, *settings, *command], cwd=folder, stdout=file, stderr=file)
    if not report.exists():
        print(f"{suite.name} did not run to its end: see {log}", file=sys.stderr)
        return Run({}, 0)
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {one.tag for one in case} & {"failure", "error", "skipped"}
        outcome = {"failure": "failed", "error": "failed"}.get(min(kinds, default=""), "skipped")
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = outcome if kinds else "passed"
    return Run(outcomes, len(starts.read_text().splitlines()) if starts.exists() else 0)


def python(prefix: Path) -> str:
    """The Python of an environment."""
    return str(prefix / "bin" / "python")


_made: dict[str, Path] = {}


def environment(kernel: str) -> Path:
    """The environment in which that kernel is ``python3``; made once, ours brought up to date."""
    if kernel in _made:
        return _made[kernel]
    prefix = _made[kernel] = HOME / kernel
    install = [python(prefix), "-m", "pip", "install", "-q"]
    if not (prefix / "ready").exists():
        print(f"making an environment with {kernel} ...", file=sys.stderr)
        venv.create(prefix, with_pip=True)
        subprocess.run([*install, *REQUIREMENTS, *SUITES], check=True)
        (packages(prefix) / "sitecustomize.py").write_text(COUNTING)
        (prefix / "ready").touch()
    if kernel == "trikernel":
        subprocess.run([*install, f"{ROOT}[python]"], check=True)
        subprocess.run([*install, "--force-reinstall", "--no-deps", str(ROOT)], check=True)
        (packages(prefix) / "ipykernel_launcher.py").write_text(LAUNCHER)
        spec = ["-m", "trikernel", "install", "--name", "python3", "--prefix", str(prefix)]
        subprocess.run([python(prefix), *spec], check=True, stdout=subprocess.DEVNULL)
    return prefix


def packages(prefix: Path) -> Path:
    """Where the modules of an environment are."""
    return next((prefix / "lib").glob("python3*")) / "site-packages"


def version(name: str) -> str:
    """The release that is installed."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    prefix = HOME / ("ipykernel" if (HOME / "ipykernel" / "ready").exists() else "trikernel")
    found = subprocess.run([python(prefix), "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def sources(suite: Suite) -> Path:
    """The sources of the release that is installed, with its tests; fetched once."""
    number = version(suite.name)
    folder = HOME / "sources" / f"{suite.name}-{number}"
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    if suite.repository:
        clone = ["git", "clone", "-q", "--depth=1", f"--branch=v{number}", suite.repository]
        subprocess.run([*clone, str(folder)], check=True)
        return folder
    download = [python(environment("ipykernel")), "-m", "pip", "download", "-q", "--no-deps"]
    which = ["--no-binary", suite.name, "--dest", str(folder.parent), f"{suite.name}=={number}"]
    subprocess.run([*download, *which], check=True)
    name = f"{suite.name.replace('-', '_')}-{number}"
    with tarfile.open(folder.parent / f"{name}.tar.gz") as archive:
        archive.extractall(folder.parent, filter="data")
    (folder.parent / name).rename(folder)
    return folder


def write(rows: list[list[str]]) -> None:
    """Put the table in the page."""
    head = "| program | release | with ipykernel | with trikernel |\n|---|---|---|---|\n"
    table = head + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text = PAGE.read_text("utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
