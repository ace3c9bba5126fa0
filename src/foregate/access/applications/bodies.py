"""What the calls about policies and groups take, as pydantic models: form alone, no decisions.

A member that is not named here is refused by its name; members of people's logins pass in their neutral value only.
`rules.py` makes drafts of these; applications stand in `application_bodies.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from foregate.api.neutral import OnlyEmpty, OnlyFalse, OnlyZero, OwnValue, ReadOnly
from foregate.api.paging import PageQuery
from foregate.api.parameters import BodyModel, WholeNumber
from foregate.api.texts import DisplayName

MAX_SELECTORS = 1000
MAX_POLICIES = 100


def _machine_decision(value: Any) -> Any:
    if value == "allow":
        raise ValueError(
            "'allow' asks people to log in, and Foregate checks machines: use 'non_identity' (Service Auth)"
        )
    if value not in ("non_identity", "bypass", "deny"):
        raise ValueError("should be 'non_identity' (Service Auth), 'bypass' or 'deny'")
    return value


DecisionName = Annotated[
    str, BeforeValidator(_machine_decision), WithJsonSchema({"enum": ["non_identity", "bypass", "deny"]})
]
Duration = Annotated[str, Field(max_length=64, description="A Go duration, such as 30m or 24h.")]
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

    @model_validator(mode="before")
    @classmethod
    def _name_unknown(cls, value: Any) -> Any:
        # "Leave it out" would be bad advice: the policy would then match others than its author meant.
        unknown = [name for name in value if name not in cls.model_fields] if isinstance(value, dict) else []
        if unknown:
            known = ", ".join(cls.model_fields)
            raise ValueError(f"Foregate has no selector {str(unknown[0])[:64]!r}, only {known}")
        return value

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


POLICY_EXAMPLE: dict[str, Any] = {
    "name": "Any machine of ours",
    "decision": "non_identity",
    "include": [{"any_valid_service_token": {}}],
}


class ReusablePolicyBody(PolicyMembers):
    """POST and PUT of a reusable policy."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**POLICY_EXAMPLE, "session_duration": "24h"}]})

    name: DisplayName
    decision: DecisionName
    id: OwnValue = None
    precedence: OnlyZero = None


class ApplicationPolicyBody(PolicyMembers):
    """POST and PUT of a policy of one application."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**POLICY_EXAMPLE, "precedence": 1}]})

    name: DisplayName
    decision: DecisionName
    id: OwnValue = None
    precedence: Precedence | None = None


class PolicyItem(PolicyMembers):
    """An item of an application's `policies`: a link {id, precedence}, or a policy of the application's own."""

    id: str | None = None
    precedence: Precedence | None = None
    name: DisplayName | None = None
    decision: DecisionName | None = None


def _bare_id(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


PolicyItems = Annotated[
    list[Annotated[PolicyItem, BeforeValidator(_bare_id, json_schema_input_type=str | PolicyItem)]],
    Field(max_length=MAX_POLICIES),
]


class GroupBody(ConditionsBody):
    """POST and PUT of a group."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Office", "include": [{"ip": {"ip": "192.0.2.0/24"}}]}]}
    )

    name: DisplayName
    is_default: OnlyFalse = None
    id: OwnValue = None
    uid: OwnValue = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None


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
