CREATE TABLE accounts (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE audit (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account_id TEXT,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    change_seq INTEGER,
    at INTEGER NOT NULL
);

CREATE INDEX audit_account ON audit (account_id, id);

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

CREATE TABLE outbox (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    record_key TEXT NOT NULL,
    enqueued_at INTEGER NOT NULL,
    published_at INTEGER
);

CREATE INDEX outbox_unpublished ON outbox (published_at, seq);

CREATE TABLE replayable_answers (
    fingerprint BLOB NOT NULL,
    first_tries INTEGER NOT NULL,
    status INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (fingerprint)
);

CREATE INDEX replayable_answers_expiry ON replayable_answers (expires_at);

CREATE TABLE rule_references (
    referrer_kind TEXT NOT NULL,
    referrer_id TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id TEXT NOT NULL,
    PRIMARY KEY (referrer_kind, referrer_id, target_kind, target_id)
);

CREATE INDEX rule_references_target ON rule_references (target_kind, target_id);

CREATE TABLE api_tokens (
    id TEXT NOT NULL,
    account_id TEXT,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    permissions TEXT NOT NULL,
    status TEXT NOT NULL,
    not_before INTEGER,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT api_token_digest_form CHECK (typeof(digest) = 'blob' AND length(digest) = 32),
    CONSTRAINT api_token_status CHECK (status IN ('active', 'disabled')),
    FOREIGN KEY(account_id) REFERENCES accounts (id),
    UNIQUE (digest)
);

CREATE TABLE applications (
    id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    aud TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(account_id) REFERENCES accounts (id),
    UNIQUE (aud)
);

CREATE INDEX applications_account ON applications (account_id, created_at, id);

CREATE TABLE groups (
    id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

CREATE INDEX groups_account ON groups (account_id, created_at, id);

CREATE TABLE history (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL,
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

CREATE INDEX history_entity ON history (kind, entity_id, id);

CREATE TABLE key_settings (
    account_id TEXT NOT NULL,
    rotation_interval_days INTEGER NOT NULL,
    last_rotated_at INTEGER NOT NULL,
    PRIMARY KEY (account_id),
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

CREATE TABLE organizations (
    account_id TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (account_id),
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

CREATE TABLE service_tokens (
    id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    name TEXT NOT NULL,
    duration TEXT NOT NULL,
    is_enabled INTEGER NOT NULL,
    expires_at INTEGER,
    secret_version INTEGER NOT NULL,
    previous_secret_version INTEGER,
    previous_secret_expires_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT client_id_form CHECK (length(client_id) = 39 AND client_id GLOB '*.access'),
    CONSTRAINT is_enabled_form CHECK (is_enabled IN (0, 1)),
    CONSTRAINT previous_secret_has_an_end CHECK ((previous_secret_version IS NULL) = (previous_secret_expires_at IS NULL)),
    FOREIGN KEY(account_id) REFERENCES accounts (id),
    UNIQUE (client_id)
);

CREATE INDEX service_tokens_account ON service_tokens (account_id, created_at, id) WHERE deleted_at IS NULL;

CREATE INDEX service_tokens_name ON service_tokens (account_id, name, created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE signing_keys (
    kid TEXT NOT NULL,
    account_id TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    certificate TEXT NOT NULL,
    private_key BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    retires_at INTEGER,
    PRIMARY KEY (kid),
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

CREATE INDEX signing_keys_account ON signing_keys (account_id, created_at);

CREATE TABLE tunnels (
    id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    config_src TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

CREATE INDEX tunnels_account ON tunnels (account_id, created_at, id);

CREATE TABLE application_patterns (
    pattern TEXT NOT NULL,
    application_id TEXT NOT NULL,
    PRIMARY KEY (pattern),
    FOREIGN KEY(application_id) REFERENCES applications (id) ON DELETE CASCADE
);

CREATE INDEX application_patterns_application ON application_patterns (application_id);

CREATE TABLE ingress_hostnames (
    hostname TEXT NOT NULL,
    tunnel_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    PRIMARY KEY (hostname),
    FOREIGN KEY(tunnel_id) REFERENCES tunnels (id),
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

CREATE INDEX ingress_hostnames_tunnel ON ingress_hostnames (tunnel_id);

CREATE TABLE policies (
    id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    application_id TEXT,
    name TEXT NOT NULL,
    decision TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(account_id) REFERENCES accounts (id),
    FOREIGN KEY(application_id) REFERENCES applications (id) ON DELETE CASCADE
);

CREATE INDEX policies_account ON policies (account_id, created_at, id);

CREATE TABLE secret_versions (
    token_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL,
    pepper_version INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    PRIMARY KEY (token_id, version),
    CONSTRAINT digest_form CHECK (typeof(digest) = 'blob' AND length(digest) = 32),
    CONSTRAINT versions_start_at_one CHECK (version >= 1 AND pepper_version >= 1),
    FOREIGN KEY(token_id) REFERENCES service_tokens (id)
)
 WITHOUT ROWID;

CREATE TABLE tunnel_configurations (
    tunnel_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    config TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tunnel_id),
    FOREIGN KEY(tunnel_id) REFERENCES tunnels (id)
);

CREATE TABLE application_policies (
    application_id TEXT NOT NULL,
    policy_id TEXT NOT NULL,
    precedence INTEGER NOT NULL,
    PRIMARY KEY (application_id, policy_id),
    CONSTRAINT application_precedence UNIQUE (application_id, precedence),
    FOREIGN KEY(application_id) REFERENCES applications (id) ON DELETE CASCADE,
    FOREIGN KEY(policy_id) REFERENCES policies (id)
);

CREATE INDEX application_policies_policy ON application_policies (policy_id);

CREATE TRIGGER secret_versions_no_update BEFORE UPDATE ON secret_versions
BEGIN SELECT RAISE(ABORT, 'secret versions are append-only'); END;

CREATE TRIGGER secret_versions_no_delete BEFORE DELETE ON secret_versions
BEGIN SELECT RAISE(ABORT, 'secret versions are append-only'); END;

CREATE TRIGGER service_tokens_fixed BEFORE UPDATE OF id, account_id, client_id, created_at ON service_tokens
BEGIN SELECT RAISE(ABORT, 'a token keeps its id, account and client id'); END;

CREATE TRIGGER service_tokens_no_delete BEFORE DELETE ON service_tokens
BEGIN SELECT RAISE(ABORT, 'a deleted token stays as a tombstone'); END;

CREATE TRIGGER service_tokens_stay_deleted BEFORE UPDATE ON service_tokens WHEN OLD.deleted_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a deleted token stays deleted'); END;

CREATE TRIGGER service_tokens_version_grows BEFORE UPDATE OF secret_version ON service_tokens
WHEN NEW.secret_version < OLD.secret_version
BEGIN SELECT RAISE(ABORT, 'secret versions only grow'); END;

CREATE TRIGGER history_no_update BEFORE UPDATE ON history
BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

CREATE TRIGGER history_no_delete BEFORE DELETE ON history
BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

-- INSERT OR REPLACE deletes a row without firing its delete triggers (sqlite.org/lang_conflict.html).
CREATE TRIGGER secret_versions_no_replace BEFORE INSERT ON secret_versions WHEN EXISTS (SELECT 1 FROM secret_versions WHERE token_id = NEW.token_id AND version = NEW.version)
BEGIN SELECT RAISE(ABORT, 'secret versions are append-only'); END;

CREATE TRIGGER service_tokens_no_replace BEFORE INSERT ON service_tokens WHEN EXISTS (SELECT 1 FROM service_tokens WHERE id = NEW.id OR client_id = NEW.client_id)
BEGIN SELECT RAISE(ABORT, 'a token is made once'); END;

CREATE TRIGGER history_no_replace BEFORE INSERT ON history WHEN EXISTS (SELECT 1 FROM history WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
