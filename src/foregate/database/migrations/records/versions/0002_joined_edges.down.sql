DROP TABLE feed_authority;

DROP TABLE edge_join_tokens;

DROP TABLE edge_certificates;

ALTER TABLE edges RENAME TO edges_of_0002;

CREATE TABLE edges (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    key_digest BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT edge_key_digest_form CHECK (typeof(key_digest) = 'blob' AND length(key_digest) = 32),
    UNIQUE (name)
);

-- An expelled edge's name may have been given again: the one that lives keeps it.
INSERT INTO edges (id, name, key_digest, created_at, revoked_at)
SELECT id, CASE WHEN revoked_at IS NULL THEN name ELSE name || ' ' || id END, key_digest, created_at, revoked_at
FROM edges_of_0002 WHERE key_digest IS NOT NULL;

DROP TABLE edges_of_0002;
