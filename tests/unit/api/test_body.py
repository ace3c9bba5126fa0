"""What a body must be before anyone looks at it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foregate.api.body import MAX_BODY_BYTES, MAX_DEPTH, parse_json_object, read_body
from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.secrets import SERVICE_TOKEN_PREFIX, new_secret

JSON = "application/json"


def parse(text: str | bytes) -> dict[str, Any]:
    return parse_json_object(text if isinstance(text, bytes) else text.encode(), JSON)


def receiver(chunks: Iterable[bytes], *, is_cut: bool = False) -> Any:
    """An ASGI receive that hands out `chunks`."""
    parts = list(chunks)
    messages = [
        {"type": "http.request", "body": part, "more_body": is_cut or number < len(parts) - 1}
        for number, part in enumerate(parts)
    ] + [{"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return receive


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"a": [{"b": None}], "ä": "\u2603\U0001f600", "n": -1.5e3}])
def test_plain_object_is_taken_as_it_is(value: dict[str, Any]) -> None:
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"a": Infinity}', "not JSON"),
        ('{"a": 1, "a": 1}', "names a member twice"),
        ('{"a": {"b": 1, "b": 2}}', "names a member twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": "\\u0000"}', "NUL character"),
        ('{"a\\u0000": 1}', "NUL character"),
        ('{"ä": "ä\\u0000"}', "NUL character"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", "nested deeper"),
        ("[" * 100_000, "nested deeper"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_anything_else_is_refused_with_a_sentence(text: str | bytes, sentence: str) -> None:
    with pytest.raises(ForegateError, match=sentence) as raised:
        parse(text)
    assert raised.value.code is ErrorCode.INVALID_INPUT


def test_deepest_body_that_is_taken() -> None:
    assert parse('{"a": ' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}")


@pytest.mark.parametrize("content_type", ["", "text/json", "application/jsonp", "multipart/form-data; boundary=x"])
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(ForegateError) as raised:
        parse_json_object(b"{}", content_type)
    assert raised.value.code is ErrorCode.WRONG_CONTENT_TYPE


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json;charset=utf-8", " application/json "])
def test_spellings_of_the_content_type_are_taken(content_type: str) -> None:
    assert parse_json_object(b"{}", content_type) == {}


@pytest.mark.parametrize(
    "mask",
    ["", " ", "***", "****", "[REDACTED]", "[redacted]", "<redacted>", "<hidden>", "{masked}", "(sensitive value)",
     "redacted", "undefined", "None", "xxxx", "XXXXXXXX", "...", "…", "----", "####", "••••", "cfast_****", "ab***yz"],
)  # fmt: skip
@pytest.mark.parametrize("member", ["client_secret", "Client_Secret", "secret", "tunnel_secret", "private_key"])
def test_mask_is_no_secret(member: str, mask: str) -> None:
    with pytest.raises(ForegateError, match="secret") as raised:
        parse(json.dumps({"deep": [{member: mask}]}))
    assert raised.value.pointer == f"/deep/0/{member}"
    assert mask.strip() == "" or mask not in raised.value.message


@pytest.mark.parametrize("value", [None, 1, True])
def test_secret_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ForegateError):
        parse(json.dumps({"client_secret": value}))


def test_broken_service_token_secret_is_refused_and_a_whole_one_passes() -> None:
    secret = new_secret(SERVICE_TOKEN_PREFIX).reveal()
    assert parse(json.dumps({"client_secret": secret}))
    with pytest.raises(ForegateError, match="not a whole secret") as raised:
        parse(json.dumps({"client_secret": secret[:-1]}))
    assert secret[:-1] not in raised.value.message


def test_mask_outside_of_a_secret_is_plain_text() -> None:
    assert parse('{"name": "****", "tags": ["[REDACTED]"]}')


@given(st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.text() | st.floats(), st.lists, max_leaves=5)))
def test_any_json_is_taken_or_refused_by_name(value: dict[str, Any]) -> None:
    try:
        assert isinstance(parse(json.dumps(value)), dict)
    except ForegateError as error:
        assert error.message


async def test_body_comes_together_from_its_chunks() -> None:
    assert await read_body(receiver([b"ab", b"", b"c"]), None) == b"abc"
    assert await read_body(receiver([b""]), "0") == b""


@pytest.mark.parametrize("length", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
async def test_limit_is_exact(length: int) -> None:
    for chunks in ([b"x" * length], [b"x" * (length - 1), b"x"]):
        if length <= MAX_BODY_BYTES:
            assert len(await read_body(receiver(chunks), None)) == length
        else:
            with pytest.raises(ForegateError) as raised:
                await read_body(receiver(chunks), None)
            assert raised.value.code is ErrorCode.TOO_LARGE


async def test_declared_length_over_the_limit_is_refused_before_reading() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read")

    with pytest.raises(ForegateError):
        await read_body(receive, str(MAX_BODY_BYTES + 1))


async def test_request_that_breaks_off_is_refused() -> None:
    with pytest.raises(ForegateError, match="ended before its body"):
        await read_body(receiver([b"{"], is_cut=True), "10")
