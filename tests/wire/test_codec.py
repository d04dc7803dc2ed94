"""The codec, with jupyter_client's Session as its second opinion."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from trikernel.errors import SettingError, WireError
from trikernel.wire import IOPUB_TYPES, PROTOCOL_VERSION, REQUESTS, STDIN_TYPES, Codec, Limits

KEY = b"0123456789abcdef"
TYPES = [*REQUESTS, *IOPUB_TYPES, *STDIN_TYPES, "execute_reply", "kernel_info_reply"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=12,
)
contents = st.dictionaries(texts, values, max_size=4)
buffers = st.lists(st.binary(max_size=40), max_size=3)
identities = st.lists(
    st.binary(min_size=1, max_size=12).filter(lambda one: one != b"<IDS|MSG>"), max_size=3
)


def frames_of(codec: Codec, content: Any = None, **options: Any) -> list[bytes]:
    return codec.encode("execute_request", content or {"code": "1"}, **options)


@pytest.mark.parametrize("key", [KEY, b""], ids=["signed", "unsigned"])
@pytest.mark.parametrize("msg_type", TYPES)
@given(content=contents, metadata=contents, buffers=buffers, identities=identities)
def test_what_we_encode_the_session_reads_equal(
    key: bytes, msg_type: str, content: Any, metadata: Any, buffers: Any, identities: Any
) -> None:
    frames = Codec(key).encode(
        msg_type, content, metadata=metadata, buffers=buffers, identities=identities
    )
    session = Session(key=key)
    idents, rest = session.feed_identities(frames)
    message = session.deserialize(rest)
    assert idents == identities
    assert message["msg_type"] == msg_type
    assert message["content"] == content
    assert message["metadata"] == metadata
    assert message["parent_header"] == {}
    assert [bytes(one) for one in message["buffers"]] == buffers
    assert message["header"]["version"] == PROTOCOL_VERSION


@pytest.mark.parametrize("key", [KEY, b""], ids=["signed", "unsigned"])
@pytest.mark.parametrize("msg_type", TYPES)
@given(content=contents, metadata=contents, buffers=buffers, identities=identities)
def test_what_the_session_writes_we_decode_equal(
    key: bytes, msg_type: str, content: Any, metadata: Any, buffers: Any, identities: Any
) -> None:
    session = Session(key=key)
    parent = session.msg("execute_request", {"code": "1"})
    written = session.msg(msg_type, content, parent=parent, metadata=metadata)
    frames = [*session.serialize(written, ident=identities or None), *buffers]
    message = Codec(key).decode(frames)
    assert message.msg_type == msg_type
    assert message.msg_id == written["header"]["msg_id"]
    assert message.content == content
    assert message.metadata == metadata
    assert message.parent_id == parent["header"]["msg_id"]
    assert list(message.identities) == identities
    assert [bytes(one) for one in message.buffers] == buffers


def test_the_parent_header_is_a_copy_of_the_requests_header_unknown_fields_included() -> None:
    codec = Codec(KEY)
    header = b'{"msg_id":"x","msg_type":"a_request","subshell_id":null,"new":[1]}'
    request = codec.decode(codec.encode("a_request", {}, header=header))
    reply = Codec(KEY).decode(codec.encode("a_reply", {}, parent=request.header))
    assert reply.parent_header == {
        "msg_id": "x",
        "msg_type": "a_request",
        "subshell_id": None,
        "new": [1],
    }


def test_message_ids_are_unique_and_the_session_is_the_codecs() -> None:
    codec = Codec(KEY)
    messages = [Codec(KEY).decode(frames_of(codec)) for _ in range(50)]
    assert len({message.msg_id for message in messages}) == 50
    assert {message.header.session for message in messages} == {codec.session}


def replaced(frames: list[bytes], index: int, frame: bytes, codec: Codec) -> list[bytes]:
    """The frames with another JSON frame in place, signed anew."""
    body = [*frames[2:6]]
    body[index] = frame
    return [frames[0], codec.sign(body), *body]


BAD = {
    "no frames": ([], "delimiter"),
    "one frame": ([b"x"], "delimiter"),
    "no delimiter": ([b"a", b"b", b"c", b"d", b"e", b"f"], "delimiter"),
    "too few frames": ([b"<IDS|MSG>", b"", b"{}", b"{}"], "frames"),
    "unsigned": ([b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"], "signature"),
    "wrong signature": ([b"<IDS|MSG>", b"0" * 64, b"{}", b"{}", b"{}", b"{}"], "signature"),
    "signature of odd bytes": (
        [b"<IDS|MSG>", b"\xff\xfe", b"{}", b"{}", b"{}", b"{}"],
        "signature",
    ),
    "100,000 identities": ([b"i"] * 100_000 + [b"<IDS|MSG>"], "frames"),
    "65 identities": ([b"i"] * 65 + [b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"], "frames"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_frames_are_refused_with_their_kind(case: str) -> None:
    frames, kind = BAD[case]
    with pytest.raises(WireError) as caught:
        Codec(KEY).decode(frames)
    assert caught.value.kind == kind


SIGNED = {
    "invalid UTF-8": (3, b'{"a": "\xff"}', "json"),
    "invalid JSON": (3, b"{", "json"),
    "JSON that is no object": (3, b"[1]", "json"),
    "null content": (3, b"null", "json"),
    "metadata that is a string": (2, b'"x"', "json"),
    "parent that is a number": (1, b"3", "json"),
    "header without msg_id": (0, b'{"msg_type": "x"}', "header"),
    "header without msg_type": (0, b'{"msg_id": "x"}', "header"),
    "header with a number as id": (0, b'{"msg_id": 1, "msg_type": "x"}', "header"),
    "header with an odd session": (0, b'{"msg_id": "1", "msg_type": "x", "session": 3}', "header"),
    "nested too deeply": (3, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "json"),
}


@pytest.mark.parametrize("case", SIGNED)
def test_well_signed_nonsense_is_refused_with_its_kind(case: str) -> None:
    index, frame, kind = SIGNED[case]
    codec = Codec(KEY)
    frames = replaced(frames_of(codec), index, frame, codec)
    with pytest.raises(WireError) as caught:
        Codec(KEY).decode(frames)
    assert caught.value.kind == kind


def test_a_message_over_the_bound_is_refused() -> None:
    codec = Codec(KEY, limits=Limits(max_message_bytes=2000))
    codec.decode(frames_of(codec))
    with pytest.raises(WireError, match="at most 2000") as caught:
        codec.decode(frames_of(codec, {"code": "x" * 2000}))
    assert caught.value.kind == "size"


def test_a_replayed_message_is_refused() -> None:
    codec = Codec(KEY)
    frames = frames_of(codec)
    codec.decode(frames)
    with pytest.raises(WireError) as caught:
        codec.decode(frames)
    assert caught.value.kind == "replay"


def test_forged_signatures_neither_fill_the_window_nor_push_true_ones_out() -> None:
    codec = Codec(KEY, limits=Limits(replay_window=10))
    frames = frames_of(codec)
    codec.decode(frames)
    for number in range(1000):
        with pytest.raises(WireError):
            codec.decode([frames[0], b"%064d" % number, *frames[2:]])
    assert len(codec._seen._known) == 1
    with pytest.raises(WireError) as caught:
        codec.decode(frames)
    assert caught.value.kind == "replay"


def test_the_window_remembers_the_last_n_verified_signatures_and_no_more() -> None:
    codec = Codec(KEY, limits=Limits(replay_window=10))
    messages = [frames_of(codec) for _ in range(30)]
    for frames in messages:
        codec.decode(frames)
    assert len(codec._seen._known) == len(codec._seen._order) == 10
    with pytest.raises(WireError):
        codec.decode(messages[-10])


def test_without_a_key_nothing_is_signed_and_anything_is_accepted() -> None:
    codec = Codec(b"")
    frames = frames_of(codec)
    assert frames[1] == b""
    codec.decode(frames)
    codec.decode([frames[0], b"whatever", *frames[2:]])


@pytest.mark.parametrize("scheme", ["hmac-sha512", "hmac-md5", "hmac-sha256"])
def test_other_signature_schemes_agree_with_the_session(scheme: str) -> None:
    session = Session(key=KEY, signature_scheme=scheme)
    _, rest = session.feed_identities(frames_of(Codec(KEY, scheme)))
    assert session.deserialize(rest)["content"] == {"code": "1"}


@pytest.mark.parametrize("scheme", ["sha256", "hmac-nonsense", ""])
def test_an_unknown_signature_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(SettingError, match="signature_scheme"):
        Codec(KEY, scheme)


@pytest.mark.seed(27)
def test_what_json_cannot_say_is_replaced_and_reads_as_json() -> None:
    content: dict[Any, Any] = {
        "nan": math.nan,
        "set": {1},
        "bytes": b"ab",
        5: "key",
        "big": 2**70,
        "s": "\ud800",
    }
    message = Codec(KEY).decode(Codec(KEY).encode("x", content))
    assert message.content == {
        "nan": None,
        "set": [1],
        "bytes": "YWI=",
        "5": "key",
        "big": 2**70,
        "s": "\ud800",
    }
