"""The pytest plugin: fixtures for tests of kernels and notebooks, with pytest-trio.

The fixture ``kernel_client`` is a client of the kernel that the fixture ``kernel`` returns:
override ``kernel`` to test a kernel of your own. The kernel is served in memory, in the test's own
loop; a test that also takes ``autojump_clock`` runs in virtual time. ``kernel_process`` is a client
of a kernel in a process. A failure is reported as a plain error, not in an ``ExceptionGroup``.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..kernel import Kernel
    from ..timeline import Recorder
    from .client import CellNote, CheckedClient
    from .notebooks import NotebookCase
    from .processes import SessionKernel

ASYNC_FIXTURES = frozenset({"kernel_client", "kernel_process"})
KIT = frozenset(f"trikernel.testing.{name}" for name in ("checkpoints", "conformance", "serving"))
FIXTURES = ASYNC_FIXTURES | {"notebook"}

_RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()

try:
    from pytest_trio import trio_fixture
except ImportError:

    def trio_fixture(function: Callable[..., Any]) -> Any:
        """Without pytest-trio: the fixture fails the test and says what has to be installed."""

        def missing() -> None:
            pytest.fail(f"the fixture {function.__name__!r} needs: pip install pytest-trio")

        return pytest.fixture(name=function.__name__)(missing)


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """The kernel that ``kernel_client`` speaks to; override it to return your own.

    ::

        @pytest.fixture
        def kernel():
            return MyKernel()
    """
    found: Kernel = request.getfixturevalue("python_kernel")
    return found


@pytest.fixture
def python_kernel() -> Kernel:
    """A fresh Python kernel, for notebooks with Trio; needs ``pip install trikernel[python]``."""
    try:
        from ..python import PythonKernel
    except ImportError as error:
        pytest.fail(
            f"the Python kernel needs more packages ({error.name} is missing): "
            "pip install 'trikernel[python]', or override the fixture 'kernel'"
        )
    return PythonKernel()


@trio_fixture
async def kernel_client(
    request: pytest.FixtureRequest, kernel: Kernel
) -> AsyncIterator[CheckedClient]:
    """A client of ``kernel``, which is served in memory in the test's own loop.

    If the test fails, its report shows what the tasks did: see `Kernel.record`.
    """
    from .serving import open_memory_client

    async with open_memory_client(kernel) as client:
        with _recorded(request.node, kernel):
            yield client


@pytest.fixture(scope="session")
def kernel_process_name() -> str | None:
    """The kernelspec that ``kernel_process`` starts; override it in your ``conftest.py``.

    None is the Python kernel of this environment.
    """
    return None


@pytest.fixture(scope="session")
def _session_kernel(kernel_process_name: str | None) -> Iterator[SessionKernel]:
    from .processes import session_kernel

    with session_kernel(kernel_process_name) as kernel:
        yield kernel


@trio_fixture
async def kernel_process(
    request: pytest.FixtureRequest, _session_kernel: SessionKernel
) -> AsyncIterator[CheckedClient]:
    """A client of a kernel in a real process, which is started once for the session.

    What a test leaves in its namespace is there in the next one. Not for virtual time.
    """
    if "autojump_clock" in request.fixturenames or "mock_clock" in request.fixturenames:
        pytest.fail("kernel_process is a real process: it cannot run on a virtual clock")
    async with _session_kernel.client() as client:
        yield client


@pytest.fixture
def notebook(request: pytest.FixtureRequest) -> NotebookCase:
    """A notebook: with ``--trikernel-notebooks``, each one where pytest looks, in turn."""
    from .notebooks import NotebookCase

    if not hasattr(request, "param"):
        pytest.skip("run pytest with --trikernel-notebooks")
    return NotebookCase(request.param)


@contextmanager
def _recorded(item: pytest.Item, kernel: Kernel) -> Iterator[None]:
    """Record a timeline of the block for the test's report."""
    from ..kernel import Kernel, recorder_of

    if not isinstance(kernel, Kernel):  # a kernel that was written for ipykernel
        yield
        return
    with recorder_of(kernel, title=item.name, also=_is_test) as recorder:
        item.stash[_RECORDER] = recorder
        yield


def _is_test(task: Any) -> bool:
    """Whether this is the task in which pytest-trio runs a test; fixtures have other tasks."""
    return bool(task.name.startswith("<test "))


