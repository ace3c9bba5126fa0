"""A new pepper takes over secret by secret: what was issued before goes on, what comes after has the new one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from harness.origin import Origin
from harness.processes import kill
from harness.product import Foregate, running_foregate
from harness.things import Masked, allow, create_app, create_token, until_status
from harness.waiting import until

SECONDS = 20


@pytest.fixture
def product() -> Iterator[Foregate]:
    with running_foregate() as started:
        yield started


def peppers(product: Foregate) -> list[tuple[int, bool, int]]:
    found: list[dict[str, Any]] = json.loads(product.run("keys", "peppers", "--json").stdout)
    return [(one["version"], one["is_current"], one["live_secrets"]) for one in found]


def doctor(product: Foregate) -> dict[str, Any]:
    findings = json.loads(product.run("doctor", "--json").stdout)
    found: dict[str, Any] = next(finding for finding in findings if finding["check"] == "peppers")
    return found


def test_new_pepper_is_for_new_secrets_and_refuses_no_old_one(product: Foregate, origin: Origin) -> None:
    api = product.api()
    before = create_token(api)
    app = create_app(product, origin.service, [allow()])
    until_status(product, app.host, before, 200)
    assert peppers(product) == [(1, True, 2)]
    saved = (product.home / "master.key").read_bytes()

    assert product.run("keys", "add-pepper").returncode == 0
    assert peppers(product) == [(1, False, 2), (2, True, 0)]
    assert create_token(api).id  # the API that runs does not know it yet
    assert peppers(product) == [(1, False, 3), (2, True, 0)]

    # The control API alone is started again: nobody who calls is to notice.
    answers: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.01):
            answers.append(product.get(app.host, "/", before.headers).status)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        (process,) = product.processes("api")
        kill(process)
        until(lambda: product.run("token", "list").returncode == 0, SECONDS, "the API is back")
        after = create_token(api)
        until_status(product, app.host, after, 200)
        assert peppers(product) == [(1, False, 3), (2, True, 1)]
        rotated = api.result("POST", f"/access/service_tokens/{before.id}/rotate", {})
        until_status(product, app.host, before.with_secret(Masked(rotated["client_secret"])), 200)
        assert peppers(product) == [(1, False, 2), (2, True, 2)]
    finally:
        is_over.set()
        asking.join()
    # The rotation without an overlap ends the old secret, and nothing else did.
    refused = answers.index(401) if 401 in answers else len(answers)
    assert set(answers[:refused]) == {200}
    assert set(answers[refused:]) <= {401}
    assert doctor(product)["good"] is True

    # A copy from before the new pepper would refuse half of the tokens: the doctor knows it.
    (product.home / "master.key").write_bytes(saved)
    assert "2 live secrets are under 2" in doctor(product)["found"]


def test_pepper_is_added_to_no_damaged_key(product: Foregate) -> None:
    product.stop()
    (product.home / "master.key").write_bytes(b"damaged")
    done = product.run("keys", "add-pepper")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert (product.home / "master.key").read_bytes() == b"damaged"
