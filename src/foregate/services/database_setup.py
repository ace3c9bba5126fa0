"""`foregate database setup`: a PostgreSQL database for this home, made by whoever may make one on its server."""

from __future__ import annotations

from collections.abc import Callable

from foregate.core.errors import invalid
from foregate.database.postgresql.address import parse_address
from foregate.services.home import open_home
from foregate.services.settings import FILE_NAME, PREFIX, Settings
from foregate.services.stores import require_driver


def run(settings: Settings, url: str, say: Callable[[str], None], *, has_new_passwords: bool) -> None:
    """Set up the database at `url`; a line for each thing that was made, and how to use it. Safe to repeat.

    Raises ForegateError: INVALID_INPUT for what is no such URL, UNAVAILABLE where the server refuses.
    """
    try:
        address, admin = parse_address(url, may_have_user=True)
    except ValueError as error:
        raise invalid(f"The database must be {error}.") from None
    require_driver()
    from foregate.database.postgresql.roles import Passwords
    from foregate.database.postgresql.setup import set_up

    home = open_home(settings.home)
    set_up(address, admin, Passwords(home.database), say, has_new_passwords=has_new_passwords)
    if settings.database != address:
        say(f'Use it with {PREFIX}DATABASE={address.url}, or in {home.root / FILE_NAME}: database = "{address.url}"')
