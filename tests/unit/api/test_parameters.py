"""Bodies and query strings against their models: what is not named is refused by name."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from foregate.api.paging import PageInfo, PageQuery, page_info
from foregate.api.parameters import BodyModel, WholeNumber, parse_members, parse_query
from foregate.core.errors import ForegateError


class Inner(BodyModel):
    size: WholeNumber


class Body(BodyModel):
    name: Annotated[str, Field(min_length=1)]
    inner: Inner | None = None
    many: list[Inner] | None = None


class Filter(PageQuery):
    tag: list[str] | None = None
    exact: bool = False


def parse(members: dict[str, Any]) -> Body:
    return parse_members(Body, members, noun="member")


def test_body_is_read_into_its_model() -> None:
    assert parse({"name": "a", "inner": {"size": 1.0}}) == Body(name="a", inner=Inner(size=1))
    assert parse({"name": "a", "inner": None}) == Body(name="a")


@pytest.mark.parametrize(
    ("members", "pointer", "sentence"),
    [
        ({}, "/name", "'name' is required"),
        ({"name": None}, "/name", "valid string"),
        ({"name": ""}, "/name", "at least 1 character"),
        ({"name": 7}, "/name", "valid string"),
        ({"name": "a", "nmae": 1}, "/nmae", "does not know or act on the member 'nmae'"),
        ({"name": "a", "inner": {"size": 1, "x": 1}}, "/inner/x", "'inner.x'"),
        ({"name": "a", "inner": {"size": 1.5}}, "/inner/size", "integer"),
        ({"name": "a", "inner": {"size": True}}, "/inner/size", "integer"),
        ({"name": "a", "inner": []}, "/inner", "'inner' is wrong"),
        ({"name": "a", "many": [{"size": 1}, {"size": "1"}]}, "/many/1/size", "'many.1.size'"),
        ({"name": "a", "a/b~c": 1}, "/a~1b~0c", "leave it out"),
    ],
)
def test_member_at_fault_is_named(members: dict[str, Any], pointer: str, sentence: str) -> None:
    with pytest.raises(ForegateError, match=sentence) as raised:
        parse(members)
    assert raised.value.pointer == pointer


def test_refusal_never_repeats_the_value() -> None:
    for members in ({"name": ["hunter2"]}, {"name": "a", "secret": "hunter2"}, {"name": "a", "inner": "hunter2"}):
        with pytest.raises(ForegateError) as raised:
            parse(members)
        assert "hunter2" not in raised.value.message + raised.value.detail


def test_query_is_read_into_its_model() -> None:
    found = parse_query(Filter, b"page=2&tag=a&tag=b%20c&exact=true")
    assert found == Filter(page=2, tag=["a", "b c"], exact=True)
    assert parse_query(Filter, b"") == Filter()
    assert parse_query(None, b"") is None


@pytest.mark.parametrize(
    "query",
    [b"page=0", b"page=-1", b"page=", b"page=x", b"page=1&page=1", b"pag=1", b"exact=2", b"tag=%00", b"tag=%ff",
     b"tag=\xff", b"tag=" + b"x" * 9000, b"&".join([b"tag=x"] * 101)],
)  # fmt: skip
def test_bad_query_is_refused(query: bytes) -> None:
    with pytest.raises(ForegateError):
        parse_query(Filter, query)


def test_query_where_none_is_taken_is_refused_by_name() -> None:
    with pytest.raises(ForegateError, match="leave out 'page'"):
        parse_query(None, b"page=1")


@pytest.mark.parametrize(("total", "pages"), [(0, 0), (1, 1), (10, 1), (11, 2)])
def test_pages_are_counted_up(total: int, pages: int) -> None:
    query = PageQuery(page=2, per_page=10)
    assert query.offset == 10
    assert page_info(query, 0, total) == PageInfo(2, 10, 0, total, pages)
