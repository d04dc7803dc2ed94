"""Checks of an author's class, once, at the start. A complaint names the class and the member.

A class that cannot work is refused. If it can work, but probably not as intended, that is a doubt,
which is logged. For example, a class without ``do_execute`` answers every cell with an error, but
it may serve comms and message types of its own. If the reason is a misspelt ``do_execute``, the
class is refused, because nobody intends that.

A fact that is computed (a property) is checked when it is read for a client, because it may need
what the kernel's ``start`` sets up.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core import is_ours
from ..errors import KernelClassError, UsageError
from .handlers import accepted, is_built_in
from .hooks import name_of
from .served import ServedKernel

__all__ = ["check_class", "check_facts", "check_kernel", "doubts", "language_info"]

_Rule = tuple[str, Callable[[Any], bool]]


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _is_list_of(kind: type, value: Any) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return is_list and all(isinstance(one, kind) for one in value)


_TEXT: _Rule = ("a string", _is_text)
_FACTS: Mapping[str, _Rule] = {
    "implementation": _TEXT,
    "implementation_version": _TEXT,
    "language": _TEXT,
    "language_version": _TEXT,
    "banner": _TEXT,
    "display_name": _TEXT,
    "language_info": (
        'a dictionary, such as {"name": "node", "file_extension": ".js"}',
        lambda value: isinstance(value, Mapping),
    ),
    "help_links": (
        'a list of dictionaries, such as {"text": "Manual", "url": "https://..."}',
        lambda value: _is_list_of(Mapping, value),
    ),
    "supported_features": ("a list of strings", lambda value: _is_list_of(str, value)),
    "interrupt_mode": ("'signal' or 'message'", lambda value: value in ("signal", "message")),
}

# How each verb and hook is called: positional arguments, and keywords, of which it gets only those
# that its signature has.
_CALLS: Mapping[str, tuple[str, str]] = {
    "do_execute": ("code silent", "store_history user_expressions allow_stdin cell_meta cell_id"),
    "do_complete": ("code cursor_pos", ""),
    "do_inspect": ("code cursor_pos", "detail_level omit_sections"),
    "do_history": (
        "",
        "hist_access_type output raw session start stop n pattern unique",
    ),
    "do_is_complete": ("code", ""),
    "do_shutdown": ("restart", ""),
    "do_apply": ("content bufs msg_id reply_metadata", ""),
    "do_clear": ("", ""),
    "do_debug_request": ("msg", ""),
    "start": ("", ""),
    "started": ("", ""),
    "init_metadata": ("parent", ""),
    "finish_metadata": ("parent metadata reply_content", ""),
    "should_handle": ("stream msg idents", ""),
    "pre_handler_hook": ("", ""),
    "post_handler_hook": ("", ""),
}
_BASE = f"{__package__}.kernel"  # the module of `Kernel`, whose verbs do nothing
_PLAIN = ("send_response", "show_error", "raw_input", "getpass")  # callers do not await these


def check_class(kernel_class: type[Any]) -> list[str]:
    """Create a kernel of the class and check it as at a start. Returns the doubts.

    Raises `KernelClassError` for a class that cannot work, or whose ``__init__`` raises.
    """
    try:
        kernel = kernel_class()
    except UsageError:
        raise
    except Exception as error:  # the boundary of the author's code
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        raise KernelClassError(f"{kernel_class.__name__}.__init__ has raised {text}") from error
    check_kernel(kernel)
    return doubts(kernel)


def doubts(kernel: ServedKernel) -> list[str]:
    """What works but is probably not intended: a sentence for each, naming class and member."""
    cls = type(kernel).__name__
    missing = _missing_verbs(kernel)
    found = [
        f"{name_of(kernel, name)} is no verb, and {cls} has no {verb}: is that what is meant?"
        for name, verb in _misspelt(kernel, missing)
    ]
    if "do_execute" in missing:
        found.append(f"{cls} has no do_execute: it answers every cell with an error")
    return found


def _check_spelling(kernel: ServedKernel) -> None:
    for name, verb in _misspelt(kernel, _missing_verbs(kernel)):
        if verb == "do_execute":
            raise KernelClassError(
                f"{name_of(kernel, name)} is no verb: it must be called do_execute, "
                "without which no cell runs"
            )


def _missing_verbs(kernel: ServedKernel) -> list[str]:
    """The verbs that the author has not defined and whose request has no handler of the author's
    either.
    """
    missing = []
    for verb in (name for name in _CALLS if name.startswith("do_")):
        handler = kernel.shell_handlers.get(f"{verb.removeprefix('do_')}_request")
        owner = next(cls for cls in type(kernel).__mro__ if verb in vars(cls))
        is_default = owner.__module__ == _BASE and verb not in vars(kernel)
        if is_default and (handler is None or is_built_in(handler)):
            missing.append(verb)
    return missing


def _misspelt(kernel: ServedKernel, missing: Sequence[str]) -> list[tuple[str, str]]:
    """The author's functions whose names are similar to a missing verb, each with that verb."""
    own = {
        name
        for cls in type(kernel).__mro__
        if not is_ours(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
        for name, value in vars(cls).items()
        if name.lower().startswith("do") and name not in _CALLS and callable(value)
    }
    if not own:
        return []
    from difflib import get_close_matches

    nearest = ((name, get_close_matches(name.lower(), missing, 1, 0.8)) for name in sorted(own))
    return [(name, verbs[0]) for name, verbs in nearest if verbs]


def check_kernel(kernel: ServedKernel) -> None:
    """Raise `KernelClassError` if the kernel's class cannot work."""
    cls = type(kernel)
    if "sender" not in vars(kernel):
        raise KernelClassError(
            f"{cls.__name__}.__init__ must call super().__init__(**settings) before anything else"
        )
    for name in _FACTS:
        _check_fact(kernel, name)
    for name, (positional, options) in _CALLS.items():
        _check_call(kernel, name, positional.split(), options.split())
    _check_spelling(kernel)
    for name in _PLAIN:
        if inspect.iscoroutinefunction(getattr(kernel, name)):
            raise KernelClassError(
                f"{cls.__name__}.{name} must be a plain function, not async: it is not awaited"
            )
    for name, handler in {**kernel.control_handlers, **kernel.shell_handlers}.items():
        if not is_built_in(handler):
            _check_handler(kernel, name, handler)


def _check_fact(kernel: ServedKernel, name: str) -> None:
    static = vars(kernel).get(name, _in_class(type(kernel), name))
    if inspect.isfunction(static) or isinstance(static, (staticmethod, classmethod)):
        raise KernelClassError(f"{name_of(kernel, name)} is a method: make it a @property")
    if not hasattr(static, "__get__"):
        _require(kernel, name, static)
        if name == "language_info":
            language_info(kernel, static)


def _in_class(cls: type, name: str) -> Any:
    """The attribute as it stands in the class: a descriptor is not asked for its value."""
    return next(vars(base)[name] for base in cls.__mro__ if name in vars(base))


def _require(kernel: object, name: str, value: Any) -> None:
    words, holds = _FACTS[name]
    if value is not None and not holds(value):
        raise KernelClassError(
            f"{name_of(kernel, name)} must be {words}, not {type(value).__name__} {value!r:.80}"
        )


def check_facts(kernel: object, info: Mapping[str, Any]) -> None:
    """Raise `KernelClassError` if a computed fact has a wrong type. ``info`` is the value of
    ``language_info``.
    """
    for name in _FACTS:
        if name != "language_info":
            _require(kernel, name, getattr(kernel, name))
    language_info(kernel, info)


def language_info(kernel: object, value: Any) -> dict[str, Any]:
    """The fact ``language_info`` as a dictionary. Raises `KernelClassError`."""
    _require(kernel, "language_info", value)
    info = dict(value or {})
    for key in ("name", "version", "mimetype", "file_extension"):
        if not isinstance(info.get(key, ""), str):
            raise KernelClassError(
                f"{name_of(kernel, 'language_info')}[{key!r}] must be a string, "
                f"not {type(info[key]).__name__} {info[key]!r:.80}"
            )
    return info


def _check_call(kernel: ServedKernel, name: str, positional: list[str], options: list[str]) -> None:
    function = getattr(kernel, name)
    if not callable(function):
        raise KernelClassError(
            f"{name_of(kernel, name)} must be a function, plain or async, "
            f"not {type(function).__name__} {function!r:.80}"
        )
    if _yields(function):
        raise KernelClassError(
            f"{name_of(kernel, name)} must return its value, not yield: output goes out by "
            "print() or send_response() while it runs"
        )
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None and is_ours(code.co_filename):  # our own need no check, which saves 2 ms
        return
    signature = _signature(kernel, name, function)
    if signature is None:
        return
    keywords = accepted(function, dict.fromkeys(options))
    try:
        signature.bind(*positional, **keywords)
    except TypeError as error:
        called = ", ".join([*positional, *(f"{one}=..." for one in keywords)])
        raise KernelClassError(
            f"{name_of(kernel, name)}{signature} cannot be called as {name}({called}): {error}"
        ) from None


def _yields(function: Any) -> bool:
    """Whether a call returns a generator that cannot be awaited (as `types.coroutine` makes)."""
    if inspect.isasyncgenfunction(function):
        return True
    code = getattr(function, "__code__", None)
    awaitable = code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE
    return inspect.isgeneratorfunction(function) and not awaitable


def _signature(kernel: ServedKernel, name: str, function: Any) -> inspect.Signature | None:
    """The signature of a function; None for a function in C that has none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        if inspect.ismethod(function):
            raise KernelClassError(f"{name_of(kernel, name)} must take self") from None
        return None


def _check_handler(kernel: ServedKernel, name: str, handler: Any) -> None:
    if not callable(handler):
        raise KernelClassError(f"the handler of {name!r} must be a function, not {handler!r:.80}")
    signature = _signature(kernel, name, handler)
    if signature is None:
        return
    for arguments in (("request",), ("stream", "ident", "message")):
        try:
            signature.bind(*arguments)
            return
        except TypeError:
            continue
    raise KernelClassError(
        f"{name_of(kernel, name)}{signature} must take the request, or (stream, ident, message)"
    )
