"""Tunnels and their ingress, driven with the official Python SDK against the real application."""

from __future__ import annotations

import itertools
from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare
from cloudflare.resources.zero_trust.tunnels.cloudflared import CloudflaredResource

from acceptance.api.control_plane import ControlPlane
from foregate.tunnels.edge_config import compile_record

TUNNELS = "/accounts/{account_id}/cfd_tunnel"
LAST = {"hostname": "", "service": "http_status:404"}
_numbers = itertools.count(1)


@pytest.fixture
def tunnels(control_plane: ControlPlane) -> CloudflaredResource:
    return control_plane.sdk().zero_trust.tunnels.cloudflared


@pytest.fixture
def account(control_plane: ControlPlane) -> dict[str, str]:
    return {"account_id": control_plane.account_id}


def name() -> str:
    """A name and host that no other test has."""
    return f"tunnel-{next(_numbers)}.example.com"


def record_of(control_plane: ControlPlane, hostname: str) -> dict[str, Any] | None:
    """What an edge would be told of the host now."""
    with control_plane.database.database.read() as connection:
        return compile_record(connection, hostname)


def services(control_plane: ControlPlane, hostname: str) -> list[str] | None:
    """The services behind a host, in order."""
    record = record_of(control_plane, hostname)
    return None if record is None else [rule["service"] for rule in record["rules"]]


def configure(control_plane: ControlPlane, tunnel_id: str | None, *rules: dict[str, Any]) -> Any:
    """PUT these rules and the last one; the answer."""
    body = {"config": {"ingress": [*rules, {"service": "http_status:404"}]}}
    return control_plane.request("PUT", f"{TUNNELS}/{tunnel_id}/configurations", json=body)


def test_a_tunnel_says_where_an_origin_is(
    control_plane: ControlPlane, tunnels: CloudflaredResource, account: dict[str, str]
) -> None:
    host = name()
    tunnel = tunnels.create(name=host, config_src="cloudflare", **account)
    written = tunnels.configurations.update(
        tunnel.id or "",
        config={
            "ingress": [
                {"hostname": host, "path": "^/api", "service": "http://127.0.0.1:9000",
                 "origin_request": {"connect_timeout": 3, "no_tls_verify": False}},
                {"hostname": host, "service": "https://origin:8443"},
                LAST,  # type: ignore[list-item]
            ],
            "origin_request": {"tls_timeout": 4},
        },
        **account,
    )  # fmt: skip
    got = tunnels.configurations.get(tunnel.id or "", **account)
    assert written is not None and got is not None
    assert written.to_dict() == got.to_dict()
    assert (got.version, got.source, got.tunnel_id) == (1, "cloudflare", tunnel.id)
    record = record_of(control_plane, host)
    assert record is not None
    assert [(rule["path"], rule["service"]) for rule in record["rules"]] == [
        ("^/api", "http://127.0.0.1:9000"),
        ("", "https://origin:8443"),
    ]
    first = record["rules"][0]["origin"]
    assert (first["connect_timeout_seconds"], first["tls_timeout_seconds"]) == (3, 4)


def test_a_configuration_comes_back_as_it_was_written(control_plane: ControlPlane) -> None:
    made = control_plane.request("POST", TUNNELS, json={"name": name()}).json()["result"]
    path = f"{TUNNELS}/{made['id']}/configurations"
    before = control_plane.request("GET", path).json()["result"]
    assert (before["version"], before["config"]) == (0, {"ingress": []})
    host = name()
    config = {
        "ingress": [
            {"hostname": host, "service": "https://origin", "originRequest": {"noTLSVerify": True, "proxyType": ""}},
            {"service": "http_status:404"},
        ],
        "warp-routing": {"enabled": False},
    }
    sent = {"config": {**config, "originRequest": None}}
    assert control_plane.request("PUT", path, json=sent).json()["result"]["config"] == config
    again = control_plane.request("PUT", path, json=control_plane.request("GET", path).json()["result"])
    assert (again.status_code, again.json()["result"]["version"]) == (200, 2)


def test_a_host_that_is_no_longer_named_loses_its_origin(control_plane: ControlPlane) -> None:
    first, second = name(), name()
    tunnel = control_plane.request("POST", TUNNELS, json={"name": first}).json()["result"]["id"]
    configure(control_plane, tunnel, {"hostname": first, "service": "http://o:1"})
    answer = configure(control_plane, tunnel, {"hostname": second, "service": "http://o:2"})
    assert int(answer.headers["Foregate-Change"]) in control_plane.committed
    assert (services(control_plane, first), services(control_plane, second)) == (None, ["http://o:2"])
    with control_plane.database.database.read() as connection:
        keys = connection.exec_driver_sql("SELECT record_key FROM outbox ORDER BY seq DESC LIMIT 2").scalars()
        assert set(keys) == {f"ingress/{first}", f"ingress/{second}"}


def test_one_host_belongs_to_one_tunnel(control_plane: ControlPlane) -> None:
    host = name()
    one, two = (control_plane.request("POST", TUNNELS, json={"name": name()}).json()["result"] for _ in range(2))
    assert configure(control_plane, one["id"], {"hostname": host, "service": "http://o:1"}).status_code == 200
    refused = configure(control_plane, two["id"], {"hostname": host.upper(), "service": "http://o:2"})
    assert refused.status_code == 400 and one["name"] in refused.json()["errors"][0]["message"]
    assert services(control_plane, host) == ["http://o:1"]


