"""Batches from the feed are judged and kept together with the position they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foregate.core.records import seal
from foregate.edge import wire
from foregate.edge.intake import Intake
from foregate.edge.rollout import Checks
from foregate.edge.state import Note, Row, State

MAC_KEY = bytes(32)
CHECKS = Checks(MAC_KEY, frozenset({1}), lambda _: None)


def client(index: int) -> str:
    return f"{index:032x}.access"


def token(index: int, seq: int, digest: str = "a", *, enabled: bool = True, pepper: int = 1) -> dict[str, Any]:
    secret = wire.SecretVersion(1, digest * 64, pepper, None)
    value = wire.TokenValue(f"t{index}", "a" * 32, enabled, None, (secret,))
    return seal(MAC_KEY, f"token/{client(index)}", seq, value.to_wire()).to_wire()


def account(seq: int, domain: str = "auth.example.com") -> dict[str, Any]:
    return seal(MAC_KEY, "account/a", seq, wire.AccountValue(domain, True, ()).to_wire()).to_wire()


def gone(key: str, seq: int) -> dict[str, Any]:
    return seal(MAC_KEY, key, seq, None).to_wire()


def entry(_: str, value: wire.TokenValue) -> str:
    return f"{value.secrets[0].digest[0]} {int(value.is_enabled)}"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.db")


@pytest.fixture
def intake(state: State) -> Intake:
    return Intake(state, CHECKS, entry)


def test_a_batch_tells_what_changed(intake: Intake, state: State) -> None:
    taken = intake.take([token(1, 1), account(2), token(2, 3), gone(f"token/{client(1)}", 4)])
    assert taken.tokens == {client(1): None, client(2): "a 1"}
    assert taken.keys == {"account/a"}
    assert (taken.cursor, taken.applied) == (4, 4)
    assert (state.number("cursor"), state.number("tokens")) == (4, 1)
    assert list(state.token_entries()) == [(client(2), "a 1")]


def test_repeats_change_nothing(intake: Intake, state: State) -> None:
    batch = [token(1, 1), account(2), gone(f"token/{client(1)}", 3)]
    intake.take(batch)
    taken = intake.take(batch)
    assert (taken.tokens, taken.keys, taken.ignored) == ({}, set(), 3)
    assert state.number("tokens") == 0


def test_a_refused_record_leaves_the_good_state_and_the_batch_goes_on(intake: Intake, state: State) -> None:
    intake.take([token(1, 1)])
    taken = intake.take([token(1, 2, "b"), token(2, 3)])
    assert taken.tokens == {client(2): "a 1"}
    note = Note(f"token/{client(1)}", 2, "the digest of secret version 1 changed")
    assert taken.notes == [note]
    assert state.refused() == [note]
    assert dict(state.token_entries())[client(1)] == "a 1"
    assert state.number("cursor") == 3


def test_a_forged_record_does_not_move_the_cursor(intake: Intake, state: State) -> None:
    forged = {**token(1, 1), "seq": 2**62}
    taken = intake.take([forged, token(2, 5), "junk", None])
    assert [note.reason for note in taken.notes] == ["the MAC does not fit"] + ["a record is a JSON object"] * 2
    assert state.number("cursor") == 5


def test_a_held_record_is_applied_once_its_cause_is_gone(intake: Intake, state: State) -> None:
    intake.take([token(1, 1)])
    taken = intake.take([token(2, 2, pepper=7)])
    assert (taken.holds, taken.tokens, taken.cursor) == (1, {}, 2)
    assert [note.reason for note, _ in state.held()] == ["pepper 7 is not here yet"]

    intake.checks = replace(CHECKS, pepper_versions=frozenset({1, 7}))
    taken = intake.retry_held()
    assert taken.tokens == {client(2): "a 1"}
    assert state.held() == []


def test_a_revocation_ends_what_was_held(intake: Intake, state: State) -> None:
    intake.take([token(2, 2, pepper=7)])
    intake.take([gone(f"token/{client(2)}", 3)])
    assert state.held() == []


def test_a_row_damaged_on_disk_is_replaced_by_the_next_record(intake: Intake, state: State) -> None:
    intake.take([token(1, 1)])
    with state.transaction():
        state.put(Row(f"token/{client(1)}", 1, token(1, 1)["mac"].encode()))
    taken = intake.take([token(1, 2, "b")])
    assert taken.tokens == {client(1): "b 1"}


def test_what_the_engine_accepted_last_is_kept_until_it_accepts_the_next(intake: Intake, state: State) -> None:
    intake.take([account(1)])
    with state.transaction():
        state.drop_fallbacks(["account/a"])
    intake.take([account(2, "second.example.com")])
    intake.take([account(3, "third.example.com")])
    [row] = state.fallbacks()
    assert (row.seq, b"auth.example.com" in (row.wire or b"")) == (1, True)


def snapshot(intake: Intake, seq: int, *records: dict[str, Any], sent: int | None = None) -> Any:
    intake.begin_snapshot()
    intake.take(records)
    return intake.end_snapshot(seq, len(records) if sent is None else sent)


def test_a_snapshot_drops_what_it_does_not_hold(intake: Intake, state: State) -> None:
    intake.take([token(1, 1), token(2, 2), account(3)])
    taken = snapshot(intake, 5, token(2, 2), token(3, 5))
    assert taken.tokens == {client(1): None}
    assert taken.keys == {"account/a"}
    assert [client_id for client_id, _ in state.token_entries()] == [client(2), client(3)]
    assert (state.number("cursor"), state.number("tokens")) == (5, 2)
    assert intake.take([token(1, 1)]).ignored == 1, "it stays gone"


def test_a_snapshot_that_came_in_part_drops_nothing(intake: Intake, state: State) -> None:
    intake.take([token(1, 1), token(2, 2)])
    taken = snapshot(intake, 5, token(2, 2), sent=2)
    assert taken.tokens == {}
    assert "1 of 2 records came" in taken.notes[0].reason
    assert state.number("tokens") == 2


def test_a_snapshot_without_many_tokens_is_held_back(intake: Intake, state: State) -> None:
    intake.take([token(index, index) for index in range(1, 101)])
    taken = snapshot(intake, 200, token(1, 1))
    assert taken.tokens == {}
    assert "leaves out 99 of 100 tokens" in taken.notes[0].reason
    assert state.number("tokens") == 100


def test_many_explicit_revocations_are_not_held_back(intake: Intake, state: State) -> None:
    intake.take([token(index, index) for index in range(1, 101)])
    revocations = [gone(f"token/{client(index)}", 100 + index) for index in range(1, 101)]
    snapshot(intake, 200, *revocations)
    assert state.number("tokens") == 0


def test_a_snapshot_that_broke_off_is_begun_again(intake: Intake, state: State) -> None:
    intake.take([token(1, 1), token(2, 2)])
    intake.begin_snapshot()
    intake.take([token(3, 9)])
    assert state.number("cursor") == 2, "the cursor waits for the end, or the rest would never be asked for"
    taken = snapshot(intake, 9, token(2, 2), token(3, 9))
    assert taken.tokens == {client(1): None}
    assert state.number("cursor") == 9


def test_a_new_edge_goes_on_where_its_snapshot_broke_off(intake: Intake, state: State) -> None:
    intake.begin_snapshot()
    intake.take([token(1, 1), token(2, 2)])
    assert state.number("cursor") == 2
    intake.abandon_snapshot()
    intake.take([token(3, 3)])
    assert (state.number("cursor"), state.number("tokens")) == (3, 3)


def test_an_end_without_a_beginning_drops_nothing(intake: Intake, state: State) -> None:
    intake.take([token(1, 1)])
    assert intake.end_snapshot(9, 0).tokens == {}
    assert state.number("tokens") == 1


def test_revocations_are_known_even_where_nothing_can_be_kept(intake: Intake, state: State) -> None:
    intake.take([token(1, 1), token(2, 2), token(3, 3)])
    records = [
        gone(f"token/{client(1)}", 4),
        token(2, 5, enabled=False),
        token(4, 6),
        token(5, 7, enabled=False),
        token(5, 8),
        gone("app/x", 9),
        {**gone(f"token/{client(3)}", 10), "mac": "0" * 64},
    ]
    assert intake.revocations(records) == {client(1): None, client(2): "a 0"}
    assert state.number("cursor") == 3
    assert len(list(state.token_entries())) == 3
