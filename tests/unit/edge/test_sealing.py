"""Sealed bytes open under their own key and purpose, and under nothing else."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foregate.edge.sealing import SealBroken, seal, seal_signing_key, unseal, unseal_signing_key

KEY = bytes(range(32))


@given(plain=st.binary(max_size=200), aad=st.binary(max_size=40))
def test_sealed_bytes_open_again(plain: bytes, aad: bytes) -> None:
    assert unseal(KEY, seal(KEY, plain, aad), aad) == plain


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_changed_bit_breaks_the_seal(position: int, bit: int) -> None:
    sealed = bytearray(seal(KEY, b"twelve bytes", b"a"))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(SealBroken):
        unseal(KEY, bytes(sealed), b"a")


@given(junk=st.binary(max_size=64))
def test_junk_is_refused_without_another_error(junk: bytes) -> None:
    with pytest.raises(SealBroken):
        unseal(KEY, junk, b"a")


def test_another_key_or_purpose_does_not_open_it() -> None:
    sealed = seal(KEY, b"plain", b"a")
    with pytest.raises(SealBroken):
        unseal(os.urandom(32), sealed, b"a")
    with pytest.raises(SealBroken):
        unseal(KEY, sealed, b"b")


def test_a_signing_key_is_bound_to_its_kid() -> None:
    sealed = seal_signing_key(KEY, "kid-1", "PEM")
    assert unseal_signing_key(KEY, "kid-1", sealed) == "PEM"
    with pytest.raises(SealBroken):
        unseal_signing_key(KEY, "kid-2", sealed)
    with pytest.raises(SealBroken):
        unseal_signing_key(KEY, "kid-1", "not base64!")
