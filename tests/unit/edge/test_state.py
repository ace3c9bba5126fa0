"""The state on disk survives what may happen to a process and a disk, and never holds all tokens in memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from foregate.edge.state import Note, Row, State, StateDamaged


def test_rows_and_cursor_are_there_after_reopening(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with state.transaction():
        state.put(Row("token/a", 1, b"{}"), "entry a")
        state.put(Row("token/b", 2, None))
        state.put(Row("app/x", 3, b'{"x":1}'))
        state.set_number("cursor", 3)
    state.close()

    state = State(tmp_path / "state.db")
    assert state.number("cursor") == 3
    assert state.get("token/b") == Row("token/b", 2, None)
    assert list(state.rows("app")) == [Row("app/x", 3, b'{"x":1}')]
    assert list(state.token_entries()) == [("a", "entry a")]
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0


def test_an_error_in_a_transaction_keeps_nothing_of_it(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with pytest.raises(RuntimeError), state.transaction():
        state.put(Row("token/a", 1, b"{}"))
        raise RuntimeError
    assert state.get("token/a") is None


def test_a_damaged_entry_is_told_from_a_whole_one(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with state.transaction():
        state.put(Row("token/a", 1, b"{}"), "digest")
        state.put(Row("token/b", 2, b"{}"), "digest")
        state._connection.execute("UPDATE records SET entry = 'digesT' WHERE key = 'token/a'")
    assert list(state.token_entries()) == [("a", None), ("b", "digest")]


def test_many_rows_stream_in_pages_while_others_are_written(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with state.transaction():
        for index in range(5_000):
            state.put(Row(f"token/{index:05}", index + 1, b"{}"), "e")
    seen = []
    for client_id, _ in state.token_entries():
        if client_id == "00010":
            with state.transaction():
                state.put(Row("token/99999", 9_999, b"{}"), "e")
        seen.append(client_id)
    assert len(seen) == 5_001


def test_refusals_are_bounded_and_end_with_a_newer_record(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with state.transaction():
        for seq in range(1, 301):
            state.refuse(Note(f"token/{seq}", seq, "the MAC does not fit"))
    assert len(state.refused()) == 200
    with state.transaction():
        state.put(Row("token/300", 301, b"{}"), "e")
    assert Note("token/300", 300, "the MAC does not fit") not in state.refused()


def test_the_first_fallback_stays_until_the_engine_accepts(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with state.transaction():
        state.keep_fallback(Row("app/x", 1, b"good"))
        state.keep_fallback(Row("app/x", 2, b"never accepted"))
    assert state.fallbacks() == [Row("app/x", 1, b"good")]
    with state.transaction():
        state.drop_fallbacks(["app/x"])
    assert state.fallbacks() == []


@pytest.mark.parametrize(
    "content",
    [b"this is no database at all, whatever its name says" * 100, b"SQLite format 3\0" + b"\xff" * 5_000],
    ids=["text", "torn header"],
)
def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.db").write_bytes(content)
    with pytest.raises(StateDamaged):
        State(tmp_path / "state.db")


def test_damage_inside_is_noticed_when_it_is_met(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state = State(path)
    with state.transaction():
        for index in range(2_000):
            state.put(Row(f"token/{index:05}", 1, b"x" * 300), "e")
    state.close()
    content = bytearray(path.read_bytes())
    for place in range(40_000, len(content), 4_096):
        content[place : place + 2_000] = b"\xff" * 2_000
    path.write_bytes(content)

    state = State(path)
    with pytest.raises(StateDamaged):
        list(state.token_entries())


WRITER = """
    import sys
    from pathlib import Path
    from foregate.edge.state import Row, State
    state = State(Path(sys.argv[1]))
    seq = state.number("cursor")
    while True:
        with state.transaction():
            for _ in range(20):
                seq += 1
                state.put(Row(f"token/{seq % 50}", seq, b"{}"), f"entry {seq}")
            state.set_number("cursor", seq)
        print(seq, flush=True)
"""


def test_a_kill_at_any_moment_leaves_rows_and_cursor_that_agree(tmp_path: Path) -> None:
    path, reported = tmp_path / "state.db", 0
    for round_ in range(5):
        program = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(round_ + 1):
                reported = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        state = State(path)
        cursor = state.number("cursor")
        assert cursor >= reported
        assert cursor % 20 == 0
        rows = {row.key: row.seq for row in state.rows("token")}
        assert max(rows.values()) == cursor
        for key, entry in state.token_entries():
            assert entry == f"entry {rows[f'token/{key}']}"
        state.close()
