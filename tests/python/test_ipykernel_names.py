"""ipykernel's names in our kernel: ours, the real ones beside them, a clear word for none."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from trikernel.kernel.comms import CellCommManager, Comm
from trikernel.kernel.replacements import Replacements
from trikernel.kernel.streams import OutStream
from trikernel.python import ipykernel_modules
from trikernel.python.ipykernel_modules import NAMES, install_ipykernel_modules

from .test_process_state import difference, state

REAL = {
    "__init__.py": "from ._version import __version__\nextra = 'real'\n",
    "_version.py": "__version__ = '6.0.0'\n",
    "kernelbase.py": (
        "from ipykernel.comm import Comm\nimport ipykernel.kernelbase as mine\n"
        "class Kernel: pass\nclass More: comm = Comm\n"
        "has_itself = hasattr(mine, 'later')\nlater = 1\n"
    ),
    "comm/__init__.py": "class Comm: pass\nclass Other: pass\n",
    "inprocess/__init__.py": "from ..comm import Comm, Other\n",
    "broken.py": "import a_module_that_is_not_there\n",
}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Replacements]]:
    """Install ours; what is installed of the real one cannot be found, but for ``REAL``'s."""

    class Elsewhere:
        @staticmethod
        def find_spec(name: str, path: Sequence[str] | None = None) -> ModuleSpec | None:
            return PathFinder.find_spec(name, sys.path[:1] if path is None else path)

    monkeypatch.setattr(ipykernel_modules, "PathFinder", Elsewhere)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "ipykernel"]:
        monkeypatch.delitem(sys.modules, name)  # which another test has loaded
    replaced = Replacements()
    before = dict(sys.modules)

    def install() -> Replacements:
        install_ipykernel_modules(replaced)
        return replaced

    yield install
    replaced.undo()
    names = {name for name in before.keys() | sys.modules.keys() if name.startswith("ipykernel")}
    assert {name: sys.modules.get(name) for name in names} == {
        name: before.get(name) for name in names
    }


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: object) -> None:
    """Something of ipykernel's kind is installed."""
    for name, text in REAL.items():
        file = tmp_path / "ipykernel" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_nothing_is_imported_until_it_is_asked_for(install: Callable[[], Replacements]) -> None:
    before = set(sys.modules)
    install()
    assert set(sys.modules) - before <= {"ipykernel", "ipykernel.zmqshell"}


def test_another_thread_may_import_meanwhile(
    install: Callable[[], Replacements], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the service thread does while the kernel's process begins."""
    real, names = ipykernel_modules._is_ipykernels, iter(range(10**9))

    def is_ipykernels(name: str) -> bool:
        monkeypatch.setitem(sys.modules, f"imported_meanwhile_{next(names)}", ModuleType("one"))
        return real(name)

    monkeypatch.setattr(ipykernel_modules, "_is_ipykernels", is_ipykernels)
    install()
    assert next(names) > 1  # modules came while it went through them, and it got to its end


def test_it_is_put_back_whatever_was_there(install: Callable[[], Replacements]) -> None:
    before = state()
    meta_path = list(sys.meta_path)
    replaced = install()
    assert install() is replaced
    assert len(sys.meta_path) == len(meta_path) + 1
    importlib.import_module("ipykernel.comm.manager")
    replaced.undo()
    assert sys.meta_path == meta_path
    assert difference(before, state()) == set()


def test_a_real_module_that_is_loaded_gives_way(
    install: Callable[[], Replacements], real: None
) -> None:
    loaded = importlib.import_module("ipykernel.comm")
    replaced = install()
    assert importlib.import_module("ipykernel.comm").Comm is Comm
    replaced.undo()
    assert sys.modules["ipykernel.comm"] is loaded
    for name in [name for name in sys.modules if name.startswith("ipykernel")]:
        del sys.modules[name]


PLAIN = [one for one in NAMES if "pylab." not in one]


@pytest.mark.parametrize("name", PLAIN)
def test_every_name_of_the_table_is_there(install: Callable[[], Replacements], name: str) -> None:
    install()
    module = importlib.import_module(name)
    for one in NAMES[name]:
        assert getattr(module, one) is getattr(module, one), one
    assert set(NAMES[name]) <= set(dir(module))


def test_the_comm_is_the_one_that_works_here(install: Callable[[], Replacements]) -> None:
    install()
    ours = importlib.import_module("ipykernel.comm")
    assert (ours.Comm, ours.CommManager) == (Comm, CellCommManager)
    assert importlib.import_module("ipykernel.comm.comm").Comm is Comm


def test_submodules_are_attributes_as_in_ipykernels_own_kernel(
    install: Callable[[], Replacements],
) -> None:
    install()
    ipykernel = importlib.import_module("ipykernel")
    assert ipykernel.iostream.OutStream is OutStream


def test_without_ipykernel_a_missing_name_says_so(install: Callable[[], Replacements]) -> None:
    install()
    ipykernel = importlib.import_module("ipykernel")
    assert ipykernel.__version__.count(".") == 2
    assert ipykernel.version_info >= (6,)
    with pytest.raises(ModuleNotFoundError, match=r"inprocess.*trikernel.*is not installed"):
        importlib.import_module("ipykernel.inprocess.manager")
    with pytest.raises(AttributeError, match=r"'nothing'.*trikernel.*is not installed"):
        _ = ipykernel.nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from ipykernel.comm import nothing")
    assert not hasattr(ipykernel, "__file__")


def test_without_ipykernel_there_are_flags_and_a_kernelspec(
    install: Callable[[], Replacements], tmp_path: Path
) -> None:
    install()
    app = importlib.import_module("ipykernel.kernelapp")
    assert app.kernel_aliases["f"] == "IPKernelApp.connection_file"
    assert "quiet" in app.kernel_flags
    specs = importlib.import_module("ipykernel.kernelspec")
    place = specs.install(
        prefix=str(tmp_path), kernel_name="made", display_name="Made", env={"A": "1"}
    )
    spec = json.loads((Path(place) / "kernel.json").read_text("utf-8"))
    assert (spec["display_name"], spec["env"]) == ("Made", {"A": "1"})
    assert spec["argv"][0] == sys.executable
    assert spec["argv"][-5:] == ["-m", "trikernel", "start", "-f", "{connection_file}"]
    assert (Path(place) / "logo-64x64.png").exists()


def _said_of(module: object, name: str) -> str:
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    return str(caught.value)


def test_what_is_not_ours_is_the_real_ones(install: Callable[[], Replacements], real: None) -> None:
    install()
    ipykernel = importlib.import_module("ipykernel")
    assert "installed" not in _said_of(ipykernel, "__wrapped__")
    folder = Path(str(ipykernel.__file__)).parent
    assert [str(folder)] == ipykernel.__path__
    assert (folder / "broken.py").exists()
    assert ipykernel.extra == "real"
    inprocess = importlib.import_module("ipykernel.inprocess")
    assert inprocess.Comm is Comm
    assert inprocess.Other is ipykernel.comm.Other
    base = importlib.import_module("ipykernel.kernelbase")
    assert base.More.comm is Comm
    assert (base.has_itself, base.later) == (False, 1)
    with pytest.raises(AttributeError, match=r"'nothing'.*in ipykernel's place$"):
        _ = base.nothing
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        importlib.import_module("ipykernel.broken")


def test_other_modules_are_found_as_ever(install: Callable[[], Replacements]) -> None:
    install()
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'ipykernelish'$"):
        importlib.import_module("ipykernelish")
