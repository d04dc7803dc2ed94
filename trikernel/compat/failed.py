"""A kernel in the place of one that could not be created: it tells its clients why."""

from __future__ import annotations

from typing import Any

from .kernel import Kernel

__all__ = ["failed_kernel"]


def failed_kernel(cls: type[Kernel], error: Exception) -> Kernel:
    """A kernel whose cells fail with ``error``, with the name and language of the class ``cls``."""
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
        """Raise the error because of which the kernel could not be created."""
        raise self.failure
