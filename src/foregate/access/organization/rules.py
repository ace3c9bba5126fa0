"""What an organization must be, and when its signing key is replaced. Pure; `now` is an argument.

Source: reference page, sections 2.6 and 3.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from foregate.access.organization.bodies import NEUTRAL, OrganizationBody
from foregate.access.organization.model import KeySettings, OrganizationDraft
from foregate.api.neutral import kept_values
from foregate.core.durations import parse_duration
from foregate.core.errors import invalid
from foregate.core.targets import parse_pattern

# Six weeks, as at Cloudflare.
DEFAULT_INTERVAL_DAYS = 42
# How long the key before is published after a rotation: what validators keep (cloudflared: a day) has run out by then.
OVERLAP = timedelta(days=7)
_SHORTEST_SESSION = timedelta(minutes=15)
_LONGEST_SESSION = timedelta(days=31)


def amend(present: OrganizationDraft, body: OrganizationBody) -> OrganizationDraft:
    """The organization after a write: what the body says, and for the rest what was. Raises ForegateError."""
    changed = replace(present, kept=present.kept | kept_values(body, NEUTRAL))
    if body.name is not None:
        changed = replace(changed, name=body.name)
    if body.auth_domain is not None:
        changed = replace(changed, auth_domain=body.auth_domain)
        host_of(body.auth_domain, "/auth_domain")
    if body.session_duration:
        changed = replace(changed, session_duration=_session(body.session_duration))
    if body.deny_unmatched_requests is not None:
        changed = replace(changed, denies_unmatched=body.deny_unmatched_requests)
    names = body.deny_unmatched_requests_exempted_zone_names
    if names is not None:
        for position, name in enumerate(names):
            host_of(name, f"/deny_unmatched_requests_exempted_zone_names/{position}")
        changed = replace(changed, exempted_names=tuple(names))
    return changed


def host_of(text: str, pointer: str) -> str:
    """A host name in its canonical form: no scheme, port, path or wildcard. Raises ForegateError(INVALID_INPUT)."""
    if ":" in text or "/" in text or "*" in text:
        raise invalid("Give a host name alone, such as auth.example.com.", pointer=pointer)
    return parse_pattern(text, pointer=pointer).host


def next_rotation(settings: KeySettings) -> datetime:
    """When the key is due to be replaced."""
    return settings.last_rotated_at + timedelta(days=settings.rotation_interval_days)


def days_until_rotation(settings: KeySettings, now: datetime) -> int:
    """Whole days until the key is replaced, rounded up; 0 once it is due."""
    return max(0, -(-(next_rotation(settings) - now) // timedelta(days=1)))


def _session(text: str) -> str:
    if not _SHORTEST_SESSION <= parse_duration(text, pointer="/session_duration") <= _LONGEST_SESSION:
        raise invalid("An organization's session lasts from 15m to 744h (31 days).", pointer="/session_duration")
    return text
