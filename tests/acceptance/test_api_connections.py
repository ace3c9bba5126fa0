"""What the control API holds of a caller whom it does not know yet: little, and what is no HTTP gets its sentence."""

from __future__ import annotations

import pytest

from harness.api import errors_of
from harness.http1 import Connection
from harness.product import Foregate

VERIFY = b"GET /client/v4/user/tokens/verify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n"
CREATE = VERIFY.replace(b"GET /client/v4/user/tokens/verify", b"POST /client/v4/accounts")
ENDLESS: dict[str, bytes] = {
    "one header": VERIFY + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": VERIFY + b"X: a\r\n" * 40_000 + b"\r\n",
    "a first line": b"GET /client/v4/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "trailers": CREATE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 40_000 + b"\r\n",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_head_without_end_is_cut_off(foregate: Foregate, what: str) -> None:
    """Whoever sends it is not known yet, so little of it may be held."""
    sent = ENDLESS[what].replace(b"%s", foregate.admin_token.encode())
    with Connection(foregate.api_port) as connection:
        answer = connection.exchange(sent)
    assert (answer.status, errors_of(answer)) == (431, [10431])
    assert foregate.api().account("GET", "/access/service_tokens").status == 200


def test_head_of_a_common_size_is_read(foregate: Foregate) -> None:
    head = VERIFY.replace(b"%s", foregate.admin_token.encode()) + b"X: " + b"a" * 32_000 + b"\r\n\r\n"
    with Connection(foregate.api_port) as connection:
        assert connection.exchange(head).status == 200


def test_what_is_no_http_gets_the_envelope(foregate: Foregate) -> None:
    with Connection(foregate.api_port) as connection:
        answer = connection.exchange(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    assert (answer.status, errors_of(answer)) == (400, [10400])
