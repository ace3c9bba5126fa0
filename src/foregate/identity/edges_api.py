"""The calls that make and end edges: a join token, another group, an expulsion. Paths of Foregate's own.

What an edge does and how far it has come is `access/events/edges_api.py`'s. Only a token for all accounts may call
these: an edge serves them all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection
from typing_extensions import TypedDict

from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.operations import Call, Operations
from foregate.api.parameters import BodyModel, QueryModel
from foregate.core.durations import parse_duration
from foregate.core.errors import ErrorCode, ForegateError, invalid, not_found
from foregate.core.ids import parse_uuid
from foregate.core.masterkey import MasterKey
from foregate.database.journal import Change, enqueue
from foregate.edge.feed_authority import FeedAuthority
from foregate.edge.join_token import write_join_token
from foregate.edge.rollout import EDGE_KIND
from foregate.identity import edges_store, store
from foregate.identity.joining import check_name, create_join_token
from foregate.identity.model import Edge, EdgeFacts, ExpelledEdge, JoinTokenFacts

_EDGES = "/foregate/edges"
_DEFAULT_LIFETIME = timedelta(minutes=15)
# Long enough for an image that is built overnight; a token that lies about for longer will be found by somebody.
_LONGEST_LIFETIME = timedelta(hours=24)

# Replaces every account's signing key, as whoever it is; the ids of the accounts.
ReplaceKeys = Callable[[str, datetime], Awaitable[list[str]]]


class JoinTokenCreate(BodyModel):
    """The body of POST. `valid_for` is a duration such as 15m; `rejoin` the id of the edge that is to join again, and
    keeps its group."""

    group: str | None = None
    valid_for: str | None = None
    rejoin: str | None = None


class JoinTokenValue(TypedDict):
    """What a new join token has beside its facts: its text, and the port at which an edge joins."""

    value: str
    feed_port: int


class EdgeUpdate(BodyModel):
    """The body of PATCH. An empty `group` is none."""

    group: str


class ExpelQuery(QueryModel):
    """`keep_keys`: leave the accounts' signing keys as they are."""

    keep_keys: bool = False


