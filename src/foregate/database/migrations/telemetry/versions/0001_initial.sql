CREATE TABLE consumer_offsets (
    consumer TEXT NOT NULL,
    topic TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (consumer, topic)
);

CREATE TABLE edge_progress (
    edge_id TEXT NOT NULL,
    applied_seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, applied_seq)
)
 WITHOUT ROWID;

CREATE TABLE edge_refusals (
    edge_id TEXT NOT NULL,
    record_key TEXT NOT NULL,
    seq INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, record_key, seq)
);

CREATE TABLE edge_states (
    edge_id TEXT NOT NULL,
    applied_seq INTEGER NOT NULL,
    report TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (edge_id)
);

CREATE TABLE event_batches (
    "offset" INTEGER NOT NULL,
    edge_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    events INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY ("offset")
);

CREATE INDEX event_batches_time ON event_batches (last_at);

CREATE TABLE last_seen (
    client_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    edge_id TEXT NOT NULL,
    PRIMARY KEY (client_id)
)
 WITHOUT ROWID;

CREATE TABLE log_records (
    "offset" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    "key" TEXT NOT NULL,
    value BLOB NOT NULL,
    at INTEGER NOT NULL
);

CREATE INDEX log_records_key ON log_records (topic, "key");

CREATE INDEX log_records_topic ON log_records (topic, "offset");

CREATE TABLE rollups (
    minute INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    app_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (minute, account_id, app_id, reason)
)
 WITHOUT ROWID;

CREATE TABLE spool_positions (
    edge_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    next_byte INTEGER NOT NULL,
    lost_bytes INTEGER NOT NULL,
    is_final INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, worker)
);

CREATE TABLE worker_numbers (
    edge_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    highest INTEGER NOT NULL,
    events INTEGER NOT NULL,
    notices INTEGER NOT NULL,
    missing INTEGER NOT NULL,
    malformed INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, worker)
);
