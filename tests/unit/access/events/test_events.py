"""Event lines, one by one."""

from __future__ import annotations

import json

import pytest

from event_lines import ACCOUNT, APP, NOON_MICROS, NOTICE, POLICY, client, line
from foregate.access.events.events import MEMBERS, Event, MalformedLine, is_notice, parse_line
from foregate.core.decision import Outcome, Reason


def test_line_is_read_member_by_member() -> None:
    text = line(7, second=1.25, path='/a"b\n', host="echo.localhost", status=502)
    assert parse_line(text) == Event(
        number=7,
        at=NOON_MICROS + 1_250_000,
        ray_id=f"{7:016x}",
        account_id=ACCOUNT,
        app_id=APP,
        client_id=client(1),
        policy_id=POLICY,
        reason=Reason.SERVICE_AUTH,
        host="echo.localhost",
        ip="192.0.2.7",
        method="GET",
        path='/a"b\n',
        status=502,
        end="--",
    )


def test_lines_have_the_known_members_in_their_order() -> None:
    assert tuple(json.loads(line())) == MEMBERS


def test_empty_reason_is_a_request_that_could_not_be_parsed() -> None:
    event = parse_line(line(reason="", client_id="", app="", account=""))
    assert (event.reason, event.outcome) == (Reason.REQUEST_MALFORMED, Outcome.REFUSED)


def test_missing_members_are_empty_and_unknown_ones_ignored() -> None:
    event = parse_line(b'{"n":1,"t":1790337600.000,"why":"bypass","later":{"more":1}}')
    assert (event.client_id, event.path, event.status) == ("", "", 0)


@pytest.mark.parametrize("reason", list(Reason))
def test_use_is_a_token_that_was_let_through(reason: Reason) -> None:
    is_use = reason in (Reason.SERVICE_AUTH, Reason.BYPASS)
    assert parse_line(line(reason=reason.value)).is_use is is_use
    assert parse_line(line(reason=reason.value, client_id="")).is_use is False


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"{}",
        b"[]",
        b"{\xff}",
        line().replace(b'"t":', b'"u":'),
        line().replace(b'"n":0', b'"n":"0"'),
        line().replace(b'"n":0', b'"n":true'),
        line().replace(b'"n":0', b'"n":1e400'),
        line(second=4e9),
        line(reason="no_such_reason"),
        line().replace(b'"st":200', b'"st":"ok"'),
        line().replace(b'"m":"GET"', b'"m":null'),
        line()[:-20] + b"\n",
    ],
)
def test_line_that_is_no_event_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedLine):
        parse_line(text)


def test_what_does_not_begin_with_a_brace_is_a_notice() -> None:
    assert is_notice(NOTICE)
    assert is_notice(b"\n")
    assert not is_notice(line())