class EdgeMembersApi:
    """Handlers. `authority` None: this control plane has no feed port. `expelled(edge_id)` is called once an expulsion
    has committed: its streams end, and nobody remembers its certificate."""

    def __init__(
        self,
        changes: Changes,
        master_key: MasterKey,
        *,
        authority: FeedAuthority | None,
        feed_port: int,
        expelled: Callable[[str], None],
        replace_keys: ReplaceKeys,
    ) -> None:
        self._changes = changes
        self._master_key = master_key
        self._authority = authority
        self._feed_port = feed_port
        self._expelled = expelled
        self._replace_keys = replace_keys

    def operations(self) -> Operations:
        """The operations."""
        operations = Operations("Edges")
        add = operations.add
        add("POST", "/foregate/edge_join_tokens", self.create_token, "Make a token with which one edge joins",
            body=JoinTokenCreate, is_body_optional=True, result=(JoinTokenFacts, JoinTokenValue), status=201,
            errors=(ErrorCode.NOT_FOUND, ErrorCode.UNSUPPORTED))  # fmt: skip
        add("PATCH", f"{_EDGES}/{{edge_id}}", self.move, "Move an edge to another group", body=EdgeUpdate,
            result=EdgeFacts, errors=(ErrorCode.NOT_FOUND,))  # fmt: skip
        add("DELETE", f"{_EDGES}/{{edge_id}}", self.expel, "Expel an edge for good", query=ExpelQuery,
            result=ExpelledEdge, errors=(ErrorCode.NOT_FOUND,))  # fmt: skip
        return operations

    async def create_token(self, call: Call[None, JoinTokenCreate | None]) -> Answer:
        """A new join token; `value` is its text, which is shown here and never again."""
        authority = self._authority
        if authority is None:
            message = (
                "Edges of other machines cannot reach this control plane: set FOREGATE_FEED_BIND to an address that "
                "they can reach, and start it again."
            )
            raise ForegateError(ErrorCode.UNSUPPORTED, message)
        body = call.body or JoinTokenCreate()
        lifetime = _lifetime(body.valid_for)
        group = check_name(body.group, pointer="/group") if body.group else ""
        rejoin = None if body.rejoin is None else parse_uuid(body.rejoin, "edge", pointer="/rejoin")

        def work(connection: Connection) -> Answer:
            edge = None if rejoin is None else _live_member(connection, rejoin)
            token, secret = create_join_token(
                connection,
                self._master_key,
                group=group if edge is None else edge.group,
                edge=edge,
                lifetime=lifetime,
                now=call.at,
                actor=call.actor,
            )
            return Answer(
                {
                    "id": token.id,
                    "group": token.group,
                    "edge": None if edge is None else edge.name,
                    "expires_on": token.expires_at,
                    "value": write_join_token(secret, authority).reveal(),
                    "feed_port": self._feed_port,
                },
                is_kept_for_retry=True,
            )

        return await self._changes.run(call, work)

    async def move(self, call: Call[None, EdgeUpdate]) -> Answer:
        """Another group for an edge."""
        edge_id = parse_uuid(call.path["edge_id"], "edge")
        group = check_name(call.body.group, pointer="/group") if call.body.group else ""

        def work(connection: Connection) -> Answer:
            edge = _live_edge(connection, edge_id)
            edges_store.set_group(connection, edge.id, group)
            # The edge of the home follows no record of its own.
            seq = enqueue(connection, f"{EDGE_KIND}/{edge.id}", call.at) if edge.sealing_key else None
            change = Change(call.actor, "move", "edge", edge.id, "")
            store.insert_audit(connection, change, call.at, change_seq=seq)
            return Answer(EdgeFacts(edge.id, edge.name, group), change_seq=seq)

        return await self._changes.run(call, work)

    async def expel(self, call: Call[ExpelQuery, None]) -> Answer:
        """End an edge for good: its streams at once, then the signing keys that it knew. Safe to repeat, as a key may
        have failed to be replaced."""
        edge_id = parse_uuid(call.path["edge_id"], "edge")

        def work(connection: Connection) -> Answer:
            edge = _member(connection, edge_id)
            seq = None
            if edges_store.revoke_edge(connection, edge.id, call.at):
                seq = enqueue(connection, f"{EDGE_KIND}/{edge.id}", call.at)
                change = Change(call.actor, "expel", "edge", edge.id, "")
                store.insert_audit(connection, change, call.at, change_seq=seq)
            return Answer(edge, change_seq=seq)

        answer = await self._changes.run(call, work)
        self._expelled(edge_id)
        # After it is cut off, or it would be sent the new ones.
        accounts = [] if call.query.keep_keys else await self._replace_keys(call.actor, call.at)
        result = ExpelledEdge(edge_id, answer.result.name, tuple(accounts))
        return Answer(result, change_seq=answer.change_seq)


def _lifetime(text: str | None) -> timedelta:
    if text is None:
        return _DEFAULT_LIFETIME
    lifetime = parse_duration(text, pointer="/valid_for")
    if not timedelta(seconds=1) <= lifetime <= _LONGEST_LIFETIME:
        raise invalid("A join token lives from one second to 24 hours.", pointer="/valid_for")
    return lifetime


def _live_edge(connection: Connection, edge_id: str) -> Edge:
    edge = edges_store.find_edge(connection, edge_id)
    if edge is None or edge.revoked_at is not None:
        raise not_found("edge")
    return edge


def _live_member(connection: Connection, edge_id: str) -> Edge:
    return _require_member(_live_edge(connection, edge_id))


def _member(connection: Connection, edge_id: str) -> Edge:
    edge = edges_store.find_edge(connection, edge_id)
    if edge is None:
        raise not_found("edge")
    return _require_member(edge)


def _require_member(edge: Edge) -> Edge:
    if edge.sealing_key is None:
        message = (
            f"{edge.name} is the edge of the control plane's own home, which never joined. To replace its key, "
            "remove edge/edge.key there and start foregate up again."
        )
        raise invalid(message)
    return edge
