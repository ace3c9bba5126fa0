"""Service token credentials on a request: found, read, and checked against the token's record. Pure.

Two forms: the standard pair of headers, or one header of the application's choosing that carries JSON. Whatever is
presented but not of exactly one form is malformed: guessing which of two ids a caller meant would let one layer
check the first and another use the second. Source: reference page, 1.4 and 1.6.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime

from foregate.access.model import Credentials, Denied, Request
from foregate.core.clock import to_unix
from foregate.core.decision import Reason
from foregate.core.ids import CLIENT_ID
from foregate.edge.wire import SecretVersion, TokenValue

ID_HEADER = "cf-access-client-id"
SECRET_HEADER = "cf-access-client-secret"

_MALFORMED = Denied(Reason.CREDENTIALS_MALFORMED)


def read_credentials(request: Request, token_header: str) -> Credentials | Denied | None:
    """The credentials presented, None without any, Denied(CREDENTIALS_MALFORMED) where they are not of one form.

    `token_header` is the application's own header in lower case, or empty. A value in it that does not start with
    `{` is something else's (an Authorization scheme, say) and no concern of ours.
    """
    ids, secrets = request.values(ID_HEADER), request.values(SECRET_HEADER)
    own = request.values(token_header) if token_header else ()
    carries_own = any(value.startswith("{") for value in own)
    if not ids and not secrets and not carries_own:
        return None
    if carries_own:
        return _MALFORMED if ids or secrets or len(own) > 1 else _read_json(own[0])
    if len(ids) != 1 or len(secrets) != 1:
        return _MALFORMED
    return _checked(ids[0], secrets[0].encode("latin-1"))


def authenticate(
    credentials: Credentials,
    account_id: str,
    tokens: Mapping[str, TokenValue],
    peppers: Mapping[int, bytes],
    now: datetime,
) -> TokenValue | Denied:
    """The token of the credentials, if it is the account's, the secret is live, and it is enabled and not expired.

    Denied with the first reason that applies, in the order unknown, mismatch, superseded, disabled, expired: whoever
    does not know the secret learns nothing about the token's state, not even from the log's point of view.
    """
    token = tokens.get(credentials.client_id) if CLIENT_ID.fullmatch(credentials.client_id) else None
    if token is None or token.account_id != account_id:
        return Denied(Reason.TOKEN_UNKNOWN)
    version = next((v for v in token.secrets if _is_secret_of(v, credentials.secret, peppers)), None)
    moment = to_unix(now)
    if version is None:
        return Denied(Reason.SECRET_MISMATCH)
    if version.expires_at is not None and moment >= version.expires_at:
        return Denied(Reason.SECRET_SUPERSEDED)
    if not token.is_enabled:
        return Denied(Reason.TOKEN_DISABLED)
    if token.expires_at is not None and moment >= token.expires_at:
        return Denied(Reason.TOKEN_EXPIRED)
    return token


def _is_secret_of(version: SecretVersion, secret: bytes, peppers: Mapping[int, bytes]) -> bool:
    pepper = peppers.get(version.pepper_version)
    if pepper is None:
        return False
    return hmac.compare_digest(hmac.digest(pepper, secret, hashlib.sha256).hex(), version.digest)


def _read_json(value: str) -> Credentials | Denied:
    try:
        members = json.loads(value.encode("latin-1").decode("utf-8"), object_pairs_hook=tuple)
        # Members as pairs, so that a doubled name is seen; the text starts with `{`, so this is an object.
        by_name = {name.lower(): text for name, text in members}
        client_id, secret = by_name[ID_HEADER], by_name[SECRET_HEADER]
        if len(members) != 2 or not isinstance(client_id, str) or not isinstance(secret, str):
            return _MALFORMED
        return _checked(client_id, secret.encode())
    except (ValueError, KeyError, RecursionError):
        return _MALFORMED


def _checked(client_id: str, secret: bytes) -> Credentials | Denied:
    # A comma is how a proxy on the way folds two lines into one; neither an id nor a secret has one.
    if not client_id or not secret or "," in client_id or b"," in secret:
        return _MALFORMED
    return Credentials(client_id, secret)
