"""A kernel in the place of one that could not be made: whoever is connected is told why."""

from __future__ import annotations

from typing import Any

from .kernel import Kernel

__all__ = ["failed_kernel"]


def failed_kernel(cls: type[Kernel], error: Exception) -> Kernel:
    """A kernel whose cells fail with that error, and that says of itself what the class says."""
    facts = ("implementation", "implementation_version", "language", "language_info")
    space: dict[str, Any] = {
        name: value for name in facts if not hasattr(value := getattr(cls, name), "__get__")
    }
    space |= {"banner": f"{cls.__name__} could not start", "failure": error}
    space["__module__"] = cls.__module__
    failed: type[Kernel] = type(cls.__name__, (_FailedKernel,), space)
    kernel: Kernel = failed.instance()
    return kernel


class _FailedKernel(Kernel):
    """Answers each cell with ``failure``."""

    failure: Exception

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        """Raises what kept the kernel from starting."""
        raise self.failure
