"""TLS of the feed port, at both ends: version 1.3 alone, one CA that is trusted, no session that outlives an expulsion.

A key never lies in a file for this: OpenSSL reads it from memory of the process.
"""

from __future__ import annotations

import os
import ssl

# Neither resumption nor early data: each connection shows the certificate anew.
_SESSION_TICKETS = 0


def server_context(authority_pem: str, identity_pem: bytes) -> ssl.SSLContext:
    """For the control plane. A client may come without a certificate, to join; what it may do then is the gate's word.

    `identity_pem`: private key and certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = _SESSION_TICKETS
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority_pem)
    show(context, identity_pem)
    return context


def client_context(authority_pem: str, identity_pem: bytes = b"") -> ssl.SSLContext:
    """For an edge. It trusts that CA and nobody else; the name to ask for is `feed_authority.SERVER_NAME`.

    `identity_pem`: private key and certificate; empty while it has none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority_pem)
    if identity_pem:
        show(context, identity_pem)
    return context


def blind_context() -> ssl.SSLContext:
    """For the one question that comes before there is anybody to trust: which CA is yours? Send nothing else by it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def show(context: ssl.SSLContext, identity_pem: bytes) -> None:
    """Have connections to come show this private key and certificate; those that are open stay as they are."""
    descriptor = os.memfd_create("foregate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(identity_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
