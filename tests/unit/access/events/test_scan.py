"""Reading events out of the log: newest first or from a cursor on, indexed or not, and only what is wanted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from event_lines import ACCOUNT, APP, NOON_MICROS, NOTICE, Telemetry, batch, client, later, line
from foregate.access.events import scan
from foregate.access.events.scan import START, Found, Place, Wanted, parse_place, search_back, search_on
from foregate.core.decision import Reason
from foregate.core.errors import ForegateError

OTHER_ACCOUNT = "b" * 32
ALL = Wanted(ACCOUNT)


def numbers(found: Found) -> list[int]:
    return [event.number for _, event in found.events]


def back(
    telemetry: Telemetry, wanted: Wanted = ALL, before: Place | None = None, limit: int = 100, skip: int = 0
) -> Found:
    with telemetry.ingest.read() as connection:
        return search_back(connection, wanted, before, limit, skip)


def on(telemetry: Telemetry, wanted: Wanted = ALL, after: Place = START, limit: int = 100, skip: int = 0) -> Found:
    with telemetry.ingest.read() as connection:
        return search_on(connection, wanted, after, limit, skip)


def fill(telemetry: Telemetry, *batches: bytes) -> None:
    """Batches of one worker, one after the other."""
    start = 0
    for lines in batches:
        telemetry.take(batch(lines, start=start), now=later(60))
        start += len(lines)


@pytest.fixture(params=["unindexed", "indexed", "partly indexed", "many blocks"])
def prepared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Telemetry], None]:
    """What has happened to the first of two halves of a log before it is searched."""
    if request.param == "many blocks":
        monkeypatch.setattr("foregate.access.events.blocks.MOST_RECORDS", 1)
    if request.param == "unindexed":
        return lambda _: None
    return lambda telemetry: telemetry.consume()


@pytest.fixture
def ten(telemetry: Telemetry, prepared: Callable[[Telemetry], None], request: pytest.FixtureRequest) -> Telemetry:
    """Ten events in five batches, with a notice and a malformed line among them."""
    lines = [line(number, second=number) for number in range(10)]
    fill(telemetry, lines[0] + lines[1], lines[2] + NOTICE + lines[3])
    prepared(telemetry)
    sizes = sum(map(len, lines[:4])) + len(NOTICE)
    for first in (4, 6, 8):
        body = lines[first] + b"{broken\n" + lines[first + 1]
        telemetry.take(batch(body, start=sizes), now=later(60))
        sizes += len(body)
    if "partly" not in str(request.node.callspec.id):
        prepared(telemetry)
    return telemetry


def test_newest_come_first(ten: Telemetry) -> None:
    assert numbers(back(ten)) == list(range(9, -1, -1))


def test_oldest_come_first_from_a_place_on(ten: Telemetry) -> None:
    assert numbers(on(ten)) == list(range(10))


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_backwards_give_every_event_once(ten: Telemetry, limit: int) -> None:
    seen: list[int] = []
    before = None
    while (found := back(ten, before=before, limit=limit)).events:
        seen += numbers(found)
        before = found.reached
    assert seen == list(range(9, -1, -1))


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_following_gives_every_event_once(ten: Telemetry, limit: int) -> None:
    seen: list[int] = []
    after = START
    while (found := on(ten, after=after, limit=limit)).events:
        seen += numbers(found)
        after = found.reached
    assert seen == list(range(10))


def test_what_comes_later_lies_after_where_a_search_began(ten: Telemetry) -> None:
    found = back(ten, limit=1)
    ten.take(batch(line(99), worker="w2"))
    assert numbers(on(ten, after=found.began)) == [99]


def test_following_goes_on_after_events_that_do_not_match(ten: Telemetry) -> None:
    wanted = Wanted(ACCOUNT, client_ids=frozenset({client(2)}))
    found = on(ten, wanted)
    ten.take(batch(line(99, client_id=client(2)), worker="w2"))
    assert numbers(found) == []
    assert numbers(on(ten, wanted, after=found.reached)) == [99]


def test_skipped_events_are_not_given(ten: Telemetry) -> None:
    assert numbers(back(ten, limit=3, skip=4)) == [5, 4, 3]
    assert numbers(on(ten, limit=3, skip=4)) == [4, 5, 6]


def test_time_bounds_include_the_first_moment_and_not_the_last(ten: Telemetry) -> None:
    wanted = Wanted(ACCOUNT, since=NOON_MICROS + 3_000_000, until=NOON_MICROS + 6_000_000)
    assert numbers(on(ten, wanted)) == [3, 4, 5]
    assert numbers(back(ten, wanted)) == [5, 4, 3]


def mixed(telemetry: Telemetry) -> None:
    fill(
        telemetry,
        line(0, client_id=client(1)) + line(1, client_id=client(2), reason="secret_mismatch", status=401),
        line(2, client_id="", reason="no_credentials", app="11111111-1111-4111-8111-111111111111"),
        line(3, client_id=client(3), account=OTHER_ACCOUNT) + line(4, account="", app="", reason="no_application"),
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ALL, [0, 1, 2]),
        (Wanted(OTHER_ACCOUNT), [3]),
        (Wanted(ACCOUNT, has_unowned=True), [0, 1, 2, 4]),
        (Wanted(ACCOUNT, client_ids=frozenset({client(2)})), [1]),
        (Wanted(ACCOUNT, client_ids=frozenset({client(1), client(2)})), [0, 1]),
        (Wanted(ACCOUNT, client_ids=frozenset({client(3)})), []),
        (Wanted(ACCOUNT, app_ids=frozenset({APP})), [0, 1]),
        (Wanted(ACCOUNT, without_app_id=APP), [2]),
        (Wanted(ACCOUNT, ray_id=f"{1:016x}"), [1]),
        (Wanted(ACCOUNT, without_ray_id=f"{1:016x}"), [0, 2]),
        (Wanted(ACCOUNT, reasons=frozenset({Reason.SECRET_MISMATCH, Reason.NO_CREDENTIALS})), [1, 2]),
        (Wanted(ACCOUNT, reasons=frozenset()), []),
        (Wanted(ACCOUNT, has_client=True), [0, 1]),
    ],
)
@pytest.mark.parametrize("is_indexed", [False, True])
def test_only_wanted_events_are_found(
    telemetry: Telemetry, wanted: Wanted, expected: list[int], is_indexed: bool
) -> None:
    mixed(telemetry)
    if is_indexed:
        telemetry.consume()
    if wanted.reasons or is_indexed:
        assert numbers(on(telemetry, wanted)) == expected
        assert numbers(back(telemetry, wanted)) == expected[::-1]


def test_blocks_that_cannot_hold_what_is_wanted_are_not_opened(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foregate.access.events.blocks.MOST_RECORDS", 1)
    fill(telemetry, *(line(number, client_id=client(number << 64)) for number in range(5)))
    telemetry.consume()
    opened: list[int] = []
    read = scan.read_batch
    monkeypatch.setattr(scan, "read_batch", lambda record: opened.append(record.offset) or read(record))
    # Ids differ in their first digits here, as random ones do.
    ids = [f"{number}" * 32 + ".access" for number in range(5)]
    assert numbers(back(telemetry, Wanted(ACCOUNT, client_ids=frozenset({ids[3]})))) == []
    assert opened == []


def test_path_of_a_client_cannot_make_its_event_another_one(telemetry: Telemetry) -> None:
    forged = f'","id":"{client(7)}","why":"service_auth'
    fill(telemetry, line(0, client_id="", reason="no_credentials", path=forged))
    assert numbers(back(telemetry, Wanted(ACCOUNT, client_ids=frozenset({client(7)})))) == []


def test_search_that_takes_too_long_ends_and_can_be_continued(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(telemetry, *(line(number) for number in range(4)))
    monkeypatch.setattr(scan, "SEARCH_SECONDS", -1.0)
    seen, before = [], None
    for _ in range(4):
        found = back(telemetry, before=before)
        assert found.is_cut
        seen += numbers(found)
        before = found.reached
    assert seen == [3, 2, 1, 0]
    assert not back(telemetry, before=before).is_cut
    seen, after = [], START
    for _ in range(4):
        found = on(telemetry, after=after)
        assert found.is_cut
        seen += numbers(found)
        after = found.reached
    assert seen == [0, 1, 2, 3]
    assert not on(telemetry, after=after).is_cut


def test_trimmed_batches_are_gone_and_the_rest_is_found(ten: Telemetry) -> None:
    ten.jobs[0].database.close()
    from foregate.database.sqlite import SqliteDatabase
    from foregate.database.telemetry_schema import RETENTION
    from foregate.eventlog.sql import SqlLog

    database = SqliteDatabase(ten.path, RETENTION)
    with database.write() as connection:
        SqlLog(connection).trim("login-events", max_bytes=0, before=0, limit=2)
    database.close()
    assert numbers(on(ten)) == [4, 5, 6, 7, 8, 9]
    assert numbers(back(ten)) == [9, 8, 7, 6, 5, 4]


def test_empty_log_has_no_events(telemetry: Telemetry) -> None:
    assert (numbers(back(telemetry)), numbers(on(telemetry))) == ([], [])


@pytest.mark.parametrize("cursor", ["", "1", "1.", "-1.2", "1.2.3", "1.x", "9" * 30 + ".1"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ForegateError):
        parse_place(cursor, pointer="?after")


def test_cursor_is_read_back() -> None:
    assert parse_place(str(Place(12, 345)), pointer="?after") == Place(12, 345)
