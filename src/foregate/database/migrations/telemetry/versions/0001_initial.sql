CREATE TABLE consumer_offsets (
    consumer TEXT NOT NULL,
    topic TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    set_aside INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (consumer, topic)
);

CREATE TABLE edge_progress (
    edge_id TEXT NOT NULL,
    applied_seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, applied_seq)
) WITHOUT ROWID;

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
    caught_up_at INTEGER NOT NULL,
    at INTEGER NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (edge_id)
);

CREATE TABLE event_blocks (
    first_offset INTEGER NOT NULL,
    last_offset INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    events INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    reasons INTEGER NOT NULL,
    filter BLOB NOT NULL,
    PRIMARY KEY (first_offset)
);

CREATE TABLE last_seen (
    client_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    edge_id TEXT NOT NULL,
    PRIMARY KEY (client_id)
) WITHOUT ROWID;

CREATE TABLE log_records (
    topic TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    is_tombstone INTEGER NOT NULL,
    at INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (topic, "offset")
);

CREATE INDEX log_records_key ON log_records (topic, "key");

CREATE INDEX log_records_tombstones ON log_records (topic, "offset") WHERE is_tombstone = 1;

CREATE TABLE log_topics (
    topic TEXT NOT NULL,
    last_offset INTEGER NOT NULL,
    trimmed_offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (topic),
    CONSTRAINT trimmed_is_within CHECK (trimmed_offset <= last_offset)
);

CREATE TABLE malformed_lines (
    "offset" INTEGER NOT NULL,
    first_byte INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY ("offset", first_byte)
);

CREATE TABLE poison_records (
    consumer TEXT NOT NULL,
    topic TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (consumer, topic, "offset")
);

CREATE TABLE rollups (
    minute INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    app_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (minute, account_id, app_id, reason)
) WITHOUT ROWID;

CREATE TABLE spool_gaps (
    edge_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    first_byte INTEGER NOT NULL,
    end_byte INTEGER NOT NULL,
    found_at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, worker, first_byte),
    CONSTRAINT gap_is_not_empty CHECK (first_byte < end_byte)
);

CREATE TABLE spool_positions (
    edge_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    next_byte INTEGER NOT NULL,
    is_final INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, worker)
);

CREATE TABLE worker_numbers (
    edge_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    highest INTEGER NOT NULL,
    written INTEGER NOT NULL,
    events INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    notices INTEGER NOT NULL,
    malformed INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (edge_id, worker)
);

CREATE TRIGGER last_seen_never_goes_back BEFORE UPDATE ON last_seen
WHEN NEW.seen_at < OLD.seen_at OR NEW.client_id <> OLD.client_id
BEGIN SELECT RAISE(ABORT, 'last seen never goes back'); END;

CREATE TRIGGER last_seen_is_kept BEFORE DELETE ON last_seen
BEGIN SELECT RAISE(ABORT, 'last seen is kept'); END;

CREATE TRIGGER consumer_offsets_grow BEFORE UPDATE ON consumer_offsets
WHEN NEW."offset" < OLD."offset"
BEGIN SELECT RAISE(ABORT, 'a consumer never goes back'); END;
