"""What an operation takes: base classes of bodies and query strings, and how a bad one is told to the caller.

Bodies and queries are pydantic models, so that one description both parses the input and stands in the OpenAPI
document. A member or parameter that is not named in the model is refused by name: never taken and ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from foregate.core.errors import ForegateError, invalid

M = TypeVar("M", bound=BaseModel)
_QUERY_LIMIT_BYTES = 8192


class BodyModel(BaseModel):
    """A JSON object in a request. Strict types; a member not declared is refused. Null means left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class QueryModel(BaseModel):
    """The query string of a request. Numbers and booleans are read from text; an undeclared name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole)]
"""An integer that may also be written 1.0, as programs do that know only one kind of number."""


def parse_members(model: type[M], members: dict[str, Any], *, noun: str, base: str = "") -> M:
    """`members` as a `model`. Raises ForegateError(INVALID_INPUT) for the first member at fault, without its value.

    `noun` is what the sentence calls a member: `member` or `parameter`. `base` goes before the pointer.
    """
    try:
        return model.model_validate(members)
    except ValidationError as error:
        raise _sentence(error, noun, base) from None


def parse_query(model: type[M] | None, raw: bytes) -> M | None:
    """The query string as a `model`. Each parameter may be given once, unless its field is a list."""
    if model is None or not raw:
        if raw:
            name = raw.split(b"=", 1)[0].split(b"&", 1)[0].decode("latin-1")[:64]
            raise invalid(f"This call takes no query parameter; leave out {name!r}.", pointer=f"?{name}")
        return None if model is None else model.model_construct()
    if len(raw) > _QUERY_LIMIT_BYTES:
        raise invalid("The query string is longer than 8192 bytes.")
    return parse_members(model, _pairs(model, raw), noun="parameter", base="?")


def _pairs(model: type[M], raw: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise invalid("The query string is not percent-encoded UTF-8 with at most 100 parameters.") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if "\x00" in value or "\x00" in name:
            raise invalid("The query string holds a NUL byte.", pointer="?")
        field = model.model_fields.get(name)
        if field is not None and _is_list(field.annotation):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise invalid(f"Give the parameter {name!r} once.", pointer=f"?{name}")
        else:
            found[name] = value
    return found


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(get_origin(kind) is list for kind in get_args(annotation))


def _sentence(error: ValidationError, noun: str, base: str) -> ForegateError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    names = [str(part) for part in first["loc"]]
    path = "/".join(part.replace("~", "~0").replace("/", "~1") for part in names)
    pointer = f"{base}{path}" if base else f"/{path}"
    shown = ".".join(names)[:128]
    match first["type"]:
        case "extra_forbidden":
            text = f"Foregate does not know or act on the {noun} {shown!r}; leave it out."
        case "missing":
            text = f"The {noun} {shown!r} is required."
        case "model_type" | "dict_type" if not names:
            text = "The body must be a JSON object."
        case _:
            text = f"The {noun} {shown!r} is wrong: {_clause(first['msg'])}."
    return invalid(text, pointer=pointer if names else None)


def _clause(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
