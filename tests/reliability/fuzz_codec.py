"""Any bytes as a message: it is decoded, or refused as a `WireError`; nothing else may come of it.

``python -m tests.reliability.fuzz_codec --minutes 10`` runs the coverage-guided fuzzer atheris
(``pip install atheris``) from the corpus in ``tests/reliability/corpus``.
A file there is one input: frames, with a line of two dashes between them.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from trikernel.errors import ContentError, WireError
from trikernel.wire import REQUESTS, Codec, Limits, Message, as_content, parse

__all__ = ["CORPUS", "one_input"]

CORPUS = Path(__file__).parent / "corpus"
BETWEEN = b"\n--\n"

_limits = Limits(max_frames=64, max_message_bytes=1 << 20, replay_window=64)
_open = Codec(limits=_limits)
_signed = Codec(b"key", limits=_limits)


def one_input(data: bytes) -> Message | None:
    """The message that these bytes are, if they are one; raises what must never be raised."""
    frames = data.split(BETWEEN)
    try:
        message = _open.decode(frames)
    except WireError:
        return None
    _check_parsing(message)
    _check_signing(frames)
    return message


def _check_parsing(message: Message) -> None:
    """Its content fits the type that it says, or is a `ContentError`; and it can be encoded."""
    row = REQUESTS.get(message.msg_type)
    if row is not None:
        with contextlib.suppress(ContentError):
            as_content(parse(row.content, message.msg_type, message.content))
    again = _open.encode(
        message.msg_type,
        message.content,
        parent=message.header,
        metadata=message.metadata,
        buffers=message.buffers,
        identities=message.identities,
    )
    read = _open.decode(again)
    assert read.parent_id == message.msg_id
    assert [bytes(one) for one in read.buffers] == [bytes(one) for one in message.buffers]


def _check_signing(frames: list[bytes]) -> None:
    """Signed it is accepted, once; with any other signature it is not."""
    at = frames.index(b"<IDS|MSG>") + 1
    signature = _signed.sign(frames[at + 1 : at + 5])
    good = [*frames[:at], signature, *frames[at + 1 :]]
    bad = [*frames[:at], signature[:-1] + b"x", *frames[at + 1 :]]
    assert _refusal(bad) == _refusal(frames) == "signature"
    assert _refusal(good) in (None, "replay")  # the fuzzer may come to the same message again
    assert _refusal(good) == "replay"


def _refusal(frames: list[bytes]) -> str | None:
    """The kind of error that a message is refused with."""
    try:
        _signed.decode(frames)
    except WireError as error:
        return error.kind
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    import atheris  # not needed by the suite

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as found:
        limits = [f"-max_total_time={int(options.minutes * 60)}", "-max_len=2048"]
        atheris.Setup([sys.argv[0], *limits, found, str(CORPUS)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
