"""What the records keep of edges that join, whichever database they lie in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import IntegrityError

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import MasterKey
from foregate.core.secrets import EDGE_JOIN_TOKEN_PREFIX, Secret, new_secret
from foregate.database.engine import AsyncDatabase
from foregate.database.records_schema import CONTROL_PLANE
from foregate.database.stores import Stores
from foregate.edge import sealed_box
from foregate.edge.feed_authority import FeedAuthority, new_request, read_request
from foregate.edge.feed_joining import Joined, JoinRequest
from foregate.edge.parsing import parse_edge
from foregate.edge.secrets import EdgeSecrets, open_secrets_with
from foregate.identity import edges_store
from foregate.identity.edge_config import edge_compiler, renew_secrets
from foregate.identity.joining import Joining, create_join_token, ensure_authority
from foregate.identity.memberships import Memberships
from foregate.identity.model import Edge

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MASTER_KEY = MasterKey({1: b"m" * 32}, 1)
SECRETS = EdgeSecrets({1: b"p" * 32}, b"m" * 32, b"s" * 32)


@dataclass
class World:
    """A control plane's records, and what joins. `now` is its clock."""

    records: AsyncDatabase
    authority: FeedAuthority
    now: datetime = NOW
    sealing_key: bytes = field(default_factory=sealed_box.new_private_key)

    def __post_init__(self) -> None:
        self.memberships = Memberships(self.records)
        self.joining = Joining(
            database=self.records,
            master_key=MASTER_KEY,
            authority=self.authority,
            secrets=lambda: SECRETS,
            on_change=lambda: None,
            forget=self.memberships.forget,
            clock=lambda: self.now,
        )

    async def token(self, edge: Edge | None = None) -> Secret:
        _, secret = await self.records.write(
            lambda c: create_join_token(
                c, MASTER_KEY, group="eu", edge=edge, lifetime=timedelta(minutes=15), now=self.now, actor="test"
            )
        )
        return secret

    def request(self, token: Secret, name: str = "paris", edge_id: str | None = None) -> JoinRequest:
        public_key = sealed_box.public_key_of(self.sealing_key)
        return JoinRequest(token, name, read_request(new_request()[1]), public_key, edge_id)

    async def join(self, name: str = "paris") -> Joined:
        return await self.joining.join(self.request(await self.token(), name))

    async def edge(self, edge_id: str) -> Edge:
        found = await self.records.read(lambda c: edges_store.find_edge(c, edge_id))
        assert found is not None
        return found


def der(joined: Joined) -> bytes:
    return x509.load_pem_x509_certificate(joined.certificate.encode()).public_bytes(Encoding.DER)


@pytest.fixture
async def world(stores: Stores) -> AsyncIterator[World]:
    records = AsyncDatabase(stores.records.open(CONTROL_PLANE))
    authority = await records.write(lambda c: ensure_authority(c, MASTER_KEY, NOW))
    yield World(records, authority)
    records.close()


async def test_every_process_has_the_same_ca(world: World) -> None:
    again = await world.records.write(lambda c: ensure_authority(c, MASTER_KEY, NOW))
    assert again.pem == world.authority.pem


async def test_machine_becomes_an_edge_that_alone_opens_its_secrets(world: World) -> None:
    joined = await world.join()
    assert (joined.name, joined.group) == ("paris", "eu")
    assert open_secrets_with(joined.sealed, joined.edge_id, world.sealing_key) == SECRETS
    member = await world.memberships.find(der(joined))
    assert member is not None
    assert (member.edge_id, member.is_expelled) == (joined.edge_id, False)


async def test_token_is_good_for_one_key_and_for_that_one_again(world: World) -> None:
    request = world.request(await world.token())
    first = await world.joining.join(request)
    again = await world.joining.join(request)
    assert again.edge_id == first.edge_id, "an answer may be lost on its way"
    with pytest.raises(ForegateError, match="used already"):
        await world.joining.join(replace(world.request(request.token), name="other"))


async def test_token_ends(world: World) -> None:
    request = world.request(await world.token())
    world.now = NOW + timedelta(minutes=15)
    with pytest.raises(ForegateError, match="ended at"):
        await world.joining.join(request)


