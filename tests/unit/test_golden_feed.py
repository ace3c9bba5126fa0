"""Samples of what passes between an edge and its control plane, and of what an edge keeps of it, are read for ever: one
of the two may be older. A sample is never changed; a format that grows gets another one. Their keys were made for
them."""

from __future__ import annotations

import base64
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from foregate.access.events.reports import notes
from foregate.api.parameters import parse_members
from foregate.core.records import open_record
from foregate.edge.feed import parse_report
from foregate.edge.feed_authority import read_request
from foregate.edge.feed_joining import JoinBody, Joined
from foregate.edge.feed_lines import (
    FEED_VERSION,
    Heartbeat,
    Line,
    Passed,
    RecordLine,
    SnapshotBegin,
    SnapshotEnd,
    encode_line,
    parse_line,
)
from foregate.edge.membership import read_membership
from foregate.edge.secrets import EdgeSecrets, open_secrets, open_secrets_with

SAMPLES = Path(__file__).parents[1] / "golden" / "feed"
EDGE_ID = "00000000-0000-4000-8000-0000000000ed"
SECRETS = EdgeSecrets({1: bytes(range(32)), 2: bytes(range(32, 64))}, b"m" * 32, b"s" * 32)


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text())


def lines_of(version: int) -> list[Line]:
    return [parse_line(text) for text in (SAMPLES / f"lines.{version}.ndjson").read_bytes().splitlines()]


def test_lines_of_version_1() -> None:
    first, begin, record, end, last = lines_of(1)
    assert (first, last) == (Heartbeat(0, 1790000000.25), Heartbeat(7, 1790000005.5))
    assert (begin, end) == (SnapshotBegin(7), SnapshotEnd(7, 1))
    assert isinstance(record, RecordLine)
    assert open_record(SECRETS.record_mac_key, record.wire).seq == 7


def test_lines_of_version_2() -> None:
    assert lines_of(2) == [Passed(9)]


@pytest.mark.parametrize("version", range(1, FEED_VERSION + 1))
def test_lines_are_still_written_as_their_samples(version: int) -> None:
    texts = (SAMPLES / f"lines.{version}.ndjson").read_bytes().splitlines(keepends=True)
    for text in texts:
        line = parse_line(text)
        if isinstance(line, SnapshotBegin | SnapshotEnd | Heartbeat | Passed):
            assert encode_line(line) == text


def test_join_request() -> None:
    body = parse_members(JoinBody, sample("join_request.1.json"), noun="member")
    assert (body.name, body.edge_id, len(base64.b64decode(body.sealing_key))) == ("paris", EDGE_ID, 32)
    assert len(read_request(body.request).fingerprint) == 32


def test_join_answer_is_still_written_as_its_sample() -> None:
    found = sample("join_answer.1.json")
    joined = Joined(EDGE_ID, "paris", "eu", found["certificate"], base64.b64decode(found["sealed"]))
    assert joined.to_wire() == found


def test_membership_that_an_edge_keeps_is_whole_and_opens_what_is_sealed_to_it(tmp_path: Path) -> None:
    path = tmp_path / "membership.json"
    shutil.copy(SAMPLES / "membership.1.json", path)
    path.chmod(0o600)
    found = read_membership(path)
    assert found is not None
    assert (found.control_plane, found.name, found.group) == ("https://192.0.2.10:8401", "paris", "eu")
    assert found.expires_at == datetime(2026, 11, 8, tzinfo=UTC)
    assert found.open(base64.b64decode(sample("join_answer.1.json")["sealed"])) == SECRETS
    assert open_secrets_with(base64.b64decode(sample("join_answer.1.json")["sealed"]), EDGE_ID, found.sealing_key)


def test_secrets_under_an_edge_key() -> None:
    sealed = base64.b64decode((SAMPLES / "secrets_under_edge_key.1.txt").read_text())
    assert open_secrets(sealed, EDGE_ID, "fgek_" + "k" * 48) == SECRETS


def test_report() -> None:
    report = parse_report((SAMPLES / "report.1.json").read_bytes())
    assert report["applied_seq"] == 7
    assert [(note.record_key, note.seq, note.reason) for note in notes(report, "refused")] == [
        ("app/x", 6, "malformed name")
    ]


def test_every_sample_is_read_by_a_test() -> None:
    source = Path(__file__).read_text()
    names = {path.name for path in SAMPLES.iterdir()} - {"lines.1.ndjson", "lines.2.ndjson"}
    assert [name for name in names if name not in source] == []
