"""The closed list of reasons."""

from __future__ import annotations

import pytest

from foregate.core.decision import MEANINGS, Decision, Outcome, Reason


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_only_what_is_refused_has_a_status_of_its_own(reason: Reason) -> None:
    meaning = MEANINGS[reason]

    assert (meaning.status is not None) is (meaning.outcome is Outcome.REFUSED)
    assert Decision(reason, meaning.status).is_allowed is (meaning.outcome is Outcome.ALLOWED)


def test_what_cannot_authenticate_is_401_and_what_may_not_pass_is_403() -> None:
    by_status = {status: {r for r, m in MEANINGS.items() if m.status == status} for status in (401, 403)}

    assert by_status[401] == {
        Reason.CREDENTIALS_MALFORMED,
        Reason.TOKEN_UNKNOWN,
        Reason.SECRET_MISMATCH,
        Reason.SECRET_SUPERSEDED,
        Reason.TOKEN_DISABLED,
        Reason.TOKEN_EXPIRED,
    }
    assert by_status[403] == {
        Reason.NO_APPLICATION,
        Reason.NO_CREDENTIALS,
        Reason.POLICY_DENIED,
        Reason.NO_POLICY_MATCHED,
    }
