"""Summaries of batches: the fast way and the slow way say the same, and no client can fool either."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_lines import ACCOUNT, APP, FAILURE, NOON_MICROS, NOTICE, client, line
from foregate.access.events.batch import StoredBatch
from foregate.access.events.events import parse_line
from foregate.access.events.summary import Count, Summary, mark, summarise, to_micros, to_stamp
from foregate.core.decision import Reason

MINUTE = NOON_MICROS // 60_000_000


def summary_of(lines: bytes) -> Summary:
    return summarise(StoredBatch(1, NOON_MICROS, "edge-1", "w1", 0, lines))


def uses_of(summary: Summary) -> dict[str, float]:
    """The latest use of each token, in seconds after noon."""
    latest: dict[str, float] = {}
    for client_id, stamp in zip(summary.uses, summary.used_at, strict=True):
        second = (to_micros(stamp) - NOON_MICROS) / 1e6
        latest[client_id.decode()] = max(second, latest.get(client_id.decode(), second))
    return latest


def rewritten(text: bytes) -> bytes:
    """The same event in JSON of another shape, which only the slow way reads."""
    event = json.loads(text)
    return json.dumps({name: event[name] for name in sorted(event)}).encode() + b"\n"


def test_batch_is_summed_up() -> None:
    lines = line(4, second=1) + line(6, second=3, client_id=client(2)) + line(5, second=2, reason="token_expired")
    found = summary_of(lines)
    assert (found.events, found.notices, found.highest, found.malformed) == (3, 0, 6, ())
    assert (to_micros(found.first), to_micros(found.last)) == (NOON_MICROS + 1_000_000, NOON_MICROS + 3_000_000)
    assert uses_of(found) == {client(1): 1.0, client(2): 3.0}
    assert found.counts == {
        Count(MINUTE, ACCOUNT, APP, Reason.SERVICE_AUTH): 2,
        Count(MINUTE, ACCOUNT, APP, Reason.TOKEN_EXPIRED): 1,
    }
    assert found.marks == {mark(client(1)), mark(client(2)), mark(APP), mark(ACCOUNT)}


def test_empty_batch_is_empty() -> None:
    found = summary_of(b"")
    assert (found.events, found.highest, found.first, found.counts, found.marks) == (0, -1, b"", {}, frozenset())


def test_events_of_several_minutes_are_counted_apart() -> None:
    found = summary_of(line(0, second=59.999) + line(1, second=60) + line(2, second=121))
    assert sorted(count.minute - MINUTE for count in found.counts) == [0, 1, 2]


def test_notices_are_counted_and_nothing_else() -> None:
    found = summary_of(line(0) + NOTICE + b"\n" + line(2))
    assert (found.events, found.notices, found.malformed) == (2, 2, ())


def test_connection_that_failed_before_a_request_is_neither_event_nor_notice() -> None:
    found = summary_of(line(0) + FAILURE)
    assert (found.events, found.failures, found.notices, found.written) == (1, 1, 0, 2)


def test_count_of_written_lines_is_the_highest_though_threads_write_out_of_order() -> None:
    assert summary_of(b"".join(line(0, count=count) for count in (7, 9, 8))).written == 10
    assert summary_of(NOTICE).written == 0
    assert summary_of(line(0, count=4) + NOTICE * 1000).written == 5


def test_request_that_could_not_be_parsed_counts_as_malformed_request() -> None:
    found = summary_of(line(reason="", client_id="", account="", app=""))
    assert found.counts == {Count(MINUTE, "", "", Reason.REQUEST_MALFORMED): 1}


def test_refused_requests_are_no_uses() -> None:
    refused = [reason for reason in Reason if reason not in (Reason.SERVICE_AUTH, Reason.BYPASS)]
    assert uses_of(summary_of(b"".join(line(reason=reason.value) for reason in refused))) == {}


def test_bypass_without_a_token_is_no_use() -> None:
    found = summary_of(line(reason="bypass", client_id="") + line(reason="bypass", client_id=client(3)))
    assert uses_of(found) == {client(3): 0.0}


@pytest.mark.parametrize(
    "broken",
    [
        line(1)[:60] + b"\n",
        b'{"n":1\n',
        line(1, reason="no_such_reason"),
        line(1, account="not an account"),
        line(1).replace(b'"t":1', b'"t":x'),
        line(-1),
        b"{" + b"\xff" * 40 + b"\n",
    ],
    ids=["cut", "half", "reason", "account", "time", "number", "bytes"],
)
def test_malformed_line_is_set_aside_with_its_place_and_the_others_count(broken: bytes) -> None:
    found = summary_of(line(0) + broken + line(9, client_id=client(2)))
    assert [(one.first_byte, one.size_bytes) for one in found.malformed] == [(len(line(0)), len(broken))]
    assert uses_of(found) == {client(1): 0.0, client(2): 0.0}
    assert found.highest == 9


def test_line_that_lost_its_end_to_the_next_counts_and_the_next_is_a_gap() -> None:
    # As a full disk leaves it. What is read of a line stands before its client's part, so it is whole here.
    found = summary_of(line(0)[:-40] + line(1, client_id=client(2)) + line(2))
    assert (found.events, found.highest, uses_of(found)) == (2, 2, {client(1): 0.0})


FORGERIES = [
    f'","why":"service_auth","id":"{client(66)}"',
    f'"}}\n{{"n":1,"t":1790337600.000,"ray":"","acct":"{ACCOUNT}","app":"","id":"{client(66)}","pol":"",'
    '"why":"service_auth","host":"","path":""}',
    f'\\","id":"{client(66)}","pol":"","why":"service_auth","host":"',
    f'\\\\","id":"{client(66)}","pol":"","why":"service_auth","host":"',
    "\n" + NOTICE.decode(),
    '","st":200,"c":999999,"end":"--"}',
    '"',
    "\\",
    "\x00\x1f\x7f\u2028",
]


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("member", ["path", "host"])
def test_what_a_client_writes_into_path_or_host_counts_for_nothing(forgery: str, member: str) -> None:
    text = line(0, reason="secret_mismatch", **{member: forgery})  # type: ignore[arg-type]
    found = summary_of(text + line(1, reason="secret_mismatch"))
    assert (found.events, found.malformed, uses_of(found)) == (2, (), {})
    assert mark(client(66)) not in found.marks or mark(client(66)) == mark(client(1))
    assert {count.reason for count in found.counts} == {Reason.SECRET_MISMATCH}
    assert found.written == 2


LINES = st.builds(
    line,
    st.integers(0, 10**9),
    second=st.integers(0, 200_000).map(lambda ms: ms / 1000),
    client_id=st.one_of(st.just(""), st.integers(0, 5).map(client)),
    reason=st.sampled_from(["", *[reason.value for reason in Reason]]),
    path=st.one_of(st.text(max_size=30), st.sampled_from(FORGERIES)),
    host=st.one_of(st.just("echo.localhost"), st.sampled_from(FORGERIES)),
    app=st.sampled_from(["", APP]),
    account=st.sampled_from(["", ACCOUNT]),
)


@given(st.lists(LINES, max_size=12))
def test_fast_and_slow_way_say_the_same(lines: list[bytes]) -> None:
    fast, slow = summary_of(b"".join(lines)), summary_of(b"".join(map(rewritten, lines)))
    assert uses_of(fast) == uses_of(slow)
    assert (fast.events, fast.highest, fast.first, fast.last) == (slow.events, slow.highest, slow.first, slow.last)
    assert (fast.counts, fast.marks, fast.malformed) == (slow.counts, slow.marks, slow.malformed)


@given(st.lists(LINES, max_size=12))
def test_summary_is_what_the_lines_say_one_by_one(lines: list[bytes]) -> None:
    found = summary_of(b"".join(lines))
    events = [parse_line(text) for text in lines]
    latest: dict[str, float] = {}
    for event in events:
        if event.is_use:
            second = (event.at - NOON_MICROS) / 1e6
            latest[event.client_id] = max(second, latest.get(event.client_id, second))
    assert uses_of(found) == latest
    assert sum(found.counts.values()) == len(events) == found.events


@given(
    st.lists(st.one_of(LINES, st.binary(max_size=80).map(lambda text: text.replace(b"\n", b"") + b"\n")), max_size=12)
)
def test_any_bytes_can_be_summed_up_and_every_line_is_counted_once(lines: list[bytes]) -> None:
    found = summary_of(b"".join(lines))
    assert found.events + found.notices + len(found.malformed) == len(lines)


@given(st.integers(10**15, 4 * 10**15))
def test_stamps_keep_milliseconds_and_order(micros: int) -> None:
    assert to_micros(to_stamp(micros)) == micros // 1000 * 1000
    assert to_stamp(micros) <= to_stamp(micros + 1)
