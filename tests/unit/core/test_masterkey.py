"""The master key file: made once, never overwritten, never shown."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import MasterKey, derive, encode, load, load_or_create, write_private


def test_first_start_makes_a_private_file_and_later_ones_read_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "master.key"

    made = load_or_create(path)

    assert load_or_create(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.roots[made.current]) == 32


def test_two_homes_have_different_keys(tmp_path: Path) -> None:
    assert load_or_create(tmp_path / "one") != load_or_create(tmp_path / "two")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"v": 1, "current": 2, "roots": {"1": "' + b"A" * 43 + b'="}}',
        b'{"v": 1, "current": 1, "roots": {"1": "AAAA"}}',
        b'{"v": 1, "current": 1, "roots": {"1": ""}}',
        b'{"v": 1, "current": 1, "roots": {"1": "****"}}',
        b'{"v": 1, "current": 1, "roots": {"x": "' + b"A" * 43 + b'="}}',
        b'{"v": 1, "current": 1, "roots": ["' + b"A" * 43 + b'="]}',
        b'{"v": 1, "current": 1, "roots": {"1": 7}}',
    ],
)
def test_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    write_private(path, content)

    with pytest.raises(ForegateError, match="damaged") as caught:
        load_or_create(path)

    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert path.read_bytes() == content


def test_missing_file_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ForegateError, match="missing"):
        load(tmp_path / "master.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_file_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    load_or_create(path)
    path.chmod(mode)

    with pytest.raises(ForegateError, match="chmod 600"):
        load(path)


def test_key_is_not_printed() -> None:
    key = MasterKey({1: b"\x01" * 32}, 1)

    assert "x01" not in repr(key)


def test_each_purpose_has_its_own_key() -> None:
    key = MasterKey({1: b"r" * 32, 2: b"s" * 32}, 2)
    derived = [
        key.pepper(1),
        key.pepper(2),
        key.record_mac_key(),
        key.key_encryption_key(),
        key.edge_sealing_key(),
        key.api_token_key(),
    ]

    assert len(set(derived)) == len(derived)
    assert all(len(value) == 32 for value in derived)
    assert key.peppers() == {1: key.pepper(1), 2: key.pepper(2)}


def test_new_root_changes_the_pepper_of_new_secrets_and_nothing_else() -> None:
    before = MasterKey({1: b"r" * 32}, 1)
    after = MasterKey({1: b"r" * 32, 2: b"s" * 32}, 2)

    assert after.pepper(1) == before.pepper(1)
    assert after.record_mac_key() == before.record_mac_key()
    assert after.key_encryption_key() == before.key_encryption_key()
    assert after.edge_sealing_key() == before.edge_sealing_key()
    assert after.api_token_key() == before.api_token_key()


def test_derivation_is_hkdf_sha256() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    root = bytes(range(32))

    assert derive(root, "pepper") == HKDF(SHA256(), 32, b"foregate", b"pepper").derive(root)


def test_unknown_pepper_is_an_error() -> None:
    with pytest.raises(KeyError):
        MasterKey({1: b"r" * 32}, 1).pepper(2)


def test_file_form_is_stable() -> None:
    text = encode(MasterKey({2: b"\x00" * 32, 1: b"\xff" * 32}, 2))

    assert json.loads(text) == {
        "v": 1,
        "current": 2,
        "roots": {"1": "/////////////////////////////////////////" + "/8=", "2": "A" * 43 + "="},
    }


def test_private_write_replaces_the_whole_file_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"long content")
    write_private(path, b"short")

    assert path.read_bytes() == b"short"
    assert os.listdir(tmp_path) == ["file"]


def test_failed_private_write_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")

    with pytest.raises(TypeError):
        write_private(path, "no bytes")  # type: ignore[arg-type]

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
