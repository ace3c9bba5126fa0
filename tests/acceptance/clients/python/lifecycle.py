"""The life cycle of tokens, applications, policies, groups and tunnels through the unmodified official SDK.

After each step one JSON line {"step", "value"} goes to stdout, and the program waits for a line on stdin: meanwhile
the test looks at the edge. `../test_life_cycle.py` says what every step must show.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudflare import APIStatusError, Cloudflare

ACCOUNT = os.environ["CLOUDFLARE_ACCOUNT_ID"]
PREFIX = os.environ["LIFE_CYCLE_PREFIX"]
HOSTNAME = os.environ["LIFE_CYCLE_HOSTNAME"]

# Base URL and API token come from CLOUDFLARE_BASE_URL and CLOUDFLARE_API_TOKEN, as `foregate env` exports them.
client = Cloudflare()
access = client.zero_trust.access
tokens = access.service_tokens


def main() -> None:
    identity()
    token = tokens.create(account_id=ACCOUNT, name=f"{PREFIX} token", duration="2160h")
    emit("token", token)
    tunnel_id = tunnel()
    group_id = group(token.id)
    policy_id = policy(group_id)
    app_id = application(policy_id)
    listed()
    rotations(token.id)
    switches(token.id)
    emit(
        "refusals",
        {
            "in_use": refusal(lambda: tokens.delete(token.id, account_id=ACCOUNT)),
            "bad_duration": refusal(lambda: tokens.create(account_id=ACCOUNT, name=PREFIX, duration="a year")),
            "unknown": refusal(lambda: tokens.get("00000000-0000-4000-8000-000000000000", account_id=ACCOUNT)),
        },
    )
    organization_and_keys()
    emit("requests", access.logs.access_requests.list(account_id=ACCOUNT, limit=100))
    removed(token.id, tunnel_id, group_id, policy_id, app_id)


def identity() -> None:
    verified = client.user.tokens.verify()
    account = client.accounts.get(account_id=ACCOUNT)
    emit("identity", {"status": verified.status, "account_id": account.id, "accounts": ids_of(client.accounts.list())})


def tunnel() -> str:
    tunnels = client.zero_trust.tunnels.cloudflared
    made = tunnels.create(account_id=ACCOUNT, name=PREFIX, config_src="cloudflare")
    ingress = [
        {"hostname": HOSTNAME, "service": os.environ["LIFE_CYCLE_ORIGIN"]},
        {"hostname": "", "service": "http_status:404"},
    ]
    tunnels.configurations.update(made.id, account_id=ACCOUNT, config={"ingress": ingress})
    found = tunnels.configurations.get(made.id, account_id=ACCOUNT)
    rules = [{"hostname": rule.hostname, "service": rule.service} for rule in found.config.ingress]
    kept = ids_of(tunnels.list(account_id=ACCOUNT, is_deleted=False))
    emit("tunnel", {"id": made.id, "listed": kept, "ingress": rules})
    return made.id


def group(token_id: str) -> str:
    include = [{"service_token": {"token_id": token_id}}]
    made = access.groups.create(account_id=ACCOUNT, name=f"{PREFIX} group", include=include)
    exclude = [{"ip": {"ip": "192.0.2.0/24"}}]
    access.groups.update(made.id, account_id=ACCOUNT, name=f"{PREFIX} group", include=include, exclude=exclude)
    emit("group", access.groups.get(made.id, account_id=ACCOUNT))
    return made.id


def policy(group_id: str) -> str:
    made = access.policies.create(
        account_id=ACCOUNT, name=f"{PREFIX} policy", decision="non_identity", include=[{"group": {"id": group_id}}]
    )
    emit("policy", access.policies.get(made.id, account_id=ACCOUNT))
    return made.id


def application(policy_id: str) -> str:
    app = {"account_id": ACCOUNT, "type": "self_hosted", "name": f"{PREFIX} app", "domain": HOSTNAME}
    made = access.applications.create(**app, session_duration="1h", policies=[{"id": policy_id, "precedence": 1}])
    emit("app", access.applications.get(made.id, account_id=ACCOUNT))
    access.applications.update(made.id, **app, session_duration="1h", service_auth_401_redirect=True)
    emit("app changed", access.applications.get(made.id, account_id=ACCOUNT))
    return made.id


def listed() -> None:
    found = {
        "tokens": ids_of(tokens.list(account_id=ACCOUNT)),
        "apps": ids_of(access.applications.list(account_id=ACCOUNT)),
        "policies": ids_of(access.policies.list(account_id=ACCOUNT)),
        "groups": ids_of(access.groups.list(account_id=ACCOUNT)),
    }
    emit("listed", found)


def rotations(token_id: str) -> None:
    tokens.update(token_id, account_id=ACCOUNT, name=f"{PREFIX} renamed")
    emit("renamed", tokens.get(token_id, account_id=ACCOUNT))
    overlap = {"account_id": ACCOUNT, "previous_client_secret_expires_at": in_hours(1)}
    emit("rotated with overlap", tokens.rotate(token_id, **overlap))
    tokens.update(token_id, account_id=ACCOUNT, client_secret_version=2, previous_client_secret_expires_at=in_hours(-1))
    emit("previous secret ended", tokens.get(token_id, account_id=ACCOUNT))
    emit("rotated at once", tokens.rotate(token_id, account_id=ACCOUNT))
    bump = {**overlap, "client_secret_version": 4}
    emit("rotated by version", tokens.update(token_id, **bump))
    emit("version repeated", tokens.update(token_id, **bump))


def switches(token_id: str) -> None:
    emit("refreshed", tokens.refresh(token_id, account_id=ACCOUNT))
    emit("disabled", tokens.update(token_id, account_id=ACCOUNT, enabled=False))
    emit("enabled", tokens.update(token_id, account_id=ACCOUNT, enabled=True))
    made = tokens.create(account_id=ACCOUNT, name=f"{PREFIX} forever", duration="forever")
    deleted = tokens.delete(made.id, account_id=ACCOUNT)
    emit("forever", {"created": made.to_dict(mode="json"), "deleted_id": deleted.id})


def organization_and_keys() -> None:
    found = client.zero_trust.organizations.list(account_id=ACCOUNT)
    updated = client.zero_trust.organizations.update(account_id=ACCOUNT, name=f"{PREFIX} organization")
    emit("organization", {"auth_domain": found.auth_domain, "name": updated.name})
    before = access.keys.get(account_id=ACCOUNT)
    access.keys.update(account_id=ACCOUNT, key_rotation_interval_days=42)
    after = access.keys.rotate(account_id=ACCOUNT)
    emit("keys", {"before": before.to_dict(mode="json"), "after": after.to_dict(mode="json")})


def removed(token_id: str, tunnel_id: str, group_id: str, policy_id: str, app_id: str) -> None:
    access.applications.revoke_tokens(app_id, account_id=ACCOUNT)
    found = {
        "app": access.applications.delete(app_id, account_id=ACCOUNT).id,
        "policy": access.policies.delete(policy_id, account_id=ACCOUNT).id,
        "group": access.groups.delete(group_id, account_id=ACCOUNT).id,
        "tunnel": client.zero_trust.tunnels.cloudflared.delete(tunnel_id, account_id=ACCOUNT).id,
        "token": tokens.delete(token_id, account_id=ACCOUNT).id,
        "gone": refusal(lambda: tokens.get(token_id, account_id=ACCOUNT)),
    }
    emit("removed", found)


def emit(step: str, value: Any) -> None:
    print(json.dumps({"step": step, "value": to_json(value)}), flush=True)
    if not sys.stdin.readline():
        raise SystemExit(f"the test went away at {step}")


def to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return value.to_dict(mode="json") if hasattr(value, "to_dict") else value


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    try:
        call()
    except APIStatusError as error:
        return {"status": error.status_code, "code": error.errors[0].code}
    raise SystemExit("the call was expected to be refused")


def ids_of(items: Iterable[Any]) -> list[str]:
    return [item.id for item in items]


def in_hours(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


if __name__ == "__main__":
    main()
