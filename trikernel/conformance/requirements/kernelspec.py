"""The kernelspec, and whether the kernel's own replies agree with it."""

from __future__ import annotations

import re

from ..manifest import NotOffered, requirement
from ..probe import Probe, ok
from ..schema import require

MAKING = "Making kernels for Jupyter: Kernel specs"


@requirement("kernelspec.argv", "The command takes the connection file.", MAKING, "kernelspec")
async def check_argv(probe: Probe) -> None:
    argv = probe.spec.get("argv")
    require(isinstance(argv, list) and argv, f"argv is {argv!r}")
    require(any("{connection_file}" in str(one) for one in argv or ()), f"argv is {argv!r}")


@requirement("kernelspec.names", "It has a display name and a language.", MAKING, "kernelspec")
async def check_names(probe: Probe) -> None:
    for name in ("display_name", "language"):
        value = probe.spec.get(name)
        require(isinstance(value, str) and value, f"{name} is {value!r}")


@requirement(
    "kernelspec.interrupt-mode", "interrupt_mode is signal or message.", MAKING, "kernelspec"
)
async def check_interrupt_mode(probe: Probe) -> None:
    mode = probe.spec.get("interrupt_mode", "signal")
    require(mode in ("signal", "message"), f"interrupt_mode is {mode!r}")


@requirement(
    "kernelspec.types",
    "env is an object of strings, metadata is an object.",
    f"{MAKING}; JEP 105",
    "kernelspec",
)
async def check_types(probe: Probe) -> None:
    env, metadata = probe.spec.get("env", {}), probe.spec.get("metadata", {})
    require(
        isinstance(env, dict) and all(isinstance(one, str) for one in env.values()),
        f"env is {env!r}",
    )
    require(isinstance(metadata, dict), f"metadata is {metadata!r}")


@requirement(
    "kernelspec.version-form",
    "kernel_protocol_version, where it is given, has the form x.y or x.y.z.",
    "JEP 105: kernel_protocol_version",
    "kernelspec",
)
async def check_version_form(probe: Probe) -> None:
    version = _version(probe)
    require(re.fullmatch(r"\d+\.\d+(\.\d+)?", version), f"it is {version!r}")


@requirement(
    "kernelspec.version",
    "kernel_protocol_version is what the kernel itself says.",
    "JEP 66: kernel_protocol_version",
    "kernelspec",
)
async def check_version(probe: Probe) -> None:
    version = _version(probe)
    own = str(ok(await probe.ask("kernel_info_request"))["protocol_version"])
    same = version.split(".")[:2] == own.split(".")[:2]
    require(same, f"the kernelspec says {version}, kernel_info_reply {own}")


@requirement(
    "kernelspec.debugger",
    "metadata.debugger is true if and only if the kernel offers a debugger.",
    "Making kernels for Jupyter: Kernel specs, metadata",
    "kernelspec",
)
async def check_debugger(probe: Probe) -> None:
    metadata = probe.spec.get("metadata") or {}
    if "debugger" not in metadata:
        raise NotOffered("metadata has no 'debugger'")
    info = ok(await probe.ask("kernel_info_request"))
    offers = "debugger" in (info.get("supported_features") or []) or info.get("debugger") is True
    said = bool(metadata["debugger"])
    require(said == offers, f"the kernelspec says {said}, kernel_info_reply {offers}")


def _version(probe: Probe) -> str:
    version = probe.spec.get("kernel_protocol_version")
    if version is None:
        raise NotOffered("the kernelspec has no kernel_protocol_version")
    return str(version)
