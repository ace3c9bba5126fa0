"""What the consumers make of events, in the database."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DatabaseError, IntegrityError

from event_lines import ACCOUNT, APP, FAILURE, NOON_MICROS, NOTICE, Telemetry, batch, client, later, line
from foregate.access.events.store import WorkerState, workers
from foregate.database.rights import Rights
from foregate.database.sqlite import SqliteDatabase
from foregate.database.telemetry_schema import BLOCK_WRITER, LAST_SEEN_WRITER, RETENTION, ROLLUP_WRITER, metadata

MINUTE = NOON_MICROS // 60_000_000


def test_last_seen_is_the_latest_use(telemetry: Telemetry) -> None:
    lines = line(0, second=5) + line(1, second=9) + line(2, second=7) + line(3, second=3, client_id=client(2))
    telemetry.take(batch(lines), now=later(10))
    telemetry.consume()
    assert telemetry.last_seen() == {client(1): 9.0, client(2): 3.0}


def test_last_seen_never_goes_back(telemetry: Telemetry) -> None:
    for worker, second in (("w1", 8.0), ("w2", 2.0)):
        telemetry.take(batch(line(second=second), worker=worker), now=later(10))
        telemetry.consume()
        assert telemetry.last_seen() == {client(1): 8.0}


def test_database_itself_refuses_to_let_last_seen_go_back(telemetry: Telemetry) -> None:
    telemetry.take(batch(line()))
    telemetry.consume()
    with telemetry.jobs[0].database.write() as connection, pytest.raises(IntegrityError, match="never goes back"):
        connection.exec_driver_sql("UPDATE last_seen SET seen_at = seen_at - 1")


def test_database_itself_refuses_to_let_last_seen_be_replaced(telemetry: Telemetry) -> None:
    telemetry.take(batch(line()))
    telemetry.consume()
    with telemetry.jobs[0].database.write() as connection, pytest.raises(IntegrityError, match="is kept"):
        connection.exec_driver_sql("INSERT OR REPLACE INTO last_seen SELECT client_id, 1, edge_id FROM last_seen")


def test_use_is_never_later_than_its_arrival(telemetry: Telemetry) -> None:
    telemetry.take(
        batch(line(0, second=3600)), batch(line(1, second=1, client_id=client(2)), worker="w2"), now=later(2)
    )
    telemetry.consume()
    assert telemetry.last_seen() == {client(1): 2.0, client(2): 1.0}


def test_refused_request_is_not_seen(telemetry: Telemetry) -> None:
    telemetry.take(batch(line(reason="secret_mismatch") + line(1, reason="no_policy_matched")))
    telemetry.consume()
    assert telemetry.last_seen() == {}


def test_last_seen_says_which_edge(telemetry: Telemetry) -> None:
    telemetry.take(batch(line(second=1), edge="edge-1"), batch(line(second=2), edge="edge-2"), now=later(5))
    telemetry.consume()
    assert telemetry.rows("SELECT edge_id FROM last_seen") == [("edge-2",)]


def test_two_edges_at_the_same_moment_are_decided_the_same_in_either_order(telemetry: Telemetry) -> None:
    for edge in ("edge-2", "edge-1"):
        telemetry.take(batch(line(), edge=edge))
        telemetry.consume()
    assert telemetry.rows("SELECT edge_id FROM last_seen") == [("edge-2",)]


def test_rollups_count_by_minute_application_and_reason(telemetry: Telemetry) -> None:
    telemetry.take(batch(line(0) + line(1) + line(2, second=60) + line(3, reason="token_unknown")))
    telemetry.take(batch(line(4, second=61), worker="w2"))
    telemetry.consume()
    assert telemetry.rows("SELECT minute, account_id, app_id, reason, events FROM rollups ORDER BY 1, 4") == [
        (MINUTE, ACCOUNT, APP, "service_auth", 2),
        (MINUTE, ACCOUNT, APP, "token_unknown", 1),
        (MINUTE + 1, ACCOUNT, APP, "service_auth", 2),
    ]


def workers_of(telemetry: Telemetry) -> list[WorkerState]:
    with telemetry.ingest.read() as connection:
        return workers(connection, 10)


def test_lines_of_a_worker_are_accounted_for(telemetry: Telemetry) -> None:
    first, second = line(2, count=1) + line(0, count=0), NOTICE + b"{broken\n" + FAILURE + line(12, count=5)
    telemetry.take(batch(first), batch(second, start=len(first), is_final=True))
    telemetry.consume()
    (worker,) = workers_of(telemetry)
    assert (worker.events, worker.failures, worker.notices, worker.malformed) == (3, 1, 1, 1)
    assert (worker.written, worker.highest) == (6, 12)
    # Six lines were written, five arrived; of thirteen numbers six are lines, one is the notice.
    assert (worker.missing, worker.without_line) == (1, 6)


def test_numbers_that_the_agents_own_connections_take_are_not_missing_events(telemetry: Telemetry) -> None:
    telemetry.take(batch(line(0, count=0) + line(90, count=1), is_final=True))
    telemetry.consume()
    (worker,) = workers_of(telemetry)
    assert (worker.missing, worker.without_line) == (0, 89)


def test_worker_that_was_only_heard_of_has_no_numbers(telemetry: Telemetry) -> None:
    telemetry.take(batch(b""))
    (worker,) = workers_of(telemetry)
    assert (worker.highest, worker.written, worker.missing, worker.without_line) == (-1, 0, 0, 0)


def test_malformed_lines_are_pointed_at(telemetry: Telemetry) -> None:
    telemetry.take(batch(line(0) + b"{broken\n"))
    telemetry.consume()
    found = telemetry.rows('SELECT "offset", first_byte, size_bytes, reason FROM malformed_lines')
    assert found == [(1, len(line(0)), 8, "not JSON")]


def test_flood_of_malformed_lines_is_counted_whole_and_pointed_at_in_part(telemetry: Telemetry) -> None:
    telemetry.take(batch(b"{broken\n" * 1000))
    telemetry.consume()
    assert telemetry.rows("SELECT malformed FROM worker_numbers") == [(1000,)]
    assert len(telemetry.rows("SELECT * FROM malformed_lines")) == 20


def test_record_that_is_no_batch_is_set_aside_by_each_consumer_and_stops_none(telemetry: Telemetry) -> None:
    telemetry.take(batch(line(0)))
    with telemetry.ingest.write() as connection:
        connection.exec_driver_sql(
            'INSERT INTO log_records (topic, "offset", key, is_tombstone, at, value) '
            "VALUES ('login-events', 2, 'k', 0, 0, x'00')"
        )
        connection.exec_driver_sql("UPDATE log_topics SET last_offset = 2")
    telemetry.take(batch(line(1, client_id=client(2)), worker="w2"))
    telemetry.consume()
    assert set(telemetry.last_seen()) == {client(1), client(2)}
    assert telemetry.rows('SELECT sum(set_aside), count(*), min("offset") FROM consumer_offsets') == [(3, 3, 3)]
    assert {row[0] for row in telemetry.rows('SELECT "offset" FROM poison_records')} == {2}


def test_small_batches_share_a_block_and_big_ones_do_not(telemetry: Telemetry) -> None:
    start = 0
    for number in range(5):
        telemetry.take(batch(line(number), start=start))
        start += len(line(number))
        telemetry.consume()
    big = b"".join(line(10 + number, client_id=client(9)) for number in range(4096))
    telemetry.take(batch(big, start=start))
    telemetry.consume()
    found = telemetry.rows("SELECT first_offset, last_offset, events FROM event_blocks")
    assert found == [(1, 5, 5), (6, 6, 4096)]


RIGHTS = {"last seen": LAST_SEEN_WRITER, "rollups": ROLLUP_WRITER, "event blocks": BLOCK_WRITER, "retention": RETENTION}
OWN = {
    "last seen": {"last_seen"},
    "rollups": {"rollups"},
    "event blocks": {"event_blocks", "worker_numbers", "malformed_lines"},
    "retention": {"leases"},
}
SHARED = {"consumer_offsets", "poison_records", "leases"}


@pytest.mark.parametrize("user", RIGHTS)
@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_consumer_can_add_and_change_nothing_but_its_own_result(telemetry: Telemetry, user: str, table: str) -> None:
    database = SqliteDatabase(telemetry.path, RIGHTS[user])
    written = OWN[user] | (SHARED if user != "retention" else set())
    first = metadata.tables[table].columns.keys()[0]
    for statement in (f"INSERT INTO {table} DEFAULT VALUES", f'UPDATE {table} SET "{first}" = "{first}"'):
        if table not in written or statement.startswith("UPDATE"):
            with database.write() as connection, pytest.raises(DatabaseError, match=r"not authorized|prohibited"):
                connection.exec_driver_sql(statement)
    database.close()


@pytest.mark.parametrize("user", [user for user in RIGHTS if user != "retention"])
@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_consumer_can_delete_nothing(telemetry: Telemetry, user: str, table: str) -> None:
    database = SqliteDatabase(telemetry.path, RIGHTS[user])
    with database.write() as connection, pytest.raises(DatabaseError, match=r"not authorized|prohibited"):
        connection.exec_driver_sql(f"DELETE FROM {table}")
    database.close()


@pytest.mark.parametrize("rights", RIGHTS.values(), ids=RIGHTS)
@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE 'records.db' AS records",
        "CREATE TABLE other (id)",
        "DROP TABLE last_seen",
        "PRAGMA writable_schema = ON",
        "DROP TRIGGER last_seen_never_goes_back",
        "CREATE TEMP TABLE other (id)",
    ],
)
def test_telemetry_connection_reaches_nothing_else(telemetry: Telemetry, rights: Rights, statement: str) -> None:
    database = SqliteDatabase(telemetry.path, rights)
    with database.read() as connection, pytest.raises(DatabaseError, match=r"not authorized|prohibited"):
        connection.exec_driver_sql(statement)
    database.close()