async def test_token_that_nobody_made_is_refused(world: World) -> None:
    with pytest.raises(ForegateError, match="not known here"):
        await world.joining.join(world.request(new_secret(EDGE_JOIN_TOKEN_PREFIX)))


async def test_name_is_one_edges_until_it_is_expelled(world: World) -> None:
    joined = await world.join()
    with pytest.raises(ForegateError, match="There is an edge paris already") as refused:
        await world.join()
    assert refused.value.code is ErrorCode.ALREADY_EXISTS
    await world.records.write(lambda c: edges_store.revoke_edge(c, joined.edge_id, NOW))
    assert (await world.join()).edge_id != joined.edge_id


async def test_two_edges_of_one_name_cannot_stand_in_the_records(world: World) -> None:
    joined = await world.join()
    twin = replace(await world.edge(joined.edge_id), id="00000000-0000-4000-8000-000000000000")
    with pytest.raises(IntegrityError):
        await world.records.write(lambda c: edges_store.insert_edge(c, twin, None))


async def test_edge_that_joins_again_keeps_its_id_and_what_it_had_ends(world: World) -> None:
    joined = await world.join()
    token = await world.token(await world.edge(joined.edge_id))
    again = await world.joining.join(world.request(token, edge_id=joined.edge_id))
    assert again.edge_id == joined.edge_id
    assert await world.memberships.find(der(joined)) is None
    assert await world.memberships.find(der(again)) is not None


async def test_token_for_one_edge_makes_no_other_of_a_home(world: World) -> None:
    first, second = await world.join("first"), await world.join("second")
    token = await world.token(await world.edge(first.edge_id))
    with pytest.raises(ForegateError, match="made for the edge first"):
        await world.joining.join(world.request(token, edge_id=second.edge_id))
    with pytest.raises(ForegateError, match="is an edge already"):
        await world.joining.join(world.request(await world.token(), edge_id=second.edge_id))


async def test_expelled_edge_does_not_join_again(world: World) -> None:
    joined = await world.join()
    token = await world.token(await world.edge(joined.edge_id))
    await world.records.write(lambda c: edges_store.revoke_edge(c, joined.edge_id, NOW))
    world.memberships.forget()
    member = await world.memberships.find(der(joined))
    assert member is not None
    assert member.is_expelled
    with pytest.raises(ForegateError, match="has been expelled"):
        await world.joining.join(world.request(token, edge_id=joined.edge_id))


async def test_newer_certificate_ends_the_older_once_it_is_used(world: World) -> None:
    joined = await world.join()
    world.now = NOW + timedelta(days=5)
    renewed = replace(joined, certificate=await world.joining.renew(joined.edge_id, read_request(new_request()[1])))
    assert await world.memberships.find(der(joined)) is not None, "the answer may have been lost"
    assert await world.memberships.find(der(renewed)) is not None
    assert await world.memberships.find(der(joined)) is None


async def test_record_of_an_edge_follows_the_peppers_and_tells_of_an_expulsion(world: World) -> None:
    joined = await world.join()
    newer = EdgeSecrets({**SECRETS.peppers, 2: b"q" * 32}, SECRETS.record_mac_key, SECRETS.sealing_key)

    async def compiled(secrets: EdgeSecrets) -> EdgeSecrets:
        value = await world.records.read(lambda c: edge_compiler(secrets)(c, joined.edge_id))
        assert value is not None
        return open_secrets_with(parse_edge(value).sealed, joined.edge_id, world.sealing_key)

    assert await compiled(SECRETS) == SECRETS
    assert await world.records.write(lambda c: renew_secrets(c, newer, NOW)) == 1
    assert await world.records.write(lambda c: renew_secrets(c, newer, NOW)) == 0
    assert await compiled(newer) == newer
    with pytest.raises(ForegateError, match="start it again"):
        await compiled(SECRETS)
    await world.records.write(lambda c: edges_store.revoke_edge(c, joined.edge_id, NOW))
    value = await world.records.read(lambda c: edge_compiler(newer)(c, joined.edge_id))
    assert value is not None
    assert (parse_edge(value).is_expelled, parse_edge(value).sealed) == (True, b"")
