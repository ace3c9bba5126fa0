"""The tables of records.db, and the rights of those who open it. The DDL that runs is in `migrations/records`.

Times are whole microseconds since 1970. JSON stands in TEXT. `secret_versions` is append-only: its digests are
columns of no other table, and no right to update or delete them exists.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from foregate.database.columns import Whole, only_where
from foregate.database.rights import Rights, TableRights

metadata = MetaData()


def _id(name: str = "id") -> Column[str]:
    return Column(name, Text, primary_key=True)


def _account() -> Column[str]:
    return Column("account_id", Text, ForeignKey("accounts.id"), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Whole, nullable=nullable)


accounts = Table(
    "accounts",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("settings", Text, nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    _id(),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=True),  # null: every account
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("permissions", Text, nullable=False),
    Column("status", Text, nullable=False),
    _moment("not_before", nullable=True),
    _moment("expires_at", nullable=True),
    _moment("created_at"),
    CheckConstraint("typeof(digest) = 'blob' AND length(digest) = 32", name="api_token_digest_form"),
    CheckConstraint("status IN ('active', 'disabled')", name="api_token_status"),
)

# An edge shows itself by an edge key (the one of a home's own machine) or by a certificate (one that joined).
edges = Table(
    "edges",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("key_digest", LargeBinary, nullable=True),
    Column("sealing_key", LargeBinary, nullable=True),  # public: what only this edge may read is sealed to it
    Column("secrets_mark", LargeBinary, nullable=True),  # which secrets its newest record holds
    _moment("created_at"),
    _moment("revoked_at", nullable=True),
    CheckConstraint("(key_digest IS NULL) <> (sealing_key IS NULL)", name="edge_shows_itself_in_one_way"),
    CheckConstraint(
        "key_digest IS NULL OR (typeof(key_digest) = 'blob' AND length(key_digest) = 32)", name="edge_key_digest_form"
    ),
    CheckConstraint(
        "sealing_key IS NULL OR (typeof(sealing_key) = 'blob' AND length(sealing_key) = 32)",
        name="edge_sealing_key_form",
    ),
    # The name of an edge that was expelled may be given again.
    Index("edges_name", "name", unique=True, **only_where("revoked_at IS NULL")),
)

# The certificates by which joined edges may show themselves; those before the newest that was used are gone.
edge_certificates = Table(
    "edge_certificates",
    metadata,
    Column("fingerprint", LargeBinary, primary_key=True),  # SHA-256 of the certificate
    Column("edge_id", Text, ForeignKey("edges.id"), nullable=False),
    _moment("issued_at"),
    _moment("expires_at"),
    CheckConstraint("typeof(fingerprint) = 'blob' AND length(fingerprint) = 32", name="edge_certificate_form"),
    Index("edge_certificates_edge", "edge_id", "issued_at"),
)

edge_join_tokens = Table(
    "edge_join_tokens",
    metadata,
    _id(),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("group_name", Text, nullable=False),
    Column("edge_id", Text, ForeignKey("edges.id"), nullable=True),  # the edge that is to join again; null: a new one
    _moment("created_at"),
    _moment("expires_at"),
    _moment("used_at", nullable=True),
    Column("used_by", LargeBinary, nullable=True),  # SHA-256 of the public key that joined with it
    CheckConstraint("typeof(digest) = 'blob' AND length(digest) = 32", name="edge_join_token_digest_form"),
    CheckConstraint("(used_at IS NULL) = (used_by IS NULL)", name="edge_join_token_used_by_somebody"),
)

# The one CA of the feed: it vouches for the control plane to its edges, and for edges to the control plane.
feed_authority = Table(
    "feed_authority",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=False),
    Column("certificate", Text, nullable=False),
    Column("private_key", LargeBinary, nullable=False),  # encrypted under the key encryption key
    _moment("created_at"),
    CheckConstraint("id = 1", name="one_feed_authority"),
)

organizations = Table(
    "organizations",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.id"), primary_key=True),
    Column("settings", Text, nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    _id("kid"),
    _account(),
    Column("public_jwk", Text, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("private_key", LargeBinary, nullable=False),  # encrypted under the key encryption key
    _moment("created_at"),
    _moment("retires_at", nullable=True),  # set when a newer key takes over: published until then
    Index("signing_keys_account", "account_id", "created_at"),
)

key_settings = Table(
    "key_settings",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.id"), primary_key=True),
    Column("rotation_interval_days", Whole, nullable=False),
    _moment("last_rotated_at"),
)

service_tokens = Table(
    "service_tokens",
    metadata,
    _id(),
    _account(),
    Column("client_id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("duration", Text, nullable=False),
    Column("is_enabled", Whole, nullable=False),
    _moment("expires_at", nullable=True),  # null: forever
    Column("secret_version", Whole, nullable=False),
    Column("previous_secret_version", Whole, nullable=True),
    _moment("previous_secret_expires_at", nullable=True),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("deleted_at", nullable=True),
    CheckConstraint("length(client_id) = 39 AND client_id GLOB '*.access'", name="client_id_form"),
    CheckConstraint("is_enabled IN (0, 1)", name="is_enabled_form"),
    CheckConstraint(
        "(previous_secret_version IS NULL) = (previous_secret_expires_at IS NULL)", name="previous_secret_has_an_end"
    ),
    # Lists count and page within the index, which therefore leaves deleted tokens out.
    Index("service_tokens_account", "account_id", "created_at", "id", **only_where("deleted_at IS NULL")),
    Index("service_tokens_name", "account_id", "name", "created_at", "id", **only_where("deleted_at IS NULL")),
)

secret_versions = Table(
    "secret_versions",
    metadata,
    Column("token_id", Text, ForeignKey("service_tokens.id"), primary_key=True),
    Column("version", Whole, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("pepper_version", Whole, nullable=False),
    _moment("issued_at"),
    CheckConstraint("typeof(digest) = 'blob' AND length(digest) = 32", name="digest_form"),
    CheckConstraint("version >= 1 AND pepper_version >= 1", name="versions_start_at_one"),
    sqlite_with_rowid=False,
)

applications = Table(
    "applications",
    metadata,
    _id(),
    _account(),
    Column("aud", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("body", Text, nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    Index("applications_account", "account_id", "created_at", "id"),
)

application_patterns = Table(
    "application_patterns",
    metadata,
    Column("pattern", Text, primary_key=True),  # one application per host and path, over all accounts
    Column("application_id", Text, ForeignKey("applications.id", ondelete="CASCADE"), nullable=False),
    Index("application_patterns_application", "application_id"),
)

policies = Table(
    "policies",
    metadata,
    _id(),
    _account(),
    # null: reusable
    Column("application_id", Text, ForeignKey("applications.id", ondelete="CASCADE"), nullable=True),
    Column("name", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("body", Text, nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    Index("policies_account", "account_id", "created_at", "id"),
)

application_policies = Table(
    "application_policies",
    metadata,
    Column("application_id", Text, ForeignKey("applications.id", ondelete="CASCADE"), primary_key=True),
    Column("policy_id", Text, ForeignKey("policies.id"), primary_key=True),
    Column("precedence", Whole, nullable=False),
    UniqueConstraint("application_id", "precedence", name="application_precedence"),
    Index("application_policies_policy", "policy_id"),
)

groups = Table(
    "groups",
    metadata,
    _id(),
    _account(),
    Column("name", Text, nullable=False),
    Column("body", Text, nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    Index("groups_account", "account_id", "created_at", "id"),
)

# Which policies and groups name a service token or a group: asked before a delete, and to know whom a change concerns.
rule_references = Table(
    "rule_references",
    metadata,
    Column("referrer_kind", Text, primary_key=True),  # policy | group
    Column("referrer_id", Text, primary_key=True),
    Column("target_kind", Text, primary_key=True),  # token | group
    Column("target_id", Text, primary_key=True),
    Index("rule_references_target", "target_kind", "target_id"),
)

tunnels = Table(
    "tunnels",
    metadata,
    _id(),
    _account(),
    Column("name", Text, nullable=False),
    Column("config_src", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    _moment("created_at"),
    _moment("deleted_at", nullable=True),
    Index("tunnels_account", "account_id", "created_at", "id"),
)

tunnel_configurations = Table(
    "tunnel_configurations",
    metadata,
    Column("tunnel_id", Text, ForeignKey("tunnels.id"), primary_key=True),
    Column("version", Whole, nullable=False),
    Column("config", Text, nullable=False),
    _moment("created_at"),
)

ingress_hostnames = Table(
    "ingress_hostnames",
    metadata,
    Column("hostname", Text, primary_key=True),
    Column("tunnel_id", Text, ForeignKey("tunnels.id"), nullable=False),
    _account(),
    Index("ingress_hostnames_tunnel", "tunnel_id"),
)

# A change is an outbox row: written with it, published after it. `seq` is never used twice.
outbox = Table(
    "outbox",
    metadata,
    Column("seq", Whole, primary_key=True, autoincrement=True),
    Column("record_key", Text, nullable=False),
    _moment("enqueued_at"),
    _moment("published_at", nullable=True),
    Index("outbox_unpublished", "published_at", "seq"),
    sqlite_autoincrement=True,
)

history = Table(
    "history",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=True),
    _account(),
    Column("kind", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("snapshot", Text, nullable=False),  # JSON without secrets and digests; null once deleted
    Column("actor", Text, nullable=False),
    _moment("at"),
    Index("history_entity", "kind", "entity_id", "id"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=True),
    Column("account_id", Text, nullable=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("change_seq", Whole, nullable=True),
    _moment("at"),
    Index("audit_account", "account_id", "id"),
    sqlite_autoincrement=True,
)

# Answers kept for a retry, sealed under a key that only the caller holds (docs/decisions/0004).
replayable_answers = Table(
    "replayable_answers",
    metadata,
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("first_tries", Whole, nullable=False),
    Column("status", Whole, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    _moment("expires_at"),
    Index("replayable_answers_expiry", "expires_at"),
)

_APPEND = TableRights(may_insert=True)


def _full(table: Table, *fixed: str) -> TableRights:
    """Insert, delete and update of all columns but the key and those in `fixed`."""
    keys = {column.name for column in table.primary_key.columns}
    columns = {column.name for column in table.columns} - keys - set(fixed)
    return TableRights(may_insert=True, may_delete=True, updatable=frozenset(columns))


def _kept(table: Table, *fixed: str) -> TableRights:
    """As `_full`, but rows stay: no delete."""
    return TableRights(may_insert=True, updatable=_full(table, *fixed).updatable)


# The API process. It issues and rotates secrets by inserting versions; it cannot change or delete one.
CONTROL_PLANE = Rights(
    "control plane",
    {
        "accounts": _kept(accounts),
        "api_tokens": _kept(api_tokens, "digest"),
        "edges": _kept(edges, "key_digest"),
        "edge_certificates": _full(edge_certificates, "edge_id"),
        "edge_join_tokens": _full(edge_join_tokens, "digest"),
        "feed_authority": _APPEND,
        "organizations": _kept(organizations),
        "signing_keys": TableRights(may_insert=True, may_delete=True, updatable=frozenset({"retires_at"})),
        "key_settings": _kept(key_settings),
        "service_tokens": _kept(service_tokens, "account_id", "client_id", "created_at"),
        "secret_versions": _APPEND,
        "applications": _full(applications, "aud", "account_id"),
        "application_patterns": _full(application_patterns),
        "policies": _full(policies, "account_id"),
        "application_policies": _full(application_policies),
        "groups": _full(groups, "account_id"),
        "rule_references": _full(rule_references),
        "tunnels": _kept(tunnels, "account_id"),
        "tunnel_configurations": _kept(tunnel_configurations),
        "ingress_hostnames": _full(ingress_hostnames),
        "outbox": TableRights(may_insert=True, may_delete=True, updatable=frozenset({"published_at"})),
        "history": _APPEND,
        "audit": _APPEND,
        "replayable_answers": _full(replayable_answers),
    },
)
RIGHTS = (CONTROL_PLANE,)
