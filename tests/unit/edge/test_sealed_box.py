"""Boxes open for the holder of the private key, for the purpose they were sealed for, and for nobody and nothing
else."""

from __future__ import annotations

import pytest

from foregate.edge.sealed_box import is_public_key, new_private_key, open_box, public_key_of, seal_to
from foregate.edge.sealing import SealBroken

KEY = new_private_key()
BOX = seal_to(public_key_of(KEY), b"plain", b"purpose")
# RFC 7748: points of small order, with which every exchange gives zero.
SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


def test_box_opens_for_its_holder() -> None:
    assert open_box(KEY, BOX, b"purpose") == b"plain"


def test_two_boxes_of_the_same_differ() -> None:
    assert seal_to(public_key_of(KEY), b"plain", b"purpose") != BOX


@pytest.mark.parametrize(
    ("key", "box", "purpose"),
    [
        pytest.param(new_private_key(), BOX, b"purpose", id="another key"),
        pytest.param(KEY, BOX, b"another purpose", id="another purpose"),
        pytest.param(KEY, b"\x02" + BOX[1:], b"purpose", id="another version"),
        pytest.param(KEY, BOX[:-1], b"purpose", id="cut off"),
        pytest.param(KEY, b"", b"purpose", id="empty"),
        pytest.param(KEY, BOX[:20], b"purpose", id="no whole key"),
        pytest.param(KEY, BOX[:1] + bytes(32) + BOX[33:], b"purpose", id="a key of small order"),
    ],
)
def test_box_opens_for_nobody_and_nothing_else(key: bytes, box: bytes, purpose: bytes) -> None:
    with pytest.raises(SealBroken):
        open_box(key, box, purpose)


@pytest.mark.parametrize("place", range(len(BOX)))
def test_damaged_box_does_not_open(place: int) -> None:
    damaged = bytearray(BOX)
    damaged[place] ^= 1
    with pytest.raises(SealBroken):
        open_box(KEY, bytes(damaged), b"purpose")


@pytest.mark.parametrize("key", [*SMALL_ORDER, b"", bytes(31), bytes(33)], ids=lambda key: key.hex()[:8] or "empty")
def test_key_that_gives_everybody_the_same_secret_is_none(key: bytes) -> None:
    assert not is_public_key(key)
    with pytest.raises(ValueError):
        seal_to(key, b"plain", b"purpose")
