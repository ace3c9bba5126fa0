"""Members that clients send by default and that mean nothing here: only their neutral value passes.

Cloudflare's objects have many members for people's logins (launcher, cookies, approvals). Clients send some of them
with every write. Their neutral value asks for nothing, so it is taken and given back; any other value asks for
something that Foregate does not do and is refused by name, never stored and ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, WithJsonSchema

from foregate.core.errors import invalid

_TEXT = "Known to Cloudflare, without effect here: only its neutral value passes."


def kept_values(body: BaseModel, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the neutral members `names` that say something (a flag), to be given back as they came."""
    given = {name: getattr(body, name) for name in names}
    return {name: value for name, value in given.items() if not is_empty(value)}


def is_empty(value: Any) -> bool:
    """Null, "", [], {} and objects of nothing but such (Go's zero values)."""
    match value:
        case None | "":
            return True
        case list():
            return not value
        case dict():
            return all(is_empty(member) for member in value.values())
        case _:
            return False


def only(*values: bool | int | str) -> Callable[[Any], Any]:
    """A validator that lets empty values and `values` through."""

    def check(value: Any) -> Any:
        if is_empty(value) or any(type(value) is type(one) and value == one for one in values):
            return value
        shown = " or ".join(str(one).lower() if isinstance(one, bool) else repr(one) for one in values)
        raise ValueError(f"Foregate does not act on it, so leave it out{f' or set it to {shown}' if values else ''}")

    return check


def _schema(*values: bool | int | str) -> WithJsonSchema:
    return WithJsonSchema({"description": _TEXT, "enum": [None, "", [], {}, *values]})


OnlyEmpty = Annotated[Any, BeforeValidator(only()), _schema()]
OnlyFalse = Annotated[Any, BeforeValidator(only(False)), _schema(False)]
OnlyTrue = Annotated[Any, BeforeValidator(only(True)), _schema(True)]
OnlyZero = Annotated[Any, BeforeValidator(only(0)), _schema(0)]
OnlyPublic = Annotated[Any, BeforeValidator(only("public")), _schema("public")]

ReadOnly = Annotated[
    Any,
    WithJsonSchema({"description": "Read-only: taken so that an answer may be sent back, and not looked at."}),
]
"""A member of answers that a client may send back; it cannot be changed."""

OwnValue = Annotated[
    Any,
    WithJsonSchema({"description": "Foregate's to choose: left out, or as it is. Another value is refused."}),
]
"""What says which thing is meant (`id`, `aud`); `require_own` looks at it."""


def require_own(name: str, given: Any, present: str) -> None:
    """Raises ForegateError(INVALID_INPUT) where `given` is neither empty nor `present` (empty: not there yet).

    A thing that was read and is written in another's place is a mistake, whatever else is in it.
    """
    if given not in (None, "", present):
        raise invalid(f"{name!r} is Foregate's to choose and never changes; leave it out.", pointer=f"/{name}")
