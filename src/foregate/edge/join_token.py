"""A join token as a person carries it to the new machine: the secret, and the fingerprint of the feed's CA, so that
whoever holds it talks to no other control plane."""

from __future__ import annotations

import base64

from foregate.core.errors import ForegateError, invalid
from foregate.core.secrets import EDGE_JOIN_TOKEN_PREFIX, Secret, parse_secret
from foregate.edge.feed_authority import FeedAuthority, fingerprint_of

_FINGERPRINT_BYTES = 32


def write_join_token(secret: Secret, authority: FeedAuthority) -> Secret:
    """The text."""
    fingerprint = base64.urlsafe_b64encode(fingerprint_of(authority.certificate)).rstrip(b"=").decode()
    return Secret(f"{secret.reveal()}.{fingerprint}")


def read_join_token(text: str) -> tuple[Secret, bytes]:
    """The secret, and the fingerprint of the only CA to trust. ForegateError(INVALID_INPUT) for no whole join token."""
    secret, _, fingerprint = text.strip().partition(".")
    try:
        decoded = base64.urlsafe_b64decode(fingerprint + "=" * (-len(fingerprint) % 4))
        if len(decoded) == _FINGERPRINT_BYTES:
            return parse_secret(secret, EDGE_JOIN_TOKEN_PREFIX), decoded
    except (ForegateError, ValueError):
        pass
    raise invalid("This is not a whole join token; copy all of what foregate edge token create printed.")
