"""The tables of telemetry.db, and the rights of those who open it. The DDL that runs is in `migrations/telemetry`.

The log's topics, what consumers make of them, and their offsets, which change in the same transaction as the result.
Nothing here can authenticate anything: there is no secret and no digest.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, MetaData, Table, Text

from foregate.database.columns import Whole, only_where
from foregate.database.rights import Rights, TableRights

metadata = MetaData()

# How far each topic reaches. `size_bytes` is kept for topics that are trimmed by size.
log_topics = Table(
    "log_topics",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("last_offset", Whole, nullable=False),
    Column("trimmed_offset", Whole, nullable=False),
    Column("size_bytes", Whole, nullable=False),
    CheckConstraint("trimmed_offset <= last_offset", name="trimmed_is_within"),
)

log_records = Table(
    "log_records",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("offset", Whole, primary_key=True),
    Column("key", Text, nullable=False),
    Column("is_tombstone", Whole, nullable=False),
    Column("at", Whole, nullable=False),
    # Last, so that the other columns are read without walking through a big value's pages.
    Column("value", LargeBinary, nullable=False),
    Index("log_records_key", "topic", "key"),
    Index("log_records_tombstones", "topic", "offset", **only_where("is_tombstone = 1")),
)

# `skipped`: records that were trimmed before this consumer read them. `set_aside`: records it cannot take.
consumer_offsets = Table(
    "consumer_offsets",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("offset", Whole, nullable=False),
    Column("skipped", Whole, nullable=False),
    Column("set_aside", Whole, nullable=False),
    Column("updated_at", Whole, nullable=False),
)

# Which records a consumer could not take, and why. The record itself stays in the log until it is trimmed.
poison_records = Table(
    "poison_records",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("offset", Whole, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", Whole, nullable=False),
)

# How far each worker's spool file has been taken in.
spool_positions = Table(
    "spool_positions",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("next_byte", Whole, nullable=False),
    Column("is_final", Whole, nullable=False),
    Column("updated_at", Whole, nullable=False),
)

# Spans of a spool file that were jumped over: lost, unless they still arrive. `end_byte` is the first byte after it.
spool_gaps = Table(
    "spool_gaps",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("first_byte", Whole, primary_key=True),
    Column("end_byte", Whole, nullable=False),
    Column("found_at", Whole, nullable=False),
    CheckConstraint("first_byte < end_byte", name="gap_is_not_empty"),
)

# What arrived of each worker. `written` is HAProxy's own count of the lines it wrote for requests and failed
# connections; what of it is not here is missing. `highest` is its highest request number: of the numbers without a line
# some are open requests, or were cut off with the worker, and some are the agent's own connections.
worker_numbers = Table(
    "worker_numbers",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("highest", Whole, nullable=False),
    Column("written", Whole, nullable=False),
    Column("events", Whole, nullable=False),
    Column("failures", Whole, nullable=False),
    Column("notices", Whole, nullable=False),
    Column("malformed", Whole, nullable=False),
    Column("updated_at", Whole, nullable=False),
)

# Where malformed lines stand: record, byte within its lines, length. Counted whole in `worker_numbers`.
malformed_lines = Table(
    "malformed_lines",
    metadata,
    Column("offset", Whole, primary_key=True),
    Column("first_byte", Whole, primary_key=True),
    Column("size_bytes", Whole, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Whole, nullable=False),
)

last_seen = Table(
    "last_seen",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("seen_at", Whole, nullable=False),
    Column("edge_id", Text, nullable=False),
    sqlite_with_rowid=False,
)

rollups = Table(
    "rollups",
    metadata,
    Column("minute", Whole, primary_key=True),  # Unix minutes
    Column("account_id", Text, primary_key=True),
    Column("app_id", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("events", Whole, nullable=False),
    sqlite_with_rowid=False,
)

# What each run of log records holds, so that a query opens only those that may have what it asks for. `filter` is a
# Bloom filter over client, application and account ids; `reasons` has a bit for each reason seen.
event_blocks = Table(
    "event_blocks",
    metadata,
    Column("first_offset", Whole, primary_key=True),
    Column("last_offset", Whole, nullable=False),
    Column("first_at", Whole, nullable=False),
    Column("last_at", Whole, nullable=False),
    Column("events", Whole, nullable=False),
    Column("raw_bytes", Whole, nullable=False),
    Column("reasons", Whole, nullable=False),
    Column("filter", LargeBinary, nullable=False),
)

# `caught_up_at`: everything that the edge decided before then has been taken in.
edge_states = Table(
    "edge_states",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("applied_seq", Whole, nullable=False),
    Column("caught_up_at", Whole, nullable=False),
    Column("at", Whole, nullable=False),
    Column("report", Text, nullable=False),
)

# Receipts: when an edge said that it had applied everything up to `applied_seq`.
edge_progress = Table(
    "edge_progress",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("applied_seq", Whole, primary_key=True),
    Column("at", Whole, nullable=False),
    sqlite_with_rowid=False,
)

edge_refusals = Table(
    "edge_refusals",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("record_key", Text, primary_key=True),
    Column("seq", Whole, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", Whole, nullable=False),
)

# Which process does what only one may do at a time (`elections.py`). `asked` and `answered` count questions whether
# the holder is there.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", Whole, nullable=False),
    Column("holder", Text, nullable=False),
    Column("taken_at", Whole, nullable=False),
    Column("asked", Whole, nullable=False),
    Column("answered", Whole, nullable=False),
)


def _full(table: Table) -> TableRights:
    return TableRights(may_insert=True, may_delete=True, updatable=_values(table))


def _folded(table: Table) -> TableRights:
    """Insert and update: rows are added and grow, none goes."""
    return TableRights(may_insert=True, updatable=_values(table))


def _values(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.columns if not column.primary_key)


_READ = TableRights()
_APPEND = TableRights(may_insert=True)
_TRIM = TableRights(may_delete=True)

# The API process: takes in batches and reports, appends edge-config, reads what the worker made.
INGEST = Rights(
    "ingest",
    {
        "log_topics": _folded(log_topics),
        "log_records": TableRights(may_insert=True, may_delete=True),
        "spool_positions": _folded(spool_positions),
        "spool_gaps": _full(spool_gaps),
        "edge_states": _folded(edge_states),
        "edge_progress": _APPEND,
        "edge_refusals": _APPEND,
        "leases": _folded(leases),
        "consumer_offsets": _READ,
        "poison_records": _READ,
        "worker_numbers": _READ,
        "malformed_lines": _READ,
        "last_seen": _READ,
        "rollups": _READ,
        "event_blocks": _READ,
    },
)


def _consumer(user: str, tables: dict[str, TableRights]) -> Rights:
    """A consumer reads the log and writes its offset, what it cannot take, and its own result: nothing else."""
    reads = {"log_topics": _READ, "log_records": _READ}
    written = {
        "consumer_offsets": _folded(consumer_offsets),
        "poison_records": _APPEND,
        "leases": _folded(leases),
    }
    return Rights(user, reads | written | tables)


LAST_SEEN_WRITER = _consumer("last seen", {"last_seen": _folded(last_seen)})
ROLLUP_WRITER = _consumer("rollups", {"rollups": _folded(rollups)})
BLOCK_WRITER = _consumer(
    "event blocks",
    {
        "event_blocks": _folded(event_blocks),
        "worker_numbers": _folded(worker_numbers),
        "malformed_lines": _APPEND,
    },
)

# Where the log is Kafka, the worker takes in what edges sent: batches into the log here, reports into their tables.
EVENT_INTAKE = Rights(
    "event intake",
    {
        "log_topics": _folded(log_topics),
        "log_records": TableRights(may_insert=True),
        "spool_positions": _folded(spool_positions),
        "spool_gaps": _full(spool_gaps),
        "leases": _folded(leases),
        "consumer_offsets": _folded(consumer_offsets),
        "poison_records": _APPEND,
    },
)
REPORT_INTAKE = Rights(
    "report intake",
    {
        "edge_states": _folded(edge_states),
        "edge_progress": _APPEND,
        "edge_refusals": _APPEND,
        "leases": _folded(leases),
        "consumer_offsets": _folded(consumer_offsets),
        "poison_records": _APPEND,
    },
)

# Making the index and the counts anew, beside the worker whose consumers go on with them.
REBUILD = Rights(
    "rebuild",
    {
        "log_topics": _READ,
        "log_records": _READ,
        "consumer_offsets": _READ,
        "rollups": _full(rollups),
        "event_blocks": _full(event_blocks),
        "malformed_lines": TableRights(may_insert=True, may_delete=True),
    },
)

# The worker's housekeeping: drops what is too old or too much, and can add nothing.
RETENTION = Rights(
    "retention",
    {
        "log_topics": TableRights(updatable=frozenset({"trimmed_offset", "size_bytes"})),
        "log_records": _TRIM,
        "leases": _folded(leases),
        "consumer_offsets": _READ,
        "poison_records": _TRIM,
        "spool_positions": _TRIM,
        "spool_gaps": _TRIM,
        "worker_numbers": _TRIM,
        "malformed_lines": _TRIM,
        "rollups": _TRIM,
        "event_blocks": _TRIM,
        "edge_progress": _TRIM,
        "edge_refusals": _TRIM,
    },
)
RIGHTS = (
    INGEST,
    EVENT_INTAKE,
    REPORT_INTAKE,
    LAST_SEEN_WRITER,
    ROLLUP_WRITER,
    BLOCK_WRITER,
    REBUILD,
    RETENTION,
)
