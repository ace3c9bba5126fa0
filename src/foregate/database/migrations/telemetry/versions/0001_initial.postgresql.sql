CREATE TABLE consumer_offsets (
    consumer TEXT COLLATE "C" NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    "offset" BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    set_aside BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (consumer, topic)
);

CREATE TABLE edge_progress (
    edge_id TEXT COLLATE "C" NOT NULL,
    applied_seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (edge_id, applied_seq)
);

CREATE TABLE edge_refusals (
    edge_id TEXT COLLATE "C" NOT NULL,
    record_key TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (edge_id, record_key, seq)
);

CREATE TABLE edge_states (
    edge_id TEXT COLLATE "C" NOT NULL,
    applied_seq BIGINT NOT NULL,
    caught_up_at BIGINT NOT NULL,
    at BIGINT NOT NULL,
    report TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (edge_id)
);

CREATE TABLE event_blocks (
    first_offset BIGINT NOT NULL,
    last_offset BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    events BIGINT NOT NULL,
    raw_bytes BIGINT NOT NULL,
    reasons BIGINT NOT NULL,
    filter BYTEA NOT NULL,
    PRIMARY KEY (first_offset)
);

CREATE TABLE last_seen (
    client_id TEXT COLLATE "C" NOT NULL,
    seen_at BIGINT NOT NULL,
    edge_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (client_id)
);

CREATE TABLE log_records (
    topic TEXT COLLATE "C" NOT NULL,
    "offset" BIGINT NOT NULL,
    "key" TEXT COLLATE "C" NOT NULL,
    is_tombstone BIGINT NOT NULL,
    at BIGINT NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY (topic, "offset")
);

CREATE INDEX log_records_key ON log_records (topic, "key");

CREATE INDEX log_records_tombstones ON log_records (topic, "offset") WHERE is_tombstone = 1;

CREATE TABLE log_topics (
    topic TEXT COLLATE "C" NOT NULL,
    last_offset BIGINT NOT NULL,
    trimmed_offset BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    PRIMARY KEY (topic),
    CONSTRAINT trimmed_is_within CHECK (trimmed_offset <= last_offset)
);

CREATE TABLE malformed_lines (
    "offset" BIGINT NOT NULL,
    first_byte BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY ("offset", first_byte)
);

CREATE TABLE poison_records (
    consumer TEXT COLLATE "C" NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    "offset" BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (consumer, topic, "offset")
);

CREATE TABLE rollups (
    minute BIGINT NOT NULL,
    account_id TEXT COLLATE "C" NOT NULL,
    app_id TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    events BIGINT NOT NULL,
    PRIMARY KEY (minute, account_id, app_id, reason)
);

CREATE TABLE spool_gaps (
    edge_id TEXT COLLATE "C" NOT NULL,
    worker TEXT COLLATE "C" NOT NULL,
    first_byte BIGINT NOT NULL,
    end_byte BIGINT NOT NULL,
    found_at BIGINT NOT NULL,
    PRIMARY KEY (edge_id, worker, first_byte),
    CONSTRAINT gap_is_not_empty CHECK (first_byte < end_byte)
);

CREATE TABLE spool_positions (
    edge_id TEXT COLLATE "C" NOT NULL,
    worker TEXT COLLATE "C" NOT NULL,
    next_byte BIGINT NOT NULL,
    is_final BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (edge_id, worker)
);

CREATE TABLE worker_numbers (
    edge_id TEXT COLLATE "C" NOT NULL,
    worker TEXT COLLATE "C" NOT NULL,
    highest BIGINT NOT NULL,
    written BIGINT NOT NULL,
    events BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    notices BIGINT NOT NULL,
    malformed BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (edge_id, worker)
);

-- A rule that a trigger keeps: its sentence is the trigger's argument.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER last_seen_never_goes_back BEFORE UPDATE ON last_seen FOR EACH ROW
WHEN (NEW.seen_at < OLD.seen_at OR NEW.client_id <> OLD.client_id)
EXECUTE FUNCTION refuse('last seen never goes back');

CREATE TRIGGER last_seen_is_kept BEFORE DELETE ON last_seen
FOR EACH ROW EXECUTE FUNCTION refuse('last seen is kept');

CREATE TRIGGER last_seen_no_truncate BEFORE TRUNCATE ON last_seen
FOR EACH STATEMENT EXECUTE FUNCTION refuse('last seen is kept');

CREATE TRIGGER consumer_offsets_grow BEFORE UPDATE ON consumer_offsets FOR EACH ROW
WHEN (NEW."offset" < OLD."offset") EXECUTE FUNCTION refuse('a consumer never goes back');
