"""What the calls about applications take, as pydantic models: form alone, no decisions.

`application_rules.py` makes drafts of these.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from foregate.access.applications.bodies import POLICY_EXAMPLE, Duration, PolicyItems
from foregate.api.neutral import OnlyEmpty, OnlyFalse, OnlyPublic, OnlyTrue, OwnValue, ReadOnly
from foregate.api.paging import PageQuery
from foregate.api.parameters import BodyModel
from foregate.api.texts import DisplayName

MAX_DESTINATIONS = 100


def _self_hosted(value: Any) -> Any:
    if value != "self_hosted":
        raise ValueError("Foregate protects applications of the type 'self_hosted' only")
    return value


def _public(value: Any) -> Any:
    if value not in ("public", None):
        raise ValueError("Foregate protects destinations of the type 'public' only")
    return "public"


ApplicationType = Annotated[str, BeforeValidator(_self_hosted), WithJsonSchema({"const": "self_hosted"})]
Address = Annotated[str, Field(max_length=2048)]


class DestinationBody(BodyModel):
    """A public host and path that the application covers."""

    type: Annotated[str, BeforeValidator(_public), WithJsonSchema({"const": "public"})] = "public"
    uri: Address
    overrides: OnlyEmpty = None
    cidr: OnlyEmpty = None
    hostname: OnlyEmpty = None
    l4_protocol: OnlyEmpty = None
    port_range: OnlyEmpty = None
    vnet_id: OnlyEmpty = None
    mcp_server_id: OnlyEmpty = None
    worker_id: OnlyEmpty = None


APPLICATION_NEUTRAL = (
    "allow_authenticate_via_warp",
    "allow_iframe",
    "app_launcher_visible",
    "auto_redirect_to_identity",
    "eager_redirect_cookie_setting",
    "enable_binding_cookie",
    "http_only_cookie_attribute",
    "options_preflight_bypass",
    "path_cookie_attribute",
    "skip_app_launcher_login_page",
    "skip_interstitial",
    "use_clientless_isolation_app_launcher_url",
)


class ApplicationBody(BodyModel):
    """POST and PUT of an application. A PUT replaces all of it; left-out `policies` stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "self_hosted",
                    "name": "Billing",
                    "domain": "billing.example.com",
                    "session_duration": "24h",
                    "policies": [POLICY_EXAMPLE],
                }
            ]
        }
    )

    type: ApplicationType
    name: DisplayName | None = None
    domain: Address | None = None
    destinations: Annotated[list[DestinationBody], Field(max_length=MAX_DESTINATIONS)] | None = None
    self_hosted_domains: Annotated[list[Address], Field(max_length=MAX_DESTINATIONS)] | None = None
    session_duration: Duration | None = None
    service_auth_401_redirect: bool | None = None
    read_service_tokens_from_header: Annotated[str, Field(max_length=128)] | None = None
    policies: PolicyItems | None = None
    id: OwnValue = None
    aud: OwnValue = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None
    # There is no launcher, so an application is as hidden from it as `false` asks for.
    app_launcher_visible: bool | None = None
    allow_authenticate_via_warp: OnlyFalse = None
    allow_iframe: OnlyFalse = None
    allowed_idps: OnlyEmpty = None
    app_launcher_logo_url: OnlyEmpty = None
    auto_redirect_to_identity: OnlyFalse = None
    bg_color: OnlyEmpty = None
    cors_headers: OnlyEmpty = None
    custom_deny_message: OnlyEmpty = None
    custom_deny_url: OnlyEmpty = None
    custom_non_identity_deny_url: OnlyEmpty = None
    custom_pages: OnlyEmpty = None
    domain_type: OnlyPublic = None
    eager_redirect_cookie_setting: OnlyTrue = None
    enable_binding_cookie: OnlyFalse = None
    footer_links: OnlyEmpty = None
    gateway_rules: OnlyEmpty = None
    header_bg_color: OnlyEmpty = None
    http_only_cookie_attribute: OnlyTrue = None
    landing_page_design: OnlyEmpty = None
    logo_url: OnlyEmpty = None
    mfa_config: OnlyEmpty = None
    oauth_configuration: OnlyEmpty = None
    options_preflight_bypass: OnlyFalse = None
    path_cookie_attribute: OnlyFalse = None
    private_address: OnlyEmpty = None
    saas_app: OnlyEmpty = None
    same_site_cookie_attribute: OnlyEmpty = None
    scim_config: OnlyEmpty = None
    skip_app_launcher_login_page: OnlyFalse = None
    skip_interstitial: OnlyFalse = None
    tags: OnlyEmpty = None
    target_criteria: OnlyEmpty = None
    use_clientless_isolation_app_launcher_url: OnlyFalse = None


class ApplicationsQuery(PageQuery):
    """Filters of the list of applications. `exact` asks for whole names and domains, else parts do."""

    name: str | None = None
    domain: str | None = None
    aud: str | None = None
    search: str | None = None
    exact: bool = False
