"""Stored bodies: what is written is read again, and what an older Foregate wrote reads for ever."""

from __future__ import annotations

import json

import pytest

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
    ServiceToken,
)
from foregate.access.applications.rows import (
    application_body,
    group_body,
    policy_body,
    read_application,
    read_group,
    read_policy,
)

CONDITIONS = Conditions(
    include=(ServiceToken("t"), AnyValidServiceToken(), Everyone()),
    require=(Network("192.0.2.7"),),
    exclude=(GroupMember("g"),),
)


def test_a_policy_is_read_as_it_was_written() -> None:
    draft = PolicyDraft("ci", PolicyDecision.BYPASS, CONDITIONS, "30m", {"approval_required": False})
    assert read_policy("ci", "bypass", policy_body(draft)) == draft


def test_a_group_is_read_as_it_was_written() -> None:
    assert read_group("ops", group_body(GroupDraft("ops", CONDITIONS))) == GroupDraft("ops", CONDITIONS)


def test_an_application_is_read_as_it_was_written() -> None:
    draft = ApplicationDraft("a", None, ("A.b",), ("a.b",), "1h", True, "X-Token", {"app_launcher_visible": False})
    assert read_application("a", application_body(draft)) == draft


def test_rows_of_the_first_version_read_for_ever() -> None:
    policy = {"include": [{"everyone": {}}]}
    assert read_policy("p", "deny", json.dumps(policy)).conditions == Conditions((Everyone(),))
    application = {"domain": "a.b", "uris": ["a.b"], "patterns": ["a.b"]}
    assert read_application("a", json.dumps(application)).token_header == ""


def test_a_damaged_selector_is_an_error_and_never_everyone() -> None:
    for damaged in ({}, {"service_token": {}}, {"ip": {"ip": None}}, {"group": {"id": 7}}, {"unknown": {}}):
        with pytest.raises(ValueError, match="damaged"):
            read_policy("p", "non_identity", json.dumps({"include": [damaged]}))
