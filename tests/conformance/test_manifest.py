"""The manifest: every requirement has a check, every check is a requirement's."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path

import pytest

from trikernel.conformance import FEATURES, REQUIREMENTS, read_samples, select
from trikernel.conformance.requirements import MODULES
from trikernel.errors import UsageError
from trikernel.testing import requirements_of

from ..processes import ROOT


def checks() -> dict[str, object]:
    """Every function of the modules that looks like a check."""
    return {
        f"{module.__name__}.{name}": value
        for module in MODULES
        for name, value in vars(module).items()
        if inspect.iscoroutinefunction(value) and name.startswith("check_")
    }


def test_every_check_is_of_one_requirement_and_every_requirement_has_its_check() -> None:
    counts = Counter(one.check for one in REQUIREMENTS)
    assert max(counts.values()) == 1
    assert set(counts) == set(checks().values())


def test_every_module_of_requirements_is_in_the_manifest() -> None:
    folder = ROOT / "trikernel" / "conformance" / "requirements"
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {module.__name__.rpartition(".")[2] for module in MODULES} == names


def test_ids_are_unique_and_every_requirement_has_a_sentence_and_a_source() -> None:
    ids = [one.id for one in REQUIREMENTS]
    assert len(ids) == len(set(ids)) >= 130
    for one in REQUIREMENTS:
        assert one.sentence.endswith(".")
        assert one.source


def test_every_feature_has_requirements_and_every_requirement_a_feature() -> None:
    assert {one.feature for one in REQUIREMENTS} == set(FEATURES)


def test_what_ends_the_kernel_comes_behind_the_others_and_what_looks_back_last() -> None:
    stages = [one.stage for one in select()]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2}


def test_requirements_are_chosen_by_feature_and_left_out_by_id() -> None:
    assert {one.feature for one in requirements_of("core", "comm")} == {"core", "comm"}
    assert "execute.silent" not in map(str, requirements_of(without=("execute.silent",)))
    with pytest.raises(UsageError, match="there is no feature 'no such'; there are: core, "):
        requirements_of("no such")
    with pytest.raises(UsageError, match="there is no requirement 'no such'"):
        requirements_of(without=("no such",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cod = '1'", "no sample 'cod'; they are code, failing, "),
        ("code = 5", "'code' must be a string"),
        ("code", "is no TOML file"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_of_samples_that_is_none_is_told(
    text: str | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "samples.toml"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=words):
        read_samples(path)


def test_a_file_of_samples_has_what_it_says_and_no_more() -> None:
    samples = read_samples(ROOT / "docs" / "examples" / "echo_samples.toml")
    assert (samples.code, samples.printing, samples.failing) == ("hello", "hello", None)
