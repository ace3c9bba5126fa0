"""Changes that an owner makes while things go wrong, and that every edge must follow (invariants 1 to 4 of
docs/operations/chaos.md)."""

from __future__ import annotations

import random
from collections.abc import Callable

from harness.fleet import TOKENS, Edge, Fleet
from harness.things import allow, create_token, unique


def revoke(fleet: Fleet) -> None:
    """A token comes and a token goes."""
    api = fleet.foregate.api()
    token = create_token(api)
    fleet.until_status(token, 200)
    api.result("DELETE", f"{TOKENS}/{token.id}")
    fleet.until_status(token, 401)
    fleet.is_bad_now(unique("revoked"), token)


def disable(fleet: Fleet) -> None:
    """A token is switched off, on and off again."""
    api = fleet.foregate.api()
    token = create_token(api)
    fleet.until_status(token, 200)
    for is_enabled in (False, True, False):
        api.result("PUT", f"{TOKENS}/{token.id}", {"enabled": is_enabled})
        fleet.until_status(token, 200 if is_enabled else 401)
    fleet.is_bad_now(unique("disabled"), token)


def rotate(fleet: Fleet) -> None:
    """A token gets another secret: the old one ends, the new one works."""
    api = fleet.foregate.api()
    token = create_token(api)
    fleet.until_status(token, 200)
    secret = api.result("POST", f"{TOKENS}/{token.id}/rotate", {})["client_secret"]
    renewed = token.with_secret(secret)
    fleet.until_status(renewed, 200)
    fleet.until_status(token, 401)
    fleet.is_bad_now(unique("rotated"), token)
    fleet.is_good_now(renewed, 2)


def change_policy(fleet: Fleet) -> None:
    """An application is open to one token, then to another."""
    api = fleet.foregate.api()
    before, after = fleet.chosen, create_token(api)
    app = fleet.chosen_app
    fleet.until_status(before, 200, host=app.host)
    fleet.until_status(after, 403, host=app.host)
    body = {"type": "self_hosted", "name": app.host, "domain": app.host, "policies": [allow(after)]}
    api.result("PUT", f"/access/apps/{app.id}", body)
    fleet.until_status(after, 200, host=app.host)
    fleet.until_status(before, 403, host=app.host)
    fleet.chosen = after


CHANGES: tuple[Callable[[Fleet], None], ...] = (revoke, disable, rotate, change_policy)


def change_something(fleet: Fleet, chance: random.Random) -> str:
    """One of them; its name."""
    change = chance.choice(CHANGES)
    change(fleet)
    return change.__name__


def revoke_meanwhile(fleet: Fleet, unstruck: list[Edge]) -> Callable[[], None]:
    """A token goes while something is struck: those edges follow at once. To be called once all is well: the others
    follow too."""
    api = fleet.foregate.api()
    token = create_token(api)
    fleet.until_status(token, 200, edges=unstruck)
    api.result("DELETE", f"{TOKENS}/{token.id}")
    fleet.until_status(token, 401, edges=unstruck)

    def seen_by_all() -> None:
        fleet.until_status(token, 401)
        fleet.is_bad_now(unique("revoked meanwhile"), token)

    return seen_by_all
