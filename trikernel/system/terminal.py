"""Turns text of unknown origin into text that is safe to print to a terminal.

A terminal obeys escape sequences: one may clear the screen, write the clipboard (OSC 52), make the
terminal type an answer (``CSI 6n``), or rename the window. Output needs only colours; every other
control character is shown instead of obeyed. Pure: knows neither messages nor whether there is a
terminal. Source: ECMA-48, "Control functions"; colours are its SGR.
"""

from __future__ import annotations

import re

__all__ = ["harmless"]

# Only digits and separators: `CSI > ... m` and `CSI ? ... m` look similar, but set keyboard modes.
# Of limited length, because a terminal may stop parsing a longer one, and show or obey the rest.
_SGR = r"\x1b\[[0-9;:]{0,64}m"
_CONTROL = re.compile(rf"({_SGR})|\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def harmless(text: str, colours: bool) -> str:
    """The text with nothing in it that a terminal obeys, but newlines, tabs and colours.

    Colours (SGR sequences) stay as they are, or go if ``colours`` is false. Every other control
    character is shown: those of C0 as their Unicode picture (an escape as ``␛``), those of C1 as
    ``\\x9b``, Unicode's line separators as ``\\u2028``. ``\\r\\n`` is a newline. A sequence that is
    cut in two is harmless in each half, but then no colour.
    """
    return _CONTROL.sub(lambda found: _shown(found, colours), text)


def _shown(found: re.Match[str], colours: bool) -> str:
    text = found[0]
    if found[1]:
        return text if colours else ""
    if text == "\r\n":
        return "\n"
    code = ord(text)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
