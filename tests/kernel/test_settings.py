"""Settings: keyword, environment, class attribute; wrong ones are refused with their range."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from trikernel import Kernel, setting
from trikernel.errors import SettingError
from trikernel.kernel import add_start_flags, settings_of

pytestmark = pytest.mark.seed(28)


class Extended(Kernel):
    prompt = setting("$ ", "the shell's prompt")
    retries = setting(3, "how often to try again", minimum=1, maximum=9)
    stop_on_error_timeout = 0.75


def test_a_percent_sign_in_what_a_setting_is_for_is_shown_as_it_is() -> None:
    class Full(Kernel):
        limit: int = setting(50, "at 100% it stops, %gui or not")

    parser = argparse.ArgumentParser()
    add_start_flags(parser, Full)
    assert "at 100% it stops, %gui or not" in parser.format_help()


def test_a_keyword_sets_it() -> None:
    assert Kernel(stop_on_error_timeout=0.5).stop_on_error_timeout == 0.5
    assert Kernel().stop_on_error_timeout == 0.1


def test_the_environment_sets_it_and_a_keyword_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIKERNEL_STOP_ON_ERROR_TIMEOUT", "0.25")
    monkeypatch.setenv("TRIKERNEL_DARWIN_APP_NAP", "no")
    assert Kernel().stop_on_error_timeout == 0.25
    assert Extended().stop_on_error_timeout == 0.25
    assert Kernel(stop_on_error_timeout=2).stop_on_error_timeout == 2.0
    assert Kernel().darwin_app_nap is False


def test_a_subclass_sets_a_plain_attribute_and_adds_settings() -> None:
    kernel = Extended(retries=5)
    assert (kernel.stop_on_error_timeout, kernel.prompt, kernel.retries) == (0.75, "$ ", 5)
    assert "prompt" not in settings_of(Kernel)
    assert settings_of(Extended)["retries"].flag == "--retries"


def test_it_can_be_changed_later_within_its_range() -> None:
    kernel = Kernel()
    kernel.stop_on_error_timeout = 3
    assert kernel.stop_on_error_timeout == 3
    with pytest.raises(SettingError, match="stop_on_error_timeout must be a number from 0"):
        kernel.stop_on_error_timeout = -1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stop_on_error_timeout": -0.1}, "stop_on_error_timeout must be a number from 0 to 3600"),
        ({"stop_on_error_timeout": "1"}, "stop_on_error_timeout must be a number"),
        ({"stop_on_error_timeout": float("nan")}, "stop_on_error_timeout must be a number"),
        ({"poll_interval": 0}, "poll_interval must be a number from 0.0005 to 60"),
        ({"max_frames": 5}, "max_frames must be an integer from 6"),
        ({"max_frames": True}, "max_frames must be an integer"),
        ({"darwin_app_nap": 1}, "darwin_app_nap must be true or false"),
        ({"no_such_thing": 1}, "no_such_thing is no setting of Kernel"),
    ],
)
def test_a_wrong_value_is_refused_with_name_and_range(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError) as caught:
        Kernel(**values)
    assert words in str(caught.value)


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIKERNEL_POLL_INTERVAL", "soon")
    with pytest.raises(SettingError, match="TRIKERNEL_POLL_INTERVAL: poll_interval must be"):
        Kernel()


@pytest.mark.parametrize("name", sorted(settings_of(Kernel)))
def test_every_setting_explains_itself_and_accepts_its_default(name: str) -> None:
    one = settings_of(Kernel)[name]
    assert one.check(one.default) == one.default
    assert len(one.help) > 10
    assert one.variable == f"TRIKERNEL_{name.upper()}"
    assert one.from_text(str(one.default), one.flag) == one.default


@pytest.mark.seed(26)
def test_app_nap_is_a_setting_that_only_macos_heeds(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    from trikernel.kernel import process

    called: list[str] = []
    module = types.ModuleType("appnope")
    module.nope = lambda: called.append("nope")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "appnope", module)
    for platform, wanted, expected in [
        ("linux", True, []),
        ("darwin", False, []),
        ("darwin", True, ["nope"]),
    ]:
        monkeypatch.setattr(sys, "platform", platform)
        with process._process_state(Kernel(darwin_app_nap=wanted)):
            assert called == expected


def test_of_several_bases_the_first_ones_own_setting_counts() -> None:
    class Base(Kernel):
        size: int = setting(1, "how much", minimum=1, maximum=10)

    class Left(Base):
        pass

    class Right(Base):
        size: int = setting(5, "how much", minimum=1, maximum=100)

    class Both(Left, Right):
        pass

    assert Both().size == 5
    assert Both(size=50).size == 50
