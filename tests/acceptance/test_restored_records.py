"""An older copy of the records is put back: what they do not remember is in force at no edge."""

from __future__ import annotations

import shutil

from harness.origin import Origin
from harness.product import running_foregate
from harness.things import allow, create_app, create_token, until_status

COPY = "records.copy"


def test_token_that_the_restored_records_do_not_know_is_refused(origin: Origin) -> None:
    with running_foregate() as product:
        known = create_token(product.api())
        app = create_app(product, origin.service, [allow()])
        until_status(product, app.host, known, 200)
        product.stop()
        copy = product.home / COPY
        shutil.copy(product.home / "records.db", copy)
        product.start()

        forgotten = create_token(product.api())
        until_status(product, app.host, forgotten, 200)
        product.api().result("PUT", f"/access/service_tokens/{known.id}", {"enabled": False})
        until_status(product, app.host, known, 401)
        product.stop()
        copy.replace(product.home / "records.db")
        product.start()

        until_status(product, app.host, forgotten, 401)
        until_status(product, app.host, known, 200)
        fresh = create_token(product.api())
        until_status(product, app.host, fresh, 200)
