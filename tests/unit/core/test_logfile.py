"""A log that processes append to stays within its bound, and they go on."""

from __future__ import annotations

from pathlib import Path

from foregate.core.logfile import bound


def test_a_long_log_is_kept_once_and_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"first\n" * 100)
        bound(path, 100)
        assert path.stat().st_size == 0
        writer.write(b"next\n")
    assert path.read_bytes() == b"next\n"
    old = tmp_path / "haproxy.old.log"
    assert old.read_bytes() == b"first\n" * 100
    assert old.stat().st_mode & 0o777 == 0o600


def test_a_short_log_and_a_missing_one_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.log"
    bound(path, 100)
    path.write_bytes(b"short\n")
    bound(path, 100)
    assert [entry.name for entry in tmp_path.iterdir()] == ["haproxy.log"]
    assert path.read_bytes() == b"short\n"
