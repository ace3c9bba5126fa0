"""A lost answer wastes no secret: the SDK repeats the request by itself and gets the first answer again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cloudflare
import pytest
from cloudflare.resources.zero_trust.access.service_tokens import ServiceTokensResource

from acceptance.api.control_plane import ControlPlane
from acceptance.api.losing_proxy import losing_proxy
from acceptance.api.test_service_tokens import TOKENS, accepts
from foregate.database import records_schema
from harness.stores import content_of

RETRY = {"x-stainless-retry-count": "1"}


@pytest.fixture
def tokens(control_plane: ControlPlane) -> ServiceTokensResource:
    return control_plane.sdk().zero_trust.access.service_tokens


@pytest.fixture
def account(control_plane: ControlPlane) -> dict[str, str]:
    return {"account_id": control_plane.account_id}


@pytest.mark.parametrize("lost", [1, 2])
def test_create_whose_answer_was_lost_makes_one_token(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str], lost: int
) -> None:
    with losing_proxy(control_plane.port, lost) as proxy:
        sdk = control_plane.sdk(base_url=proxy.base_url)
        created = sdk.zero_trust.access.service_tokens.create(name=f"lost {lost}", **account)
    assert len(proxy.requests) == lost + 1
    assert [token.id for token in tokens.list(name=f"lost {lost}", **account)] == [created.id]
    assert accepts(control_plane, created.client_id, created.client_secret)


def test_rotate_whose_answer_was_lost_makes_one_secret(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="rotate lost", **account)
    with losing_proxy(control_plane.port, 2) as proxy:
        sdk = control_plane.sdk(base_url=proxy.base_url)
        rotated = sdk.zero_trust.access.service_tokens.rotate(
            created.id, previous_client_secret_expires_at="2099-01-01T00:00:00Z", **account
        )
    assert rotated.to_dict()["client_secret_version"] == 2
    assert accepts(control_plane, created.client_id, rotated.client_secret)
    assert accepts(control_plane, created.client_id, created.client_secret)


def test_update_that_rotates_and_whose_answer_was_lost_still_shows_the_secret(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="put lost", **account)
    with losing_proxy(control_plane.port, 1) as proxy:
        sdk = control_plane.sdk(base_url=proxy.base_url)
        updated = sdk.zero_trust.access.service_tokens.update(created.id, client_secret_version=2, **account)
    assert accepts(control_plane, created.client_id, updated.to_dict()["client_secret"])


def test_refresh_and_delete_whose_answers_were_lost_happen_once(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="refresh lost", duration="48h", **account)
    before = tokens.get(created.id, **account).expires_at
    with losing_proxy(control_plane.port, 1) as proxy:
        sdk = control_plane.sdk(base_url=proxy.base_url)
        refreshed = sdk.zero_trust.access.service_tokens.refresh(created.id, **account)
    with losing_proxy(control_plane.port, 1) as proxy:
        sdk = control_plane.sdk(base_url=proxy.base_url)
        deleted = sdk.zero_trust.access.service_tokens.delete(created.id, **account)
    assert (refreshed.expires_at - before).days == 365
    assert deleted.id == created.id


def test_same_request_made_twice_makes_two_tokens(control_plane: ControlPlane) -> None:
    made = [control_plane.request("POST", TOKENS, json={"name": "twins"}).json()["result"] for _ in range(2)]
    assert made[0]["client_id"] != made[1]["client_id"]


def test_retry_after_two_first_tries_is_nobodys_and_gets_nobodys_secret(control_plane: ControlPlane) -> None:
    made = [control_plane.request("POST", TOKENS, json={"name": "ambiguous"}) for _ in range(2)]
    retried = control_plane.request("POST", TOKENS, json={"name": "ambiguous"}, headers=RETRY)
    assert len({answer.json()["result"]["client_id"] for answer in (*made, retried)}) == 3


def test_retry_of_another_caller_gets_nothing_of_the_first(control_plane: ControlPlane) -> None:
    _, other = control_plane.api_token()
    first = control_plane.request("POST", TOKENS, json={"name": "mine"})
    second = control_plane.request("POST", TOKENS, json={"name": "mine"}, headers=RETRY, token=other)
    assert first.json()["result"]["client_id"] != second.json()["result"]["client_id"]


def test_retry_says_that_it_is_a_replay_and_carries_the_same_change(control_plane: ControlPlane) -> None:
    first = control_plane.request("POST", TOKENS, json={"name": "replayed"})
    second = control_plane.request("POST", TOKENS, json={"name": "replayed"}, headers=RETRY)
    assert second.content == first.content
    assert second.status_code == 201
    assert second.headers["Foregate-Replayed"] == "true"
    assert second.headers["Foregate-Change"] == first.headers["Foregate-Change"]


def test_retry_never_hands_out_a_secret_that_was_replaced(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    path = f"{TOKENS}/{tokens.create(name='replaced', **account).id}"
    first = control_plane.request("POST", f"{path}/rotate", json={}).json()["result"]
    control_plane.request("PUT", path, json={"client_secret_version": 3})
    retried = control_plane.request("POST", f"{path}/rotate", json={}, headers=RETRY).json()["result"]
    assert retried["client_secret_version"] == 4
    assert retried["client_secret"] != first["client_secret"]
    assert accepts(control_plane, retried["client_id"], retried["client_secret"])


def test_idempotency_key_runs_a_request_once(control_plane: ControlPlane) -> None:
    key = {"Idempotency-Key": "deploy-7"}
    made = [control_plane.request("POST", TOKENS, json={"name": "keyed"}, headers=key).json() for _ in range(3)]
    assert len({answer["result"]["client_id"] for answer in made}) == 1


def test_idempotency_key_of_another_request_is_refused(control_plane: ControlPlane) -> None:
    key = {"Idempotency-Key": "deploy-8"}
    control_plane.request("POST", TOKENS, json={"name": "keyed once"}, headers=key)
    refused = control_plane.request("POST", TOKENS, json={"name": "keyed twice"}, headers=key)
    assert refused.status_code == 400
    assert "used for another request" in refused.json()["errors"][0]["message"]


def test_retry_that_comes_in_beside_the_first_try_waits_for_it(control_plane: ControlPlane) -> None:
    key = {"Idempotency-Key": "at once"}
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda _: control_plane.request("POST", TOKENS, json={"name": "at once"}, headers=key).json(), range(16)
            )
        )
    assert len({answer["result"]["client_secret"] for answer in made}) == 1


def test_kept_answers_are_of_no_use_to_who_reads_the_database(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="sealed", **account)
    with control_plane.database.database.read() as connection:
        stored = content_of(connection, records_schema.metadata)
    assert created.client_id.encode() in stored
    assert created.client_secret.encode() not in stored
    assert control_plane.admin.reveal().encode() not in stored


def test_permanent_refusals_are_not_repeated_by_the_sdk(control_plane: ControlPlane, account: dict[str, str]) -> None:
    with losing_proxy(control_plane.port, 0) as proxy:
        sdk = control_plane.sdk(base_url=proxy.base_url)
        with pytest.raises(cloudflare.BadRequestError):
            sdk.zero_trust.access.service_tokens.create(name="", **account)
    assert len(proxy.requests) == 1
