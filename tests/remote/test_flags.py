"""The flags of ``trikernel launch``, as gateways write them, and what is wrong with them."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest

from trikernel.cli import main
from trikernel.errors import UsageError
from trikernel.remote import Gateway, Launch, add_launch_flags, class_name_of, launch_of
from trikernel.transport import ConnectionInfo, PortRange, Registrar, Registration

from .test_response import PUBLIC

GOOD = {"response-address": "10.0.0.1:8877", "kernel-id": "abc", "public-key": PUBLIC}


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_launch_flags(parser)
    return parser.parse_args(arguments)


def words(prefix: str = "--", **more: str) -> list[str]:
    given = {**GOOD, **{name.replace("_", "-"): one for name, one in more.items()}}
    return [word for name, one in given.items() for word in (prefix + name, one)]


@pytest.mark.parametrize("prefix", ["--", "--RemoteProcessProxy."])
def test_flags_are_read_in_both_spellings(prefix: str) -> None:
    mode = f"{prefix}spark-context-initialization-mode"
    found = launch_of(parsed(*words(prefix, port_range="40000..41000"), mode, "none"))
    assert isinstance(found.told, Gateway)
    assert (found.told.address, found.told.kernel_id) == ("10.0.0.1:8877", "abc")
    assert (found.ip, found.ports) == ("0.0.0.0", PortRange(40000, 41000))
    assert (found.encryption, list(found.trusted)) == ("disabled", [])


@pytest.mark.parametrize("nothing", ["", "{transport_encryption}", "  ", None])
def test_what_a_gateway_does_not_know_is_nothing(nothing: str | None) -> None:
    for name in ("--transport-encryption", "--port-range"):
        more = [name] if nothing is None else [name, nothing]
        found = launch_of(parsed(*more, *words()))
        assert (found.ports, found.encryption) == (None, "disabled")


def test_in_a_container_the_environment_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EG_RESPONSE_ADDRESS", "10.0.0.9:1")
    monkeypatch.setenv("KERNEL_ID", "from the environment")
    monkeypatch.setenv("PUBLIC_KEY", PUBLIC)
    monkeypatch.setenv("PORT_RANGE", "0..0")
    found = launch_of(parsed("--kernel-id", "a flag"))
    assert isinstance(found.told, Gateway)
    assert (found.told.address, found.told.kernel_id) == ("10.0.0.9:1", "a flag")
    assert found.ports is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--port-range", "41000..40000"], "--port-range: 41000..40000 is backwards: say 40000.."),
        (["--port-range", "40000-41000"], "--port-range must be LOWEST..HIGHEST, as in"),
        (["--port-range", "0..100000"], "--port-range must be LOWEST..HIGHEST, as in"),
        (["--port-range", "0..99999"], "--port-range: ports are from 1 to 65535"),
        (["--port-range", "40000..40004"], "40000..40004 has 5 ports, and a kernel needs 6"),
        (["--transport-encryption", "yes"], "--transport-encryption must be one of disabled, auto"),
        (["--spark-context-initialization-mode", "lazy"], "only none is possible, not 'lazy'"),
        (["--ip", "localhost"], "--ip must be an IPv4 address, not 'localhost'"),
        (["--trust", "10.0.0.1/8"], "--trust must be an address, or a network"),
        (["--kernel-id", ""], "--kernel-id: missing (a gateway gives all three"),
        (
            ["--registration-file", "nowhere.json"],
            "registration file nowhere.json: there is no such",
        ),
        (["--registration-file", "x", "--ip", "10.0.0.1"], "--ip does not go with"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_give(change: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        launch_of(parsed(*words(), *change))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(
        UsageError, match=r"^--response-address, --kernel-id, --public-key: missing"
    ):
        launch_of(parsed())


def test_ranges_without_a_width_are_any_port() -> None:
    assert PortRange.parse("0..0", "it") is None
    assert PortRange.parse("33245..33245", "it") is None
    assert sorted(PortRange(5, 8).ports()) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (None, None),
        ("", None),
        ("ipykernel.ipkernel.IPythonKernel", None),
        ("mine.kernels.Mine", "mine.kernels:Mine"),
    ],
)
def test_a_class_may_be_named_as_for_the_gateways_launcher(
    name: str | None, found: str | None
) -> None:
    flags = [] if name is None else ["--kernel-class-name", name]
    assert class_name_of(parsed(*flags)) == found


def test_a_class_without_its_module_is_refused_by_the_flags_name() -> None:
    with pytest.raises(UsageError, match=r"--kernel-class-name: 'Mine' is not module\.Class"):
        class_name_of(parsed("--kernel-class-name", "Mine"))


def test_a_registration_takes_the_place_of_a_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registrar(ConnectionInfo().encrypted()) as registrar:
        file = tmp_path / "registration.json"
        registrar.write(file)
        found = launch_of(parsed("--registration-file", str(file), "--port-range", "4000..4004"))
        assert found.ports == PortRange(4000, 4004)
        text = file.read_text("utf-8")
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        by_input = launch_of(parsed("--registration-file", "-"))
    for one in (found.told, by_input.told):
        assert isinstance(one, Registration)
        assert one.as_dict() == json.loads(text)
    assert isinstance(by_input, Launch)


@pytest.mark.parametrize(
    ("text", "words"), [("", "is no JSON"), ("[]", "holds no JSON object"), ("{}", "is missing")]
)
def test_a_registration_that_is_none_is_told(
    text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(UsageError, match=f"^standard input: .*{words}"):
        launch_of(parsed("--registration-file", "-"))


def test_the_command_says_in_one_line_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["launch", *words(port_range="9..8")]) == 2
    assert capsys.readouterr().err == (
        "trikernel: error: --port-range: 9..8 is backwards: say 8..9\n"
    )


def spec_in(folder: Path, name: str) -> Any:
    path = folder / "share" / "jupyter" / "kernels" / name / "kernel.json"
    return json.loads(path.read_text("utf-8"))


def test_a_kernelspec_is_installed_in_one_line(tmp_path: Path) -> None:
    remote = ["--remote", "one.example, two", "--port-range", "40000..41000"]
    python = ["--remote-python", "/opt/python"]
    assert main(["install", "--prefix", str(tmp_path), *remote, *python]) == 0
    spec = spec_in(tmp_path, "trikernel-remote")
    assert spec["argv"][:5] == ["/opt/python", "-P", "-m", "trikernel", "launch"]
    assert "{connection_file}" not in spec["argv"]
    after = spec["argv"][spec["argv"].index("--public-key") + 1]
    assert after == "{public_key}"
    assert "{transport_encryption}" in spec["argv"]
    assert spec["interrupt_mode"] == "message"
    assert spec["display_name"] == "Python 3 (Trio, remote)"
    assert spec["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "distributed-provisioner",
        "config": {"remote_hosts": ["one.example", "two"], "port_range": "40000..41000"},
    }
    config = spec["metadata"]["process_proxy"]["config"]
    assert config == {"remote_hosts": "one.example,two", "port_range": "40000..41000"}


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--remote", ","], "--remote must be hosts"),
        (["--remote", "a;b"], "--remote must be hosts"),
        (["--remote", "a", "--port-range", "1..100"], "100 ports, and a kernel needs 1001"),
        (["--remote", "a", "--warm"], "--warm does not go with --remote"),
        (["--port-range", "40000..41000"], "--port-range goes with --remote"),
        (["--remote-python", "python"], "--remote-python goes with --remote"),
    ],
)
def test_a_kernelspec_that_cannot_work_is_not_installed(
    flags: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", "--prefix", str(tmp_path), *flags]) == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
