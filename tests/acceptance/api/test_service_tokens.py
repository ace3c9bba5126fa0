"""The life of service tokens, driven with the official Python SDK against the real application."""

from __future__ import annotations

from acceptance.api.control_plane import ControlPlane


def test_created_token_is_found_by_its_id(control_plane: ControlPlane) -> None:
    sdk = control_plane.sdk()
    created = sdk.zero_trust.access.service_tokens.create(account_id=control_plane.account_id, name="ci")
    found = sdk.zero_trust.access.service_tokens.get(created.id, account_id=control_plane.account_id)
    assert found.client_id == created.client_id
