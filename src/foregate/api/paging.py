"""Pages of lists: `page` from 1, `per_page` within bounds, an empty list past the last page.

The official SDKs ask for page after page until they get an empty list, so a list never wraps or errs past its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from foregate.api.parameters import QueryModel

# Cloudflare documents no default for service tokens; an SDK that takes one page only must not lose any.
DEFAULT_PER_PAGE = 1000
# OFFSET grows with the page, so far pages cost; nobody has this many.
MAX_PAGE = 1_000_000


class PageQuery(QueryModel):
    """The two query parameters of a list. Products add their filters in a subclass."""

    page: Annotated[int, Field(ge=1, le=MAX_PAGE, description="Page number, from 1.")] = 1
    per_page: Annotated[int, Field(ge=1, le=1000, description="Items on a page.")] = DEFAULT_PER_PAGE

    @property
    def offset(self) -> int:
        """How many items stand before this page."""
        return (self.page - 1) * self.per_page


@dataclass(frozen=True, slots=True)
class PageInfo:
    """`result_info` of a list. `count` is what this page holds, `total_count` what all pages hold."""

    page: int
    per_page: int
    count: int
    total_count: int
    total_pages: int


def page_info(query: PageQuery, count: int, total_count: int) -> PageInfo:
    """The `result_info` for a page of `count` items out of `total_count`."""
    return PageInfo(query.page, query.per_page, count, total_count, -(-total_count // query.per_page))
