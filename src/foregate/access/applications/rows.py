"""How applications, policies and groups stand in their `body` columns: JSON out of drafts and back.

Only `store` modules call this. What was written by an older Foregate must read for ever: members are added, with a
default for rows that lack them, and never change their meaning.
"""

from __future__ import annotations

import json
from typing import Any

from foregate.access.applications.model import (
    AnyValidServiceToken,
    ApplicationDraft,
    Conditions,
    Everyone,
    GroupDraft,
    GroupMember,
    Network,
    PolicyDecision,
    PolicyDraft,
    Selector,
    ServiceToken,
)


def policy_body(draft: PolicyDraft) -> str:
    """The `body` of a policy: all but name and decision, which have columns."""
    return json.dumps({**draft.conditions.to_json(), "session_duration": draft.session_duration, "kept": draft.kept})


def read_policy(name: str, decision: str, body: str) -> PolicyDraft:
    """The inverse."""
    data = json.loads(body)
    return PolicyDraft(
        name=name,
        decision=PolicyDecision(decision),
        conditions=_read_conditions(data),
        session_duration=data.get("session_duration"),
        kept=data.get("kept") or {},
    )


def group_body(draft: GroupDraft) -> str:
    """The `body` of a group."""
    return json.dumps(draft.conditions.to_json())


def read_group(name: str, body: str) -> GroupDraft:
    """The inverse."""
    return GroupDraft(name, _read_conditions(json.loads(body)))


def application_body(draft: ApplicationDraft) -> str:
    """The `body` of an application: all but the name, which has a column."""
    return json.dumps(
        {
            "domain": draft.domain,
            "uris": draft.uris,
            "patterns": draft.patterns,
            "session_duration": draft.session_duration,
            "answers_401": draft.answers_401,
            "token_header": draft.token_header,
            "kept": draft.kept,
        }
    )


def read_application(name: str, body: str) -> ApplicationDraft:
    """The inverse."""
    data = json.loads(body)
    return ApplicationDraft(
        name=name,
        domain=data["domain"],
        uris=tuple(data["uris"]),
        patterns=tuple(data["patterns"]),
        session_duration=data.get("session_duration"),
        answers_401=data.get("answers_401", False),
        token_header=data.get("token_header", ""),
        kept=data.get("kept") or {},
    )


def _read_conditions(data: dict[str, Any]) -> Conditions:
    return Conditions(
        include=tuple(map(_read_selector, data["include"])),
        require=tuple(map(_read_selector, data.get("require") or [])),
        exclude=tuple(map(_read_selector, data.get("exclude") or [])),
    )


def _read_selector(item: dict[str, Any]) -> Selector:
    match item:
        case {"service_token": {"token_id": str(token_id)}}:
            return ServiceToken(token_id)
        case {"any_valid_service_token": _}:
            return AnyValidServiceToken()
        case {"everyone": _}:
            return Everyone()
        case {"ip": {"ip": str(text)}}:
            return Network(text)
        case {"group": {"id": str(group_id)}}:
            return GroupMember(group_id)
        case _:
            raise ValueError("a stored selector is damaged")
