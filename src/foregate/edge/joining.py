"""Joining, from the new edge's side: ask who the control plane is, compare that with the join token, send the token.

The token goes to nobody but the control plane that made it, and the private keys go to nobody. Blocking; called by
`services/joining.py`.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from dataclasses import dataclass, field
from typing import Any

import httpx

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.edge import sealed_box
from foregate.edge.feed_authority import SERVER_NAME
from foregate.edge.feed_tls import blind_context, client_context
from foregate.edge.join_token import read_join_token
from foregate.edge.membership import Membership
from foregate.edge.sealing import SealBroken

_TIMEOUT_SECONDS = 15.0
_MOST_AUTHORITY_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class JoinKeys:
    """The keys that a machine has made for itself. `request` asks for a certificate for `tls_key`; all PEM but the
    sealing key (32 bytes)."""

    tls_key: str = field(repr=False)
    request: str
    sealing_key: bytes = field(repr=False)


def join(
    control_plane: str, token: str, name: str, keys: JoinKeys, *, edge_id: str | None = None
) -> tuple[Membership, bytes]:
    """What this machine is from now on, and its sealed secrets. `control_plane`: https://host:port. `edge_id`: the edge
    that it was before. Safe to repeat with the same token and keys.

    ForegateError with a sentence: UNAVAILABLE where nobody answers, and whatever the control plane says.
    """
    url = _checked_url(control_plane)
    secret, fingerprint = read_join_token(token)
    authority = _ask_authority(url, fingerprint)
    body = {
        "token": secret.reveal(),
        "name": name,
        "request": keys.request,
        "sealing_key": base64.b64encode(sealed_box.public_key_of(keys.sealing_key)).decode(),
        **({} if edge_id is None else {"edge_id": edge_id}),
    }
    answer = _send(url, client_context(authority), "POST", "/edge/v1/join", body)
    try:
        found: dict[str, Any] = answer.json()
        membership = Membership(
            control_plane=url,
            edge_id=str(found["edge_id"]),
            name=str(found["name"]),
            group=str(found["group"]),
            certificate=str(found["certificate"]),
            authority=authority,
            tls_key=keys.tls_key,
            sealing_key=keys.sealing_key,
        )
        sealed = base64.b64decode(found["sealed"], validate=True)
        membership.open(sealed)
        client_context(authority, membership.pem)
    except (ValueError, KeyError, TypeError, SealBroken, ssl.SSLError) as error:
        raise _unavailable(f"What {url} answered is no join; run the Foregate of the same version here.") from error
    return membership, sealed


def _checked_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme != "https" or not url.host or url.path not in ("", "/") or url.query or url.userinfo:
        raise invalid("Give the control plane's feed as https://HOST:PORT, such as https://control.example.com:8401.")
    return str(url).rstrip("/")


def _ask_authority(url: str, fingerprint: bytes) -> str:
    """The control plane's CA, PEM, if it is the one that the token names."""
    answer = _send(url, blind_context(), "GET", "/edge/v1/authority", None)
    try:
        certificate = ssl.PEM_cert_to_DER_cert(answer.text[:_MOST_AUTHORITY_BYTES])
    except ValueError as error:
        raise _unavailable(
            f"What answers at {url} is not Foregate's feed; is it the port of FOREGATE_FEED_PORT?"
        ) from error
    if hashlib.sha256(certificate).digest() != fingerprint:
        raise invalid(
            f"This join token is not one of the control plane at {url}, so it was not sent there. Make one there, or "
            "give the address of the control plane that made it."
        )
    return answer.text


def _send(url: str, tls: ssl.SSLContext, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
    try:
        with httpx.Client(base_url=url, verify=tls, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            answer = client.request(method, path, json=body, extensions={"sni_hostname": SERVER_NAME})
    except (httpx.HTTPError, OSError) as error:
        raise _unavailable(f"The control plane at {url} does not answer ({error}); is its feed port open?") from error
    if answer.is_success:
        return answer
    try:
        message = str(answer.json()["errors"][0]["message"]).removeprefix("Authentication error: ")
    except (ValueError, LookupError, TypeError):
        raise _unavailable(f"What answers at {url} is not Foregate's feed (HTTP {answer.status_code}).") from None
    raise invalid(message.removeprefix("Invalid request: "))


def _unavailable(message: str) -> ForegateError:
    return ForegateError(ErrorCode.UNAVAILABLE, message)