def test_names_are_unique_among_living_tunnels(tunnels: CloudflaredResource, account: dict[str, str]) -> None:
    first = tunnels.create(name=name(), **account)
    with pytest.raises(cloudflare.APIStatusError) as refused:
        tunnels.create(name=first.name or "", **account)
    assert refused.value.status_code < 500 and refused.value.errors[0].code == 1013
    tunnels.delete(first.id or "", **account)
    assert tunnels.create(name=first.name or "", **account).id != first.id


def test_a_tunnel_is_renamed_found_and_deleted(
    control_plane: ControlPlane, tunnels: CloudflaredResource, account: dict[str, str]
) -> None:
    host = name()
    tunnel = tunnels.create(name=host, **account)
    configure(control_plane, tunnel.id, {"hostname": host, "service": "http://o:1"})
    renamed = tunnels.edit(tunnel.id or "", name=f"new {host}", **account)
    assert tunnels.get(tunnel.id or "", **account).name == renamed.name == f"new {host}"
    deleted = tunnels.delete(tunnel.id or "", **account)
    assert deleted.deleted_at is not None and services(control_plane, host) is None
    assert tunnels.get(tunnel.id or "", **account).deleted_at == deleted.deleted_at
    with pytest.raises(cloudflare.NotFoundError) as refused:
        tunnels.delete(tunnel.id or "", **account)
    assert refused.value.errors[0].code == 1003
    assert configure(control_plane, tunnel.id, {"hostname": host, "service": "http://o:1"}).status_code == 404


def test_tunnels_are_listed_and_filtered(tunnels: CloudflaredResource, account: dict[str, str]) -> None:
    living, gone = (tunnels.create(name=f"list-{name()}", **account) for _ in range(2))
    tunnels.delete(gone.id or "", **account)

    def ids(**filters: Any) -> set[str | None]:
        return {tunnel.id for tunnel in tunnels.list(**account, **filters)}

    assert {living.id, gone.id} <= ids(per_page=1)
    assert living.id in ids(is_deleted=False) and gone.id not in ids(is_deleted=False)
    assert gone.id in ids(is_deleted=True) and living.id not in ids(is_deleted=True)
    assert ids(name=living.name or "") == {living.id} == ids(uuid=living.id or "")
    assert ids(include_prefix="list-tunnel") >= {living.id, gone.id}
    assert living.id not in ids(exclude_prefix="list-")
    assert living.id not in ids(existed_at="2020-01-01T00:00:00Z")


def test_a_connectors_secret_is_taken_and_kept_nowhere(control_plane: ControlPlane) -> None:
    """Go's older SDK makes no tunnel without one."""
    secret = "qrvM3e7/ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJk="
    answer = control_plane.request("POST", TUNNELS, json={"name": name(), "tunnel_secret": secret})
    assert answer.status_code == 200 and secret not in answer.text
    with control_plane.database.database.read() as connection:
        for table in ("tunnels", "history", "audit"):
            assert secret not in str(connection.exec_driver_sql(f"SELECT * FROM {table}").fetchall())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x", "config_src": "local"},
        {"name": "x", "tunnel_secret": "c2hvcnQ="},
        {"name": "x", "tunnel_secret": "no base64, but long enough to be a password of some kind"},
        {"name": "x", "metadata": {}},
    ],
    ids=["empty", "no name", "local", "short secret", "secret that is no base64", "unknown member"],
)
def test_tunnels_that_cannot_be_are_refused_with_a_sentence(control_plane: ControlPlane, body: dict[str, Any]) -> None:
    answer = control_plane.request("POST", TUNNELS, json=body)
    assert answer.status_code == 400 and answer.json()["errors"][0]["message"].endswith(".")


def test_a_refused_configuration_leaves_the_one_before(control_plane: ControlPlane) -> None:
    host = name()
    tunnel = control_plane.request("POST", TUNNELS, json={"name": host}).json()["result"]["id"]
    configure(control_plane, tunnel, {"hostname": host, "service": "http://o:1"})
    for rule in ({"hostname": host, "service": "ssh://o:22"}, {"hostname": "a:1", "service": "http://o:1"}):
        assert configure(control_plane, tunnel, rule).status_code == 400
    assert control_plane.request("GET", f"{TUNNELS}/{tunnel}/configurations").json()["result"]["version"] == 1
    assert services(control_plane, host) == ["http://o:1"]


def test_another_accounts_tunnels_are_out_of_reach(control_plane: ControlPlane) -> None:
    sdk: Cloudflare = control_plane.sdk()
    other = sdk.accounts.create(name="Other")
    assert other is not None
    host = name()
    tunnel = control_plane.request("POST", TUNNELS, json={"name": "their secret"}).json()["result"]["id"]
    configure(control_plane, tunnel, {"hostname": host, "service": "http://o:1"})
    path = f"/accounts/{other.id}/cfd_tunnel"
    assert control_plane.request("GET", f"{path}/{tunnel}").status_code == 404
    mine = control_plane.request("POST", path, json={"name": "mine"}).json()["result"]["id"]
    body = {"config": {"ingress": [{"hostname": host, "service": "http://evil:1"}, LAST]}}
    refused = control_plane.request("PUT", f"{path}/{mine}/configurations", json=body)
    assert refused.status_code == 400 and "their secret" not in refused.text
    assert services(control_plane, host) == ["http://o:1"]
