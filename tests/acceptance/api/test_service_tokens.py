"""The life of service tokens, driven with the official Python SDK against the real application."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import cloudflare
import pytest
from cloudflare.resources.zero_trust.access.service_tokens import ServiceTokensResource
from sqlalchemy import text

from acceptance.api.control_plane import ControlPlane
from foregate.access.tokens import edge_config
from foregate.access.tokens.model import LastSeenReport, Sighting
from foregate.core.masterkey import MasterKey
from foregate.core.secrets import SERVICE_TOKEN_PREFIX, digest_secret, parse_secret

TOKENS = "/accounts/{account_id}/access/service_tokens"
YEAR = timedelta(hours=8760)


@pytest.fixture
def tokens(control_plane: ControlPlane) -> ServiceTokensResource:
    return control_plane.sdk().zero_trust.access.service_tokens


@pytest.fixture
def account(control_plane: ControlPlane) -> dict[str, str]:
    return {"account_id": control_plane.account_id}


def record_of(control_plane: ControlPlane, client_id: str) -> dict[str, Any] | None:
    """What an edge would be told of the token now."""
    with control_plane.database.database.read() as connection:
        return edge_config.compile_record(connection, client_id)


def accepts(control_plane: ControlPlane, client_id: str, secret: str, at: datetime | None = None) -> bool:
    """Whether an edge would accept this secret."""
    record, moment = record_of(control_plane, client_id), (at or datetime.now(UTC)).timestamp()
    if record is None or not record["enabled"] or (record["expires_at"] is not None and moment >= record["expires_at"]):
        return False
    digest = _digest(control_plane.master_key, secret)
    living = [s for s in record["secrets"] if s["expires_at"] is None or moment < s["expires_at"]]
    return any(stored["digest"] == digest for stored in living)


def _digest(master_key: MasterKey, secret: str) -> str:
    pepper = master_key.pepper(master_key.current)
    return digest_secret(parse_secret(secret, SERVICE_TOKEN_PREFIX), pepper, master_key.current).value.hex()


def test_created_token_carries_its_secret_once(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="ci", **account)
    found = tokens.get(created.id, **account)
    assert accepts(control_plane, created.client_id, created.client_secret)
    assert (found.id, found.client_id, found.name, found.duration) == (created.id, created.client_id, "ci", "8760h")
    assert "client_secret" not in found.to_dict()


def test_creation_answers_201_and_every_field(control_plane: ControlPlane) -> None:
    answer = control_plane.request("POST", TOKENS, json={"name": "fields", "duration": "2h45m"})
    body = answer.json()
    assert answer.status_code == 201
    assert int(answer.headers["Foregate-Change"]) in control_plane.committed
    assert answer.headers["Cache-Control"] == "no-store"
    assert {name: body[name] for name in ("success", "errors", "messages")} == {
        "success": True,
        "errors": [],
        "messages": [],
    }
    assert set(body["result"]) == {
        "id",
        "client_id",
        "client_secret",
        "name",
        "duration",
        "enabled",
        "expires_at",
        "created_at",
        "updated_at",
        "last_seen_at",
        "client_secret_version",
        "previous_client_secret_expires_at",
        "foregate",
    }
    assert body["result"]["last_seen_at"] is None
    assert body["result"]["foregate"] == {"last_seen": {"accuracy_seconds": 0, "edge": None, "coverage": 1.0}}


@pytest.mark.parametrize("duration", ["8760h", "2h45m", "90s", "1.5h", "1h0m0s", "forever"])
def test_duration_comes_back_as_written(tokens: ServiceTokensResource, account: dict[str, str], duration: str) -> None:
    created = tokens.create(name="durations", duration=duration, **account)
    assert tokens.get(created.id, **account).duration == duration


def test_forever_has_no_end(tokens: ServiceTokensResource, account: dict[str, str]) -> None:
    created = tokens.create(name="for good", duration="forever", **account)
    refreshed = tokens.refresh(created.id, **account)
    assert (tokens.get(created.id, **account).expires_at, refreshed.expires_at) == (None, None)


def test_token_expires_after_its_duration(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="short", duration="1h", **account)
    now = datetime.now(UTC)
    assert accepts(control_plane, created.client_id, created.client_secret, now + timedelta(minutes=59))
    assert not accepts(control_plane, created.client_id, created.client_secret, now + timedelta(minutes=61))


def test_update_changes_what_it_names_only(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="before", duration="48h", **account)
    before = tokens.get(created.id, **account)
    after = tokens.update(created.id, name="after", **account)
    assert (after.name, after.duration, after.expires_at) == ("after", "48h", before.expires_at)
    assert accepts(control_plane, created.client_id, created.client_secret)


def test_update_of_the_duration_counts_from_now(tokens: ServiceTokensResource, account: dict[str, str]) -> None:
    created = tokens.create(name="rebased", duration="forever", **account)
    updated = tokens.update(created.id, duration="2h", **account)
    assert abs(updated.expires_at - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)


def test_refresh_adds_a_year_and_keeps_the_secret(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="refreshed", duration="48h", **account)
    before = tokens.get(created.id, **account)
    after = tokens.refresh(created.id, **account)
    assert after.expires_at - before.expires_at == YEAR
    assert accepts(control_plane, created.client_id, created.client_secret)


def test_rotate_without_a_date_ends_the_old_secret_at_once(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="rotated", **account)
    rotated = tokens.rotate(created.id, **account)
    assert rotated.client_id == created.client_id
    assert accepts(control_plane, created.client_id, rotated.client_secret)
    assert not accepts(control_plane, created.client_id, created.client_secret)


def test_rotate_with_a_date_keeps_both_secrets_until_then(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="overlap", **account)
    end = datetime.now(UTC) + timedelta(hours=1)
    rotated = tokens.rotate(created.id, previous_client_secret_expires_at=end, **account)
    assert accepts(control_plane, created.client_id, rotated.client_secret)
    assert accepts(control_plane, created.client_id, created.client_secret)
    assert not accepts(control_plane, created.client_id, created.client_secret, end + timedelta(seconds=1))


def test_second_rotate_leaves_two_secrets_alive_at_most(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="thrice", **account)
    end = datetime.now(UTC) + timedelta(hours=1)
    second = tokens.rotate(created.id, previous_client_secret_expires_at=end, **account)
    third = tokens.rotate(created.id, previous_client_secret_expires_at=end, **account)
    alive = [accepts(control_plane, created.client_id, issued.client_secret) for issued in (created, second, third)]
    assert alive == [False, True, True]


@pytest.mark.parametrize(
    "written",
    [
        "2099-01-02T03:04:05Z",
        "2099-01-02T03:04:05.678Z",
        "2099-01-02T03:04:05.678901+00:00",
        "2099-01-02T03:04:05.678901234Z",
        "2099-01-02T04:04:05+01:00",
        "2099-01-02T03:04:05",
    ],
)
def test_every_form_of_a_date_is_read(tokens: ServiceTokensResource, account: dict[str, str], written: str) -> None:
    created = tokens.create(name="dates", **account)
    rotated = tokens.rotate(created.id, previous_client_secret_expires_at=written, **account)
    assert rotated.to_dict()["previous_client_secret_expires_at"] == "2099-01-02T03:04:05Z"


def test_naive_and_foreign_datetimes_of_the_sdk_are_read(
    tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="dates", **account)
    naive = datetime(2099, 1, 2, 3, 4, 5)  # noqa: DTZ001
    east = datetime(2099, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    ends = [
        tokens.rotate(created.id, previous_client_secret_expires_at=end, **account).to_dict()[
            "previous_client_secret_expires_at"
        ]
        for end in (naive, east)
    ]
    assert ends == ["2099-01-02T03:04:05Z"] * 2


@pytest.mark.parametrize("content", [b"", b"{}"])
def test_rotate_takes_every_empty_body(control_plane: ControlPlane, content: bytes) -> None:
    token_id = control_plane.request("POST", TOKENS, json={"name": "bodies"}).json()["result"]["id"]
    rotated = control_plane.request(
        "POST", f"{TOKENS}/{token_id}/rotate", content=content, headers={"Content-Type": "application/json"}
    )
    assert rotated.status_code == 200
    assert rotated.json()["result"]["client_secret_version"] == 2


def test_update_with_the_version_raised_rotates_and_shows_the_secret(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="terraform", client_secret_version=1, **account)
    updated = tokens.update(
        created.id,
        name="terraform",
        client_secret_version=2,
        previous_client_secret_expires_at="2099-01-01T00:00:00Z",
        **account,
    )
    assert accepts(control_plane, created.client_id, updated.to_dict()["client_secret"])
    assert accepts(control_plane, created.client_id, created.client_secret)


@pytest.mark.parametrize("version", [0, 1, 1.0], ids=["go v0", "terraform", "a float"])
def test_update_with_the_version_repeated_does_not_rotate(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str], version: float
) -> None:
    created = tokens.create(name="repeated", client_secret_version=version, **account)
    updated = tokens.update(created.id, duration="8760h", client_secret_version=version, **account)
    assert "client_secret" not in updated.to_dict()
    assert accepts(control_plane, created.client_id, created.client_secret)


@pytest.mark.parametrize("version", [1, 4])
def test_update_with_the_version_lowered_or_jumped_is_refused(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str], version: int
) -> None:
    created = tokens.create(name="jumped", **account)
    rotated = tokens.rotate(created.id, **account)
    with pytest.raises(cloudflare.BadRequestError, match="client_secret_version is 2 now"):
        tokens.update(created.id, client_secret_version=version, **account)
    assert accepts(control_plane, created.client_id, rotated.client_secret)


def test_end_of_the_overlap_moves_without_rotating(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="moved", **account)
    soon, later = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(hours=9)
    rotated = tokens.rotate(created.id, previous_client_secret_expires_at=soon, **account)
    moved = tokens.update(created.id, client_secret_version=2, previous_client_secret_expires_at=later, **account)
    assert "client_secret" not in moved.to_dict()
    assert accepts(control_plane, created.client_id, created.client_secret, later - timedelta(minutes=1))
    assert accepts(control_plane, created.client_id, rotated.client_secret)


def test_overlap_ended_by_a_past_date_cannot_be_brought_back(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="leaked", **account)
    tokens.rotate(created.id, previous_client_secret_expires_at="2099-01-01T00:00:00Z", **account)
    tokens.update(created.id, previous_client_secret_expires_at="2020-01-01T00:00:00Z", **account)
    with pytest.raises(cloudflare.BadRequestError, match="cannot be brought back"):
        tokens.update(created.id, previous_client_secret_expires_at="2099-01-01T00:00:00Z", **account)
    assert not accepts(control_plane, created.client_id, created.client_secret)


def test_terraform_gets_version_and_date_back_as_declared(
    tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    declared = {"client_secret_version": 2, "previous_client_secret_expires_at": "2099-01-01T00:00:00Z"}
    created = tokens.create(name="declared", **declared, **account)
    found = tokens.get(created.id, **account).to_dict()
    assert {name: found[name] for name in declared} == declared


def test_disabled_token_is_refused_with_both_secrets_and_comes_back(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="off and on", **account)
    end = datetime.now(UTC) + timedelta(hours=1)
    rotated = tokens.rotate(created.id, previous_client_secret_expires_at=end, **account)
    secrets = (created.client_secret, rotated.client_secret)
    tokens.update(created.id, enabled=False, **account)
    while_off = [accepts(control_plane, created.client_id, secret) for secret in secrets]
    tokens.update(created.id, enabled=True, **account)
    assert while_off == [False, False]
    assert [accepts(control_plane, created.client_id, secret) for secret in secrets] == [True, True]


def test_token_may_be_created_disabled(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="off", enabled=False, **account)
    assert created.enabled is False
    assert not accepts(control_plane, created.client_id, created.client_secret)


def test_deleted_token_is_gone_everywhere(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="gone", **account)
    deleted = tokens.delete(created.id, **account)
    assert deleted.id == created.id
    assert record_of(control_plane, created.client_id) is None
    for attempt in (tokens.get, tokens.delete, tokens.refresh, tokens.rotate, tokens.update):
        with pytest.raises(cloudflare.NotFoundError, match="service_token_not_found"):
            attempt(created.id, **account)


def test_delete_is_refused_while_a_policy_names_the_token(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="in use", **account)
    with control_plane.database.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO rule_references (referrer_kind, referrer_id, target_kind, target_id)"
                " VALUES ('policy', 'deploy', 'token', :id)"
            ),
            {"id": created.id},
        )
    with pytest.raises(cloudflare.BadRequestError) as refused:
        tokens.delete(created.id, **account)
    assert [error.code for error in refused.value.errors] == [12139]
    assert "service_token_in_use: this token is named by policy deploy" in refused.value.errors[0].message
    assert accepts(control_plane, created.client_id, created.client_secret)


def test_last_seen_is_in_every_answer_but_the_creation(
    control_plane: ControlPlane, tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="seen", **account)
    seen = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    control_plane.last_seen.report = LastSeenReport({created.client_id: Sighting(seen, "edge-1")}, 1.5, 0.5)
    answers = [
        tokens.get(created.id, **account),
        tokens.update(created.id, name="seen again", **account),
        tokens.refresh(created.id, **account),
        tokens.rotate(created.id, **account),
        next(iter(tokens.list(name="seen again", **account))),
        tokens.delete(created.id, **account),
    ]
    expected = {"last_seen": {"accuracy_seconds": 1.5, "edge": "edge-1", "coverage": 0.5}}
    assert [(a.to_dict()["last_seen_at"], a.to_dict()["foregate"]) for a in answers] == [
        ("2026-05-06T07:08:09Z", expected)
    ] * 6


def test_client_id_in_place_of_the_id_is_not_found_and_says_so(
    tokens: ServiceTokensResource, account: dict[str, str]
) -> None:
    created = tokens.create(name="confused", **account)
    with pytest.raises(cloudflare.NotFoundError, match="this is a client id"):
        tokens.get(created.client_id, **account)


def test_token_of_another_account_is_not_found(control_plane: ControlPlane, tokens: ServiceTokensResource) -> None:
    other = control_plane.sdk().accounts.create(name="Other", type="standard")
    foreign = tokens.create(name="foreign", account_id=other.id)
    with pytest.raises(cloudflare.NotFoundError):
        tokens.get(foreign.id, account_id=control_plane.account_id)
    with pytest.raises(cloudflare.NotFoundError):
        tokens.delete(foreign.id, account_id=control_plane.account_id)


def test_zone_form_is_refused_with_a_sentence(control_plane: ControlPlane, tokens: ServiceTokensResource) -> None:
    with pytest.raises(cloudflare.BadRequestError, match="Foregate has no zones"):
        tokens.create(name="zoned", zone_id=control_plane.account_id)


def test_lists_end_and_lose_nothing(control_plane: ControlPlane) -> None:
    sdk = control_plane.sdk()
    account = sdk.accounts.create(name="Lists", type="standard").id
    tokens = sdk.zero_trust.access.service_tokens
    made = [tokens.create(name=f"n{number}", account_id=account).id for number in range(7)]
    assert [token.id for token in tokens.list(account_id=account)] == made
    assert [token.id for token in tokens.list(account_id=account, per_page=3)] == made
    assert [token.name for token in tokens.list(account_id=account, name="n5")] == ["n5"]
    assert [token.name for token in tokens.list(account_id=account, search="N")] == [f"n{n}" for n in range(7)]
    assert list(tokens.list(account_id=account, search="%")) == []


def test_list_says_how_much_there_is(control_plane: ControlPlane) -> None:
    account = control_plane.sdk().accounts.create(name="Counts", type="standard").id
    for number in range(5):
        control_plane.sdk().zero_trust.access.service_tokens.create(name=f"n{number}", account_id=account)
    infos = [
        control_plane.request("GET", TOKENS, account_id=account, params={"page": page, "per_page": 2}).json()[
            "result_info"
        ]
        for page in (1, 3, 4)
    ]
    counts = {"per_page": 2, "total_count": 5, "total_pages": 3}
    assert infos == [
        {"page": 1, "count": 2, **counts},
        {"page": 3, "count": 1, **counts},
        {"page": 4, "count": 0, **counts},
    ]
