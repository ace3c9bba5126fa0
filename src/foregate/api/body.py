"""From the bytes of a request to a JSON object that is safe to look at.

Refuses, before any product sees it: over 1 MiB, another content type, bad UTF-8, bad JSON, doubled members, deep
nesting, NUL and lone surrogates, and any secret that is empty, masked or broken. The last is the incident's lesson:
a program that reads a redacted record and writes it back must get a 400, whatever else the record holds.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from starlette.types import Receive

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.secrets import SERVICE_TOKEN_PREFIX, parse_secret

MAX_BODY_BYTES = 1024 * 1024
# Deeper than any v4 body (applications reach 7), far from the interpreter's own limit.
MAX_DEPTH = 32

_SECRET_MEMBERS = frozenset(
    {"client_secret", "clientsecret", "secret", "cf-access-client-secret", "tunnel_secret", "private_key", "password"}
)
_MASK = re.compile(
    r"(?:[*•●xX.…#-]{3,}|[\[<({]+\s*(?:redacted|masked|hidden|secret|sensitive|filtered|removed)\s*[\])>}]+"
    r"|redacted|masked|hidden|\(?sensitive(?: value)?\)?|null|none|undefined)",
    re.IGNORECASE,
)
_MASKED_INSIDE = re.compile(r"\*{3,}|•{3,}|…|\[redacted\]|<redacted>", re.IGNORECASE)


async def read_body(receive: Receive, declared_length: str | None) -> bytes:
    """The whole body. ForegateError(TOO_LARGE) over 1 MiB, before the rest is read."""
    if declared_length is not None and declared_length.isdigit() and int(declared_length) > MAX_BODY_BYTES:
        raise _too_large()
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        chunks, size = [body], len(body)
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise invalid("The request ended before its body did.")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > MAX_BODY_BYTES:
                raise _too_large()
        body = b"".join(chunks)
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    return body


def parse_json_object(body: bytes, content_type: str) -> dict[str, Any]:
    """The JSON object in `body`. Raises ForegateError (WRONG_CONTENT_TYPE, INVALID_INPUT) with the reason."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ForegateError(ErrorCode.WRONG_CONTENT_TYPE, "Send the body as Content-Type: application/json.")
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise invalid("The body is not UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise invalid("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise invalid("The body must be a JSON object.")
    _check_value(value, "", 1)
    return value


def _check_value(value: Any, pointer: str, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value, pointer)
    elif isinstance(value, dict):
        if depth > MAX_DEPTH:
            raise _too_deep()
        for name, member in value.items():
            _check_text(name, pointer)
            if name.lower() in _SECRET_MEMBERS and not isinstance(member, dict | list):
                _check_secret(name.lower(), member, f"{pointer}/{name}")
            _check_value(member, f"{pointer}/{name}", depth + 1)
    elif isinstance(value, list):
        if depth > MAX_DEPTH:
            raise _too_deep()
        for position, item in enumerate(value):
            _check_value(item, f"{pointer}/{position}", depth + 1)


def _check_text(text: str, pointer: str) -> None:
    if text.isascii():
        if "\x00" in text:
            raise invalid("Text must not hold a NUL character.", pointer=pointer or None)
        return
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise invalid("Text must not hold a NUL character or half of a surrogate pair.", pointer=pointer or None)


def _check_secret(name: str, value: Any, pointer: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise invalid("A secret must not be empty: leave the member out to keep the secret.", pointer=pointer)
    if _MASK.fullmatch(value.strip()) or _MASKED_INSIDE.search(value):
        raise invalid("This is a masked secret, not a secret: leave the member out to keep it.", pointer=pointer)
    if name in ("client_secret", "cf-access-client-secret") and value.startswith(SERVICE_TOKEN_PREFIX):
        parse_secret(value, SERVICE_TOKEN_PREFIX, pointer=pointer)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise invalid("The body names a member twice in one object.")
    return members


def _refuse_constant(_text: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _too_large() -> ForegateError:
    return ForegateError(ErrorCode.TOO_LARGE, "The body is larger than 1 MiB (1,048,576 bytes).")


def _too_deep() -> ForegateError:
    return invalid(f"The body is nested deeper than {MAX_DEPTH} levels.")
