"""Spool files are read by whole lines, freed as they are acknowledged, and complete once their writer is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foregate.edge.spool import SpoolFile, open_for_worker, workers


def write(folder: Path, worker: str, content: bytes) -> int:
    """A worker's file with `content`; the descriptor that keeps it alive."""
    descriptor = open_for_worker(folder, worker)
    os.write(descriptor, content)
    return descriptor


def test_only_whole_lines_are_read(tmp_path: Path) -> None:
    descriptor = write(tmp_path, "w", b"one\ntwo\nthr")
    file = SpoolFile(tmp_path, "w")
    assert file.read_lines(100) == b"one\ntwo\n"
    assert file.read_lines(7) == b"one\n"
    assert file.read_lines(2) == b"one\n", "a line longer than the bound comes alone"
    os.write(descriptor, b"ee\n")
    assert file.read_lines(100) == b"one\ntwo\nthree\n"


def test_reading_goes_on_from_the_acknowledged_byte_also_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path, "w", b"one\ntwo\nthree\n")
    SpoolFile(tmp_path, "w").acknowledge(4)
    file = SpoolFile(tmp_path, "w")
    assert file.read_lines(100) == b"two\nthree\n"
    file.acknowledge(0)
    assert file.acknowledged == 4, "it never goes back"
    file.acknowledge(1_000)
    assert (file.acknowledged, file.backlog_bytes) == (14, 0)


def test_acknowledged_blocks_are_given_back_and_offsets_stay(tmp_path: Path) -> None:
    line = b"x" * 99 + b"\n"
    descriptor = write(tmp_path, "w", line * 10_000)
    file = SpoolFile(tmp_path, "w")
    file.acknowledge(900_000)
    file.free()
    assert os.stat(file.path).st_blocks * 512 < 150_000
    assert file.size_bytes == 1_000_000
    os.write(descriptor, b"last\n")
    assert file.read_lines(1_000_000) == line * 1_000 + b"last\n"


def test_a_position_lost_in_a_power_cut_is_found_again_behind_the_hole(tmp_path: Path) -> None:
    line = b"x" * 99 + b"\n"
    write(tmp_path, "w", line * 1_000)
    file = SpoolFile(tmp_path, "w")
    file.acknowledge(50_000)
    file.free()
    (tmp_path / "w.ack").unlink()

    file = SpoolFile(tmp_path, "w")
    assert file.read_lines(10)[:1] == b"\0" or file.acknowledged == 0
    file.skip_hole()
    assert file.read_lines(100) == line
    assert 49_000 < file.acknowledged <= 50_000


def test_the_oldest_lines_are_lost_by_whole_lines_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "w", b"one\ntwo\nthree\nfour\n")
    file = SpoolFile(tmp_path, "w")
    lost = file.skip(6)
    assert (lost.size_bytes, lost.lines) == (8, 2)
    assert file.read_lines(100) == b"three\nfour\n"
    lost = file.skip(6)
    assert (lost.size_bytes, lost.lines) == (6, 1), "a bound at a line's end loses no line more"
    lost = file.skip(1_000)
    assert (lost.size_bytes, lost.lines) == (5, 1)


def test_a_file_is_complete_when_its_last_writer_is_gone(tmp_path: Path) -> None:
    descriptor = open_for_worker(tmp_path, "w")
    file = SpoolFile(tmp_path, "w")
    assert not file.is_complete()
    # The worker inherits the descriptor; the agent closes its own, as it would when it dies.
    reads_until_closed = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(reads_until_closed, stdin=subprocess.PIPE, pass_fds=[descriptor]) as child:
        os.close(descriptor)
        assert not file.is_complete()
        child.communicate()
    assert file.is_complete()


def test_a_worker_name_is_used_once(tmp_path: Path) -> None:
    os.close(open_for_worker(tmp_path, "w"))
    with pytest.raises(FileExistsError):
        open_for_worker(tmp_path, "w")
    assert workers(tmp_path) == ["w"]


@pytest.mark.parametrize("name", ["", "../w", "a/b", "a.b", "x" * 65])
def test_a_worker_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="worker"):
        open_for_worker(tmp_path, name)
