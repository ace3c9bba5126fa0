ALTER TABLE edges DROP CONSTRAINT edges_name_key;
ALTER TABLE edges DROP CONSTRAINT edge_key_digest_form;
ALTER TABLE edges ALTER COLUMN key_digest DROP NOT NULL;
ALTER TABLE edges ADD COLUMN group_name TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE edges ALTER COLUMN group_name DROP DEFAULT;
ALTER TABLE edges ADD COLUMN sealing_key BYTEA;
ALTER TABLE edges ADD COLUMN secrets_mark BYTEA;
ALTER TABLE edges ADD CONSTRAINT edge_shows_itself_in_one_way CHECK ((key_digest IS NULL) <> (sealing_key IS NULL));
ALTER TABLE edges ADD CONSTRAINT edge_key_digest_form CHECK (key_digest IS NULL OR octet_length(key_digest) = 32);
ALTER TABLE edges ADD CONSTRAINT edge_sealing_key_form CHECK (sealing_key IS NULL OR octet_length(sealing_key) = 32);

CREATE UNIQUE INDEX edges_name ON edges (name) WHERE revoked_at IS NULL;

CREATE TABLE edge_certificates (
    fingerprint BYTEA NOT NULL,
    edge_id TEXT COLLATE "C" NOT NULL,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (fingerprint),
    CONSTRAINT edge_certificate_form CHECK (octet_length(fingerprint) = 32),
    FOREIGN KEY(edge_id) REFERENCES edges (id)
);

CREATE INDEX edge_certificates_edge ON edge_certificates (edge_id, issued_at);

CREATE TABLE edge_join_tokens (
    id TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    group_name TEXT COLLATE "C" NOT NULL,
    edge_id TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    used_by BYTEA,
    PRIMARY KEY (id),
    CONSTRAINT edge_join_token_digest_form CHECK (octet_length(digest) = 32),
    CONSTRAINT edge_join_token_used_by_somebody CHECK ((used_at IS NULL) = (used_by IS NULL)),
    FOREIGN KEY(edge_id) REFERENCES edges (id),
    UNIQUE (digest)
);

CREATE TABLE feed_authority (
    id BIGINT NOT NULL,
    certificate TEXT COLLATE "C" NOT NULL,
    private_key BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_feed_authority CHECK (id = 1)
);
