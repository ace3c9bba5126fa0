"""The edge's own answers as HAProxy log-format texts: refusals in JSON and HTML, and what went wrong with an origin.

None of them tells an unknown client id from a wrong secret: the sentence says the same to whoever is refused.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib import resources

_RAY = "%[unique-id]"


def refusal_json(status: int, sentence: str) -> str:
    """`{"message", "status_code", "aud", "ray_id"}`; aud is empty where no application is known."""
    return _json({"message": sentence, "status_code": status}, f'"aud":"%[var(txn.aud)]","ray_id":"{_RAY}"')


def refusal_html(status: int, sentence: str) -> str:
    """A page for people."""
    page = resources.files(__package__).joinpath("refusal.html").read_text().replace("\n", "").replace("%", "%%")
    return page.replace("STATUS", str(status)).replace("SENTENCE", html.escape(sentence)).replace("RAY", _RAY)


def origin_error(status: int, sentence: str, *, was_reached: bool) -> str:
    """Where the origin gave no answer; `cause` says why the connection failed, and is empty where it stood."""
    cause = "" if was_reached else "%[lua.foregate_cause]"
    return _json({"message": sentence, "status_code": status}, f'"cause":"{cause}","ray_id":"{_RAY}"')


def no_origin(sentence: str) -> str:
    """As `origin_error` with status 502, where no origin was asked."""
    return _json({"message": sentence, "status_code": 502, "cause": ""}, f'"ray_id":"{_RAY}"')


def _json(known: Mapping[str, object], more: str) -> str:
    """`known` is ours and holds no per cent sign; `more` is a format."""
    return json.dumps(known, separators=(",", ":"))[:-1] + "," + more + "}"
