"""What the calls about applications, policies and groups take, as pydantic models: form alone, no decisions.

A member that is not named here is refused by its name; members of people's logins pass in their neutral value only.
`rules.py` and `application_rules.py` make drafts of these.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from foregate.api.neutral import OnlyEmpty, OnlyFalse, OnlyPublic, OnlyTrue, OnlyZero, ReadOnly
from foregate.api.paging import PageQuery
from foregate.api.parameters import BodyModel, WholeNumber

MAX_SELECTORS = 1000
MAX_POLICIES = 100
MAX_DESTINATIONS = 100


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("should hold more than blanks")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("should be one line without control characters")
    return text


def _self_hosted(value: Any) -> Any:
    if value != "self_hosted":
        raise ValueError("Foregate protects applications of the type 'self_hosted' only")
    return value


def _machine_decision(value: Any) -> Any:
    if value == "allow":
        raise ValueError(
            "'allow' asks people to log in, and Foregate checks machines: use 'non_identity' (Service Auth)"
        )
    if value not in ("non_identity", "bypass", "deny"):
        raise ValueError("should be 'non_identity' (Service Auth), 'bypass' or 'deny'")
    return value


def _public(value: Any) -> Any:
    if value not in ("public", None):
        raise ValueError("Foregate protects destinations of the type 'public' only")
    return "public"


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_line)]
ApplicationType = Annotated[str, BeforeValidator(_self_hosted), WithJsonSchema({"const": "self_hosted"})]
DecisionName = Annotated[
    str, BeforeValidator(_machine_decision), WithJsonSchema({"enum": ["non_identity", "bypass", "deny"]})
]
Duration = Annotated[str, Field(max_length=64, description="A Go duration, such as 30m or 24h.")]
Address = Annotated[str, Field(max_length=2048)]
Precedence = Annotated[WholeNumber, Field(ge=0, le=1_000_000, description="Lower is looked at first; 0: not given.")]


class ServiceTokenBody(BodyModel):
    """A service token by its id (a UUID)."""

    token_id: str


class IpBody(BodyModel):
    """A network or an address."""

    ip: Annotated[str, Field(max_length=64, description="CIDR, such as 192.0.2.0/24 or 2001:db8::/32.")]


class GroupBodyId(BodyModel):
    """An Access group by its id."""

    id: str


class EmptyBody(BodyModel):
    """{}"""


class SelectorBody(BodyModel):
    """One item of include, exclude or require: exactly one member."""

    service_token: ServiceTokenBody | None = None
    any_valid_service_token: EmptyBody | None = None
    everyone: EmptyBody | None = None
    ip: IpBody | None = None
    group: GroupBodyId | None = None


Selectors = Annotated[list[SelectorBody], Field(max_length=MAX_SELECTORS)]


class ConditionsBody(BodyModel):
    """Any of include, all of require, none of exclude."""

    include: Selectors | None = None
    exclude: Selectors | None = None
    require: Selectors | None = None


POLICY_NEUTRAL = (
    "approval_required",
    "approval_groups",
    "isolation_required",
    "purpose_justification_required",
    "purpose_justification_prompt",
    "mfa_config",
    "connection_rules",
)


class PolicyMembers(ConditionsBody):
    """What a policy is made of."""

    session_duration: Duration | None = None
    approval_required: OnlyFalse = None
    approval_groups: OnlyEmpty = None
    isolation_required: OnlyFalse = None
    purpose_justification_required: OnlyFalse = None
    purpose_justification_prompt: OnlyEmpty = None
    mfa_config: OnlyEmpty = None
    connection_rules: OnlyEmpty = None
    reusable: ReadOnly = None
    app_count: ReadOnly = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None


class ReusablePolicyBody(PolicyMembers):
    """POST and PUT of a reusable policy."""

    name: Name
    decision: DecisionName
    id: ReadOnly = None
    precedence: OnlyZero = None


class ApplicationPolicyBody(PolicyMembers):
    """POST and PUT of a policy of one application."""

    name: Name
    decision: DecisionName
    id: ReadOnly = None
    precedence: Precedence | None = None


class PolicyItem(PolicyMembers):
    """An item of an application's `policies`: a link {id, precedence}, or a policy of the application's own."""

    id: str | None = None
    precedence: Precedence | None = None
    name: Name | None = None
    decision: DecisionName | None = None


def _bare_id(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


PolicyItems = Annotated[
    list[Annotated[PolicyItem, BeforeValidator(_bare_id, json_schema_input_type=str | PolicyItem)]],
    Field(max_length=MAX_POLICIES),
]


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

    type: ApplicationType
    name: Name | None = None
    domain: Address | None = None
    destinations: Annotated[list[DestinationBody], Field(max_length=MAX_DESTINATIONS)] | None = None
    self_hosted_domains: Annotated[list[Address], Field(max_length=MAX_DESTINATIONS)] | None = None
    session_duration: Duration | None = None
    service_auth_401_redirect: bool | None = None
    read_service_tokens_from_header: Annotated[str, Field(max_length=128)] | None = None
    policies: PolicyItems | None = None
    id: ReadOnly = None
    aud: ReadOnly = None
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


class GroupBody(ConditionsBody):
    """POST and PUT of a group."""

    name: Name
    is_default: OnlyFalse = None
    id: ReadOnly = None
    uid: ReadOnly = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None


class ApplicationsQuery(PageQuery):
    """Filters of the list of applications. `exact` asks for whole names and domains, else parts do."""

    name: str | None = None
    domain: str | None = None
    aud: str | None = None
    search: str | None = None
    exact: bool = False


class GroupsQuery(PageQuery):
    """Filters of the list of groups."""

    name: str | None = None
    search: str | None = None


class PoliciesQuery(PageQuery):
    """The list of policies. Cloudflare documents 100 as its default page."""

    per_page: Annotated[int, Field(ge=1, le=1000, description="Items on a page.")] = 100
    # The old Go SDK writes a field of its own into the query: empty here, the application's id on the list below.
    application_id: Annotated[OnlyEmpty, Field(alias="ApplicationID")] = None


class LinkedPoliciesQuery(PoliciesQuery):
    """The list of an application's policies. The path says whose; what the old Go SDK repeats is not looked at."""

    application_id: Annotated[str | None, Field(alias="ApplicationID", max_length=36)] = None