# Hooks


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--trikernel-notebooks``."""
    parser.getgroup("trikernel").addoption(
        "--trikernel-notebooks",
        action="store_true",
        help="test the notebooks (*.ipynb) where pytest looks for tests: by the tests that take "
        "the fixture 'notebook', or, where none takes it, each one as a test of its own",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests that take the fixture ``notebook`` with all notebooks."""
    if "notebook" in metafunc.fixturenames and metafunc.config.option.trikernel_notebooks:
        from .notebooks import find_notebooks

        paths = find_notebooks(_folders(metafunc.config))
        root = metafunc.config.rootpath
        ids = [str(one.relative_to(root) if one.is_relative_to(root) else one) for one in paths]
        metafunc.parametrize("notebook", paths, ids=ids, indirect=True)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect each notebook as a test of its own."""
    if file_path.suffix != ".ipynb" or not parent.config.option.trikernel_notebooks:
        return None
    from .notebooks import NotebookFile

    return NotebookFile.from_parent(parent, path=file_path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """If a test takes the fixture ``notebook``, deselect the notebooks' own tests."""
    if any("notebook" in getattr(item, "fixturenames", ()) for item in items):
        from .notebooks import NotebookItem

        replaced = [item for item in items if isinstance(item, NotebookItem)]
        if replaced:
            config.hook.pytest_deselected(items=replaced)
            items[:] = [item for item in items if item not in replaced]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail with an explanation if a test takes our async fixtures but cannot use them: it is not
    async, is called by hypothesis, or is not run by pytest-trio.
    """
    taken = ASYNC_FIXTURES.intersection(getattr(item, "fixturenames", ()))
    function = getattr(item, "obj", None)
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    if taken and not inspect.iscoroutinefunction(inner):
        name = min(taken)
        pytest.fail(f"a test that takes {name!r} must be an 'async def'", pytrace=False)
    if taken and inner is not function:
        instead = {
            "kernel_client": "open_memory_client(MyKernel())",
            "kernel_process": "trikernel.client.open_kernel()",
        }
        pytest.fail(
            f"hypothesis calls a test for each example, but {min(taken)!r} is there once: write "
            f"'async with {instead[min(taken)]} as client' in the test",
            pytrace=False,
        )
    if taken and item.get_closest_marker("trio") is None:
        pytest.fail(
            f"a test that takes {min(taken)!r} is run by pytest-trio: put 'trio_mode = true' into "
            "pytest's configuration, or mark the test with @pytest.mark.trio",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the timeline of the tasks to the report of a test that has failed."""
    report = yield
    recorder = item.stash.get(_RECORDER, None)
    if recorder is not None and report.when == "call":
        del item.stash[_RECORDER]
        if report.failed:
            report.sections.append(("timeline", str(recorder.timeline())))
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Raise the errors in exception groups, which nurseries and pytest-trio make, without the
    groups: if there are several, the first one, with a note for each other one.
    """
    __tracebackhide__ = True
    if not _uses_the_kit(item):
        return (yield)
    try:
        return (yield)
    except BaseExceptionGroup as group:
        error, *others = _leaves(group)
        for other in others:
            lines = traceback.format_exception_only(other)
            error.add_note(f"besides, there was: {''.join(lines).rstrip()}")
    except Exception as single:
        error = single
    _show_cells_in_time(error)
    raise error  # outside of the except clause, so that the group is not its context


def _uses_the_kit(item: pytest.Item) -> bool:
    """Whether a test uses this kit: by a fixture, or something that its module has imported."""
    names = vars(getattr(item, "module", None) or object).values()
    imported = any(getattr(one, "__module__", None) in KIT for one in tuple(names))
    return imported or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors in nested groups; each `AssertionError` before other errors."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return sorted(found, key=lambda error: not isinstance(error, AssertionError))


def _show_cells_in_time(error: BaseException) -> None:
    """Show in a deadline's error the cells that it has ended, instead of the frames of the client.

    `trio.fail_after` does not know cells. The context of its error is the `trio.Cancelled` that
    went through the client: a page of frames without any information.
    """
    import trio

    from ..errors import ExecutionTimeout

    if not isinstance(error, trio.TooSlowError | ExecutionTimeout):
        return
    notes = _cell_notes(error, set())
    if not notes:
        return
    for note in notes:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    error.__context__ = None
    entry = last = error.__traceback__
    while entry is not None:
        package = entry.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("trio", "contextlib", "trikernel"):
            last = entry
        entry = entry.tb_next
    if last is not None:
        last.tb_next = None


def _cell_notes(error: BaseException | None, seen: set[int]) -> list[CellNote]:
    """The cells that are noted on the cancellations that led to this error, each one once."""
    from .client import CellNote

    if error is None or id(error) in seen:
        return []
    seen.add(id(error))
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, CellNote)]
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for one in (*inner, error.__context__):
        notes += _cell_notes(one, seen)
    return list(dict.fromkeys(notes))


def _folders(config: pytest.Config) -> list[Path]:
    """The folders (and notebooks) where pytest looks for tests; if only test files are given, their
    folders.
    """
    given = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    named = [path for path in given if path.is_dir() or path.suffix == ".ipynb"]
    if named:
        return named
    return [path.parent for path in given]
