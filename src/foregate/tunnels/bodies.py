"""What the calls about tunnels take, as pydantic models: form alone, no decisions (`rules.py` decides).

Names are cloudflared's, in its own spelling. Members that steer a connector, which Foregate does not need, pass in
their neutral value only.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from foregate.api.neutral import OnlyEmpty, OnlyFalse, OnlyZero, ReadOnly, only
from foregate.api.paging import PageQuery
from foregate.api.parameters import BodyModel, WholeNumber
from foregate.api.texts import DisplayName

MAX_RULES = 1000


def _password(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("should be base64") from None
    if len(raw) < 32:
        raise ValueError("should hold at least 32 bytes")
    return text


def _managed_here(value: Any) -> Any:
    if value not in (None, "", "cloudflare"):
        raise ValueError("the ingress is kept here, not in a file beside a connector: use 'cloudflare'")
    return value


# A connector would present it. There are none: the edge itself connects to origins. Go's older SDK makes no tunnel
# without one, so it is checked for its form and then dropped: never kept, never shown.
TunnelSecret = Annotated[
    str,
    Field(max_length=1024, description="Checked for its form and dropped: no connector ever connects."),
    AfterValidator(_password),
]
ManagedHere = Annotated[Any, BeforeValidator(_managed_here), WithJsonSchema({"enum": [None, "", "cloudflare"]})]
Seconds = Annotated[WholeNumber, Field(ge=1, le=86_400, description="Whole seconds.")]


class TunnelCreate(BodyModel):
    """POST of a tunnel."""

    name: DisplayName
    config_src: ManagedHere = None
    tunnel_secret: TunnelSecret | None = None


class TunnelEdit(BodyModel):
    """PATCH of a tunnel."""

    name: DisplayName | None = None
    tunnel_secret: TunnelSecret | None = None


class OriginRequestBody(BodyModel):
    """How the edge speaks to an origin. What a rule leaves out comes from the configuration, then from defaults."""

    connectTimeout: Seconds | None = None
    tlsTimeout: Seconds | None = None
    tcpKeepAlive: Seconds | None = None
    keepAliveConnections: Annotated[WholeNumber, Field(ge=0, le=10_000)] | None = None
    keepAliveTimeout: Seconds | None = None
    httpHostHeader: Annotated[str, Field(max_length=253)] | None = None
    originServerName: Annotated[str, Field(max_length=253)] | None = None
    matchSNItoHost: bool | None = None
    noTLSVerify: bool | None = None
    http2Origin: bool | None = None
    caPool: (
        Annotated[
            str,
            Field(max_length=262_144, description="PEM text, or the path of a PEM file where the control plane runs."),
        ]
        | None
    ) = None
    access: OnlyEmpty = None
    bastionMode: OnlyFalse = None
    disableChunkedEncoding: OnlyFalse = None
    ipRules: OnlyEmpty = None
    noHappyEyeballs: OnlyFalse = None
    proxyAddress: Annotated[
        Any, BeforeValidator(only("127.0.0.1")), WithJsonSchema({"enum": [None, "", "127.0.0.1"]})
    ] = None
    proxyPort: OnlyZero = None
    proxyType: OnlyEmpty = None


class IngressRuleBody(BodyModel):
    """Which service answers for a host and a path. The last rule has neither and answers for the rest."""

    hostname: Annotated[str, Field(max_length=255)] | None = None
    path: Annotated[str, Field(max_length=1024, description="A regular expression looked for in the path.")] | None = (
        None
    )
    service: Annotated[str, Field(min_length=1, max_length=1024)]
    originRequest: OriginRequestBody | None = None
    id: ReadOnly = None


class WarpRoutingBody(BodyModel):
    """Private networks for devices: not supported."""

    enabled: OnlyFalse = None


class ConfigurationBody(BodyModel):
    """A tunnel's whole configuration."""

    ingress: Annotated[list[IngressRuleBody], Field(max_length=MAX_RULES)] | None = None
    originRequest: OriginRequestBody | None = None
    warp_routing: Annotated[WarpRoutingBody | None, Field(alias="warp-routing")] = None


class ConfigurationPut(BodyModel):
    """PUT of a tunnel's configuration."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "config": {
                        "ingress": [
                            {"hostname": "billing.example.com", "service": "https://billing.internal:8443"},
                            {"service": "http_status:404"},
                        ]
                    }
                }
            ]
        }
    )

    config: ConfigurationBody
    source: ManagedHere = None
    tunnel_id: ReadOnly = None
    version: ReadOnly = None
    account_id: ReadOnly = None
    created_at: ReadOnly = None


class TunnelsQuery(PageQuery):
    """Filters of the list. Without `is_deleted` the list has deleted tunnels too, as Cloudflare's."""

    name: str | None = None
    uuid: str | None = None
    is_deleted: bool | None = None
    existed_at: str | None = None
    include_prefix: str | None = None
    exclude_prefix: str | None = None
