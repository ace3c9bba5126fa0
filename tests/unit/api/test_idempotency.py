"""Kept answers by the clock: how long, for whom, and what a damaged row does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from foregate.api.auth import Permission, Principal
from foregate.api.envelope import Answer
from foregate.api.idempotency import KEPT_FOR, purge, run_once
from foregate.api.operations import Call, Retry
from foregate.core.secrets import Secret
from foregate.database import migrate
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.sqlite import SqliteDatabase

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CALLER = Principal("id", "name", None, frozenset(Permission), True, None, None)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    migrate.upgrade(tmp_path / "records.db", "records")
    database = SqliteDatabase(tmp_path / "records.db", CONTROL_PLANE)
    with database.write() as opened:
        yield opened
    database.close()


class Counter:
    """Work that counts how often it ran."""

    def __init__(self, *, is_kept: bool = True) -> None:
        self.runs = 0
        self.is_kept = is_kept

    def __call__(self, _connection: Connection) -> Answer:
        self.runs += 1
        return Answer({"run": self.runs}, change_seq=self.runs, status=201, is_kept_for_retry=self.is_kept)


def call(
    *, count: int = 0, key: str | None = None, body: bytes = b"{}", bearer: str = "cfat_a", at: datetime = NOW
) -> Call[None, None]:
    retry = Retry(count, key, "POST", "/things", body, Secret(bearer))
    return Call(CALLER, {}, None, None, at, retry)


def run(connection: Connection, work: Counter, made: Call[None, None]) -> tuple[int | None, bool]:
    answer = run_once(connection, made, work, None)
    assert answer.status == 201
    return answer.change_seq, answer.is_replay


def test_retry_gets_the_first_answer_however_often_it_comes(connection: Connection) -> None:
    work = Counter()
    assert run(connection, work, call()) == (1, False)
    assert [run(connection, work, call(count=count)) for count in (1, 2, 3)] == [(1, True)] * 3


def test_retry_whose_first_try_never_came_runs_and_is_kept_itself(connection: Connection) -> None:
    work = Counter()
    assert [run(connection, work, call(count=count)) for count in (1, 2)] == [(1, False), (1, True)]


@pytest.mark.parametrize(
    "other",
    [call(count=1, body=b'{"a":1}'), call(count=1, bearer="cfat_b"), call(count=1, at=NOW + KEPT_FOR)],
    ids=["another body", "another caller", "too late"],
)
def test_retry_of_something_else_runs(connection: Connection, other: Call[None, None]) -> None:
    work = Counter()
    run(connection, work, call())
    assert run(connection, work, other) == (2, False)


def test_first_tries_always_run_and_make_their_retry_ambiguous(connection: Connection) -> None:
    work = Counter()
    assert [run(connection, work, call()) for _ in range(2)] == [(1, False), (2, False)]
    assert run(connection, work, call(count=1)) == (3, False)


def test_first_try_long_ago_is_not_counted(connection: Connection) -> None:
    work = Counter()
    run(connection, work, call())
    later = NOW + KEPT_FOR + timedelta(seconds=1)
    run(connection, work, call(at=later))
    assert run(connection, work, call(count=1, at=later)) == (2, True)


def test_answer_that_is_not_to_be_kept_is_not(connection: Connection) -> None:
    work = Counter(is_kept=False)
    run(connection, work, call())
    assert run(connection, work, call(count=1)) == (2, False)


@pytest.mark.parametrize("column", ["sealed = zeroblob(600)", "sealed = zeroblob(3)"])
def test_damaged_row_is_as_if_there_were_none(connection: Connection, column: str) -> None:
    work = Counter()
    run(connection, work, call())
    connection.exec_driver_sql(f"UPDATE replayable_answers SET {column}")
    assert run(connection, work, call(count=1)) == (2, False)


def test_purge_takes_what_is_over_and_leaves_the_rest(connection: Connection) -> None:
    work = Counter()
    run(connection, work, call())
    run(connection, work, call(body=b"later", at=NOW + timedelta(minutes=1)))
    assert purge(connection, NOW + KEPT_FOR) == 1
    assert run(connection, work, call(body=b"later", count=1, at=NOW + KEPT_FOR)) == (2, True)


def test_error_keeps_nothing(connection: Connection) -> None:
    def fail(_connection: Connection) -> Answer:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_once(connection, call(), fail, None)
    assert run(connection, Counter(), call(count=1)) == (1, False)
