-- SQLite cannot take a NOT NULL or a UNIQUE back, so the table is made anew (sqlite.org/lang_altertable.html).
ALTER TABLE edges RENAME TO edges_of_0001;

CREATE TABLE edges (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL,
    key_digest BLOB,
    sealing_key BLOB,
    secrets_mark BLOB,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT edge_shows_itself_in_one_way CHECK ((key_digest IS NULL) <> (sealing_key IS NULL)),
    CONSTRAINT edge_key_digest_form CHECK (key_digest IS NULL OR (typeof(key_digest) = 'blob' AND length(key_digest) = 32)),
    CONSTRAINT edge_sealing_key_form CHECK (sealing_key IS NULL OR (typeof(sealing_key) = 'blob' AND length(sealing_key) = 32))
);

INSERT INTO edges (id, name, group_name, key_digest, created_at, revoked_at)
SELECT id, name, '', key_digest, created_at, revoked_at FROM edges_of_0001;

DROP TABLE edges_of_0001;

CREATE UNIQUE INDEX edges_name ON edges (name) WHERE revoked_at IS NULL;

CREATE TABLE edge_certificates (
    fingerprint BLOB NOT NULL,
    edge_id TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (fingerprint),
    CONSTRAINT edge_certificate_form CHECK (typeof(fingerprint) = 'blob' AND length(fingerprint) = 32),
    FOREIGN KEY(edge_id) REFERENCES edges (id)
);

CREATE INDEX edge_certificates_edge ON edge_certificates (edge_id, issued_at);

CREATE TABLE edge_join_tokens (
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    group_name TEXT NOT NULL,
    edge_id TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    used_by BLOB,
    PRIMARY KEY (id),
    CONSTRAINT edge_join_token_digest_form CHECK (typeof(digest) = 'blob' AND length(digest) = 32),
    CONSTRAINT edge_join_token_used_by_somebody CHECK ((used_at IS NULL) = (used_by IS NULL)),
    FOREIGN KEY(edge_id) REFERENCES edges (id),
    UNIQUE (digest)
);

CREATE TABLE feed_authority (
    id INTEGER NOT NULL,
    certificate TEXT NOT NULL,
    private_key BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_feed_authority CHECK (id = 1)
);
