"""The v4 envelope: what every answer of the control API looks like (reference page, section 5).

Encodes with orjson: dataclasses, enums and aware datetimes (RFC 3339 with `Z`, whole seconds) may stand in a result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from foregate.api.errors import Problem
from foregate.api.paging import PageInfo

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns. `result` is anything orjson encodes; `info` goes with lists.

    `change_seq` becomes the header Foregate-Change. `status` overrides the operation's own.
    `is_kept_for_retry` asks `Changes.run` to keep the answer for the caller's own retry (it carries a secret, or a
    second run would answer otherwise). `encoded` is the finished body where it exists already.
    """

    result: Any = field(default=None, repr=False)
    info: PageInfo | None = None
    change_seq: int | None = None
    status: int | None = None
    is_kept_for_retry: bool = False
    encoded: bytes | None = field(default=None, repr=False)
    is_replay: bool = False


def encode_answer(answer: Answer) -> bytes:
    """The success envelope as JSON."""
    if answer.encoded is not None:
        return answer.encoded
    body: dict[str, Any] = {"success": True, "errors": [], "messages": [], "result": answer.result}
    if answer.info is not None:
        body["result_info"] = answer.info
    return orjson.dumps(body, option=_OPTIONS)


def encode_failure(*problems: Problem) -> bytes:
    """The failure envelope as JSON."""
    return orjson.dumps(
        {"success": False, "errors": [problem.item() for problem in problems], "messages": [], "result": None}
    )
