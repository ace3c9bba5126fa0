"""Packing: whole or not at all, bounded, and the same format with and without ISA-L."""

from __future__ import annotations

import subprocess
import sys
import zlib

import pytest

from foregate.eventlog.packing import TooLong, Unpackable, pack, unpack, unpack_known

LINES = b'{"n":1,"t":1790000000.123,"ray":"0123456789abcdef"}\n' * 500


@pytest.mark.parametrize("plain", [b"", b"x", LINES], ids=["nothing", "a byte", "lines"])
def test_what_is_packed_is_unpacked(plain: bytes) -> None:
    packed = pack(plain)

    assert unpack(packed, most_bytes=len(plain) + 1) == plain
    assert unpack_known(packed, len(plain)) == plain


def test_format_is_zlibs() -> None:
    assert zlib.decompress(pack(LINES)) == LINES
    assert unpack(zlib.compress(LINES), most_bytes=1 << 20) == LINES
    assert unpack_known(zlib.compress(LINES), len(LINES)) == LINES


def test_lines_get_small() -> None:
    assert len(pack(LINES)) < len(LINES) / 20


@pytest.mark.parametrize(
    "damaged",
    [b"", b"no stream", pack(LINES)[:-3], pack(LINES) + b"more", pack(LINES)[:-1] + b"\xff"],
    ids=["nothing", "no stream", "cut off", "more after it", "checksum"],
)
def test_damage_is_told(damaged: bytes) -> None:
    with pytest.raises(Unpackable):
        unpack(damaged, most_bytes=1 << 20)


@pytest.mark.parametrize("size_bytes", [0, -3, len(LINES) - 1, len(LINES) + 1, 2**70], ids=str)
def test_size_that_does_not_fit_is_told(size_bytes: int) -> None:
    with pytest.raises(Unpackable):
        unpack_known(pack(LINES), size_bytes)


def test_no_more_is_unpacked_than_allowed() -> None:
    with pytest.raises(TooLong):
        unpack(pack(LINES), most_bytes=len(LINES) - 1)


def test_zlib_serves_where_isa_l_is_not_installed() -> None:
    program = (
        "import sys; sys.modules['isal'] = None\n"
        "from foregate.eventlog.packing import codec, pack, unpack\n"
        "packed = sys.stdin.buffer.read()\n"
        "assert codec.__name__ == 'zlib'\n"
        "sys.stdout.buffer.write(pack(unpack(packed, most_bytes=1 << 20)))"
    )

    done = subprocess.run([sys.executable, "-c", program], input=pack(LINES), capture_output=True, check=True)

    assert unpack(done.stdout, most_bytes=1 << 20) == LINES
