"""Takes batches of wire records into the state: each is judged, what is applied is stored, all in one transaction.

Knows nothing of HTTP, asyncio or engines: the engine's word for a token comes from an injected `token_entry`. Called by
the agent on its state thread, one call at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from foregate.core.records import Record, RecordRefused, open_record
from foregate.edge import wire
from foregate.edge.rollout import (
    Apply,
    Checks,
    Hold,
    Ignore,
    Known,
    Refuse,
    SnapshotLoss,
    claimed_key,
    judge,
    judge_snapshot,
    parse_value,
)
from foregate.edge.state import Note, Row, State, decode

TokenEntry = Callable[[str, wire.TokenValue], str]


@dataclass(slots=True)
class Taken:
    """What a batch changed: tokens by client id (the engine's entry, None: gone), keys of other kinds, and counts.

    `must_recheck`: a token that was known before changed, so nobody may rely on what he remembers of it.
    """

    tokens: dict[str, str | None] = field(default_factory=dict)
    must_recheck: bool = False
    keys: set[str] = field(default_factory=set)
    cursor: int = 0
    applied: int = 0
    ignored: int = 0
    notes: list[Note] = field(default_factory=list)
    holds: int = 0


class Intake:
    """Judges and stores. `checks` may be replaced when the edge's secrets change (then call `retry_held`)."""

    def __init__(self, state: State, checks: Checks, token_entry: TokenEntry) -> None:
        self._state = state
        self._token_entry = token_entry
        self._in_snapshot = False
        self._snapshot_records = 0
        self._cursor_stays = False
        self.checks = checks

    def position(self) -> int:
        """The seq up to which everything is kept."""
        return self._state.number("cursor")

    def take(self, wire_records: Sequence[object]) -> Taken:
        """Judge a batch in order and keep what follows from it. Safe to repeat with the same records."""
        taken = Taken(cursor=self._state.number("cursor"))
        before, tokens = taken.cursor, self._state.number("tokens")
        known = self._known_of(wire_records)
        with self._state.transaction():
            for wire_record in wire_records:
                tokens += self._take_one(wire_record, known, taken)
            if self._in_snapshot and self._cursor_stays:
                taken.cursor = before
            if taken.cursor != before:
                self._state.set_number("cursor", taken.cursor)
            self._keep_tokens(taken, tokens)
            if self._in_snapshot:
                self._state.see(known)
        return taken

    def passed(self, seq: int) -> Taken:
        """What there was up to `seq` and did not come concerns this edge no more than if it had never been."""
        taken = Taken(cursor=self._state.number("cursor"))
        if seq > taken.cursor and not self._in_snapshot:
            taken.cursor = seq
            with self._state.transaction():
                self._state.set_number("cursor", seq)
        return taken

    def revocations(self, wire_records: Sequence[object]) -> dict[str, str | None]:
        """The tokens that these records delete or disable, with their entries, in case nothing can be kept now: a
        revocation is not to wait for a disk. Writes nothing; the records must come again."""
        found: dict[str, str | None] = {}
        known = self._known_of(wire_records)
        for wire_record in wire_records:
            key = claimed_key(wire_record)
            verdict = judge(self.checks, known[key], wire_record)
            if not isinstance(verdict, Apply) or not _is_token(key):
                continue
            known[key] = Known(verdict.record.seq, verdict.value)
            found.pop(verdict.record.name, None)
            match verdict.value:
                case None:
                    found[verdict.record.name] = None
                case wire.TokenValue(is_enabled=False):
                    found[verdict.record.name] = self._token_entry(verdict.record.name, verdict.value)
        return found

    def retry_held(self) -> Taken:
        """Judge the held records again, after what they waited for may have come."""
        return self.take([decode(wire_record) for _, wire_record in self._state.held()])

    def begin_snapshot(self) -> None:
        """From here to `end_snapshot`, remember which keys come. A snapshot that broke off is forgotten."""
        self._state.begin_snapshot()
        self._in_snapshot, self._snapshot_records = True, 0
        # An edge that already holds something must see the whole snapshot to know what to drop; a new one may go on
        # from where it broke off.
        self._cursor_stays = self._state.number("cursor") > 0

    def abandon_snapshot(self) -> None:
        """The connection that a snapshot came on is gone: what comes on the next one is not part of it."""
        self._in_snapshot = False

    def end_snapshot(self, seq: int, records: int | None) -> Taken:
        """Drop what the whole snapshot up to `seq` did not hold, unless `judge_snapshot` holds that back.

        `records`: how many the sender says it sent. A snapshot that was never begun drops nothing.
        """
        taken = Taken(cursor=self._state.number("cursor"))
        if not self._in_snapshot:
            return taken
        self._in_snapshot = False
        tokens = self._state.number("tokens")
        loss = SnapshotLoss(
            sent=records,
            received=self._snapshot_records,
            tokens=tokens,
            missing=sum(1 for key in self._state.unseen(seq) if key.startswith("token/")),
        )
        refusal = judge_snapshot(loss)
        with self._state.transaction():
            if refusal:
                taken.notes.append(Note("", seq, refusal))
                self._state.refuse(taken.notes[0])
            else:
                self._state.drop_refusals("")
                self._drop_unseen(seq, taken)
                self._keep_tokens(taken, tokens - len(taken.tokens))
                taken.cursor = max(taken.cursor, seq)
                self._state.set_number("cursor", taken.cursor)
            self._state.end_snapshot()
        return taken

    def _take_one(self, wire_record: object, known: dict[str, Known | None], taken: Taken) -> int:
        """Returns by how much the number of live tokens changed."""
        self._snapshot_records += 1
        key = claimed_key(wire_record)
        before = known[key]
        match judge(self.checks, before, wire_record):
            case Apply(record, value, warning):
                known[key] = Known(record.seq, value)
                taken.cursor = max(taken.cursor, record.seq)
                taken.applied += 1
                self._store(record, value, taken)
                was_live = before is not None and before.value is not None
                taken.must_recheck |= was_live and _is_token(key)
                if warning:
                    self._note(Note(key, record.seq, warning), taken)
                return (value is not None) - was_live if _is_token(key) else 0
            case Ignore(_, seq):
                taken.cursor = max(taken.cursor, seq)
                taken.ignored += 1
            case Refuse(_, seq, reason, is_authentic):
                taken.cursor = max(taken.cursor, seq) if is_authentic else taken.cursor
                self._note(Note(key, seq, reason), taken)
            case Hold(record, reason):
                taken.cursor = max(taken.cursor, record.seq)
                taken.holds += 1
                self._state.hold(Note(key, record.seq, reason), _encode(record))
        return 0

    def _keep_tokens(self, taken: Taken, count: int) -> None:
        fold = self._state.number("fold")
        if taken.tokens:
            self._state.set_number("tokens", count)
        if fold:  # before the first base map is begun, everything is new and nothing has to be told apart
            self._state.mark_changed(taken.tokens, fold)

    def _known_of(self, wire_records: Sequence[object]) -> dict[str, Known | None]:
        """What is stored of every key that these records claim."""
        known: dict[str, Known | None] = dict.fromkeys(map(claimed_key, wire_records))
        known.update((key, self._known(row)) for key, row in self._state.get_all(known).items())
        return known

    def _known(self, row: Row) -> Known | None:
        if row.wire is None:
            return Known(row.seq, None)
        try:
            record = open_record(self.checks.mac_key, decode(row.wire))
            return Known(row.seq, parse_value(record))
        except RecordRefused:
            # Damaged on our own disk: what comes from the feed is better than that, repeats included.
            return None

    def _store(self, record: Record, value: object, taken: Taken) -> None:
        row = Row(record.key, record.seq, None if record.value is None else _encode(record))
        if _is_token(record.key):
            entry = self._token_entry(record.name, value) if isinstance(value, wire.TokenValue) else None
            self._state.put(row, entry)
            taken.tokens[record.name] = entry
            return
        self._state.keep_fallback(self._state.get(record.key) or Row(record.key, 0, None))
        self._state.put(row)
        taken.keys.add(record.key)

    def _drop_unseen(self, seq: int, taken: Taken) -> None:
        for key in list(self._state.unseen(seq)):
            taken.applied += 1
            if _is_token(key):
                taken.tokens[key[6:]] = None
                taken.must_recheck = True
            else:
                self._state.keep_fallback(self._state.get(key) or Row(key, 0, None))
                taken.keys.add(key)
            self._state.put(Row(key, seq, None))

    def _note(self, note: Note, taken: Taken) -> None:
        taken.notes.append(note)
        self._state.refuse(note)


def _is_token(key: str) -> bool:
    return key.startswith("token/")


def _encode(record: Record) -> bytes:
    return orjson.dumps(record.to_wire())
