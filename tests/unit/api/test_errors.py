"""One table from error to answer: total, and without the statuses that clients repeat."""

from __future__ import annotations

import pytest

from foregate.api import errors
from foregate.api.errors import STATUS, Family, Problem, problem_of
from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.secrets import SERVICE_TOKEN_PREFIX, new_secret

RETRIED = {408, 409, 429}
PROBLEMS = [value for value in vars(errors).values() if isinstance(value, Problem)]


@pytest.mark.parametrize("code", ErrorCode)
@pytest.mark.parametrize("family", Family)
def test_every_error_has_a_status_and_a_number(code: ErrorCode, family: Family) -> None:
    problem = problem_of(ForegateError(code, "Say what to do."), family)
    assert 400 <= problem.status < 600
    assert problem.number >= 1000
    assert problem.message.endswith("Say what to do.")


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - {ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL}))
def test_no_permanent_refusal_has_a_status_that_clients_repeat(code: ErrorCode) -> None:
    assert STATUS[code] < 500
    assert STATUS[code] not in RETRIED


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.number))
def test_refusals_of_the_dispatcher_are_whole(problem: Problem) -> None:
    assert PROBLEMS
    assert 400 <= problem.status < 500
    assert problem.status not in RETRIED
    assert problem.item()["code"] == problem.number


@pytest.mark.parametrize(
    ("code", "family", "status", "number", "name"),
    [
        (ErrorCode.INVALID_INPUT, Family.SERVICE_TOKEN, 400, 12130, "access.api.error.invalid_request"),
        (ErrorCode.UNSUPPORTED, Family.APPLICATION, 400, 12130, "access.api.error.invalid_request"),
        (ErrorCode.NOT_FOUND, Family.SERVICE_TOKEN, 404, 12135, "access.api.error.service_token_not_found"),
        (ErrorCode.NOT_FOUND, Family.POLICY, 404, 12135, "access.api.error.not_found"),
        (ErrorCode.IN_USE, Family.SERVICE_TOKEN, 400, 12139, "access.api.error.service_token_in_use"),
        (ErrorCode.INVALID_INPUT, Family.ORGANIZATION, 400, 12062, "access.api.error.invalid_org_config"),
        (ErrorCode.ALREADY_EXISTS, Family.APPLICATION, 400, 11010, "access.api.error.application_already_exists"),
        (ErrorCode.UNAUTHENTICATED, Family.SERVICE_TOKEN, 401, 10000, "Authentication error"),
        (ErrorCode.FORBIDDEN, Family.GENERAL, 403, 9109, "Unauthorized"),
    ],
)
def test_numbers_are_cloudflares(code: ErrorCode, family: Family, status: int, number: int, name: str) -> None:
    problem = problem_of(ForegateError(code, "x"), family)
    assert (problem.status, problem.number) == (status, number)
    assert problem.message.startswith(name)


def test_inner_detail_stays_behind() -> None:
    error = ForegateError(ErrorCode.INTERNAL, "Look into the log.", detail="row 7 is torn", pointer="/name")
    assert "row 7" not in str(problem_of(error).item())
    assert problem_of(error).item()["source"] == {"pointer": "/name"}


def test_secret_in_the_place_of_a_name_is_masked() -> None:
    secret = new_secret(SERVICE_TOKEN_PREFIX).reveal()
    error = invalid(f"Foregate does not know the member {secret!r}.", pointer=f"/{secret}/x")
    item = problem_of(error).item()
    assert secret not in str(item)
    assert item["source"] == {"pointer": "/****/x"}
