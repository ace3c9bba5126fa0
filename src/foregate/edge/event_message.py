"""A batch of event lines as a message of Kafka: one line of JSON about it, a newline, and the packed lines. Pure."""

from __future__ import annotations

import orjson

VERSION = 1
_ACCOUNT = b'"acct":"'
_ACCOUNT_LENGTH = 32


def encode(edge_id: str, worker: str, start: int, size_bytes: int, packed: bytes, *, is_final: bool) -> bytes:
    """The message. `size_bytes` of lines from byte `start` of the worker's spool file on; `is_final`: it ends there."""
    about = {"v": VERSION, "edge": edge_id, "worker": worker, "start": start, "size": size_bytes, "final": is_final}
    return orjson.dumps(about) + b"\n" + packed


def partition_key(lines: bytes, worker: str) -> str:
    """What decides the partition: the account of the lines or, where they are of several or of none, the worker."""
    return account_of(lines) or worker


def account_of(lines: bytes) -> str:
    """The account of all lines, '' where they are of several, or of none. Looks for one text, parses nothing."""
    first = lines.find(_ACCOUNT)
    if first < 0:
        return ""
    begin = first + len(_ACCOUNT)
    account = lines[begin : begin + _ACCOUNT_LENGTH]
    # Within a text of JSON the quotes would be escaped, so that this counts the lines of the account alone.
    is_only = lines.count(_ACCOUNT + account + b'"') == lines.count(b"\n")
    return account.decode("ascii", "replace") if is_only else ""
