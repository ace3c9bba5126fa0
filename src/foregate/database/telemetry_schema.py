"""The tables of telemetry.db, and the rights of those who open it. The DDL that runs is in `migrations/telemetry`.

The log's topics, what consumers make of them, and their offsets, which change in the same transaction as the result.
Nothing here can authenticate anything: there is no secret and no digest.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, Table, Text

from foregate.database.rights import Rights, TableRights

metadata = MetaData()

log_records = Table(
    "log_records",
    metadata,
    Column("offset", Integer, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("at", Integer, nullable=False),
    Index("log_records_topic", "topic", "offset"),
    Index("log_records_key", "topic", "key"),
    sqlite_autoincrement=True,
)

consumer_offsets = Table(
    "consumer_offsets",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("offset", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
)

# How far each worker's spool file has been taken in. A batch that does not start here is a repeat or a loss.
spool_positions = Table(
    "spool_positions",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("next_byte", Integer, nullable=False),
    Column("lost_bytes", Integer, nullable=False),
    Column("is_final", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
)

# Request numbers seen per worker: what is missing below `highest` is a gap, counted and shown.
worker_numbers = Table(
    "worker_numbers",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("highest", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("notices", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("malformed", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
)

last_seen = Table(
    "last_seen",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("seen_at", Integer, nullable=False),
    Column("edge_id", Text, nullable=False),
    sqlite_with_rowid=False,
)

rollups = Table(
    "rollups",
    metadata,
    Column("minute", Integer, primary_key=True),  # Unix minutes
    Column("account_id", Text, primary_key=True),
    Column("app_id", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("events", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# What a batch holds, so that a query for one token or outcome opens only batches that may have it.
event_batches = Table(
    "event_batches",
    metadata,
    Column("offset", Integer, primary_key=True),
    Column("edge_id", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("first_at", Integer, nullable=False),
    Column("last_at", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Index("event_batches_time", "last_at"),
)

edge_states = Table(
    "edge_states",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("applied_seq", Integer, nullable=False),
    Column("report", Text, nullable=False),
    Column("at", Integer, nullable=False),
)

# Receipts: when an edge said that it had applied everything up to `applied_seq`.
edge_progress = Table(
    "edge_progress",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("applied_seq", Integer, primary_key=True),
    Column("at", Integer, nullable=False),
    sqlite_with_rowid=False,
)

edge_refusals = Table(
    "edge_refusals",
    metadata,
    Column("edge_id", Text, primary_key=True),
    Column("record_key", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", Integer, nullable=False),
)


def _full(table: Table) -> TableRights:
    keys = {column.name for column in table.primary_key.columns}
    columns = {column.name for column in table.columns} - keys
    return TableRights(may_insert=True, may_delete=True, updatable=frozenset(columns))


_READ = TableRights()

# The API process: takes in batches and reports, appends edge-config, reads what the worker made.
INGEST = Rights(
    "ingest",
    {
        "log_records": _full(log_records),
        "spool_positions": _full(spool_positions),
        "edge_states": _full(edge_states),
        "edge_progress": _full(edge_progress),
        "edge_refusals": _full(edge_refusals),
        "consumer_offsets": _READ,
        "worker_numbers": _READ,
        "last_seen": _READ,
        "rollups": _READ,
        "event_batches": _READ,
    },
)

# The worker process: consumers and retention.
WORKER = Rights(
    "worker",
    {
        "log_records": TableRights(may_delete=True),
        "consumer_offsets": _full(consumer_offsets),
        "spool_positions": TableRights(may_delete=True),
        "worker_numbers": _full(worker_numbers),
        "last_seen": _full(last_seen),
        "rollups": _full(rollups),
        "event_batches": _full(event_batches),
        "edge_states": _READ,
        "edge_progress": TableRights(may_delete=True),
        "edge_refusals": TableRights(may_delete=True),
    },
)
